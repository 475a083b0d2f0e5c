"""Triton, its agents and its readers."""

from __future__ import annotations

from panels import G, Panel, per_pod, per_request, quantile, rate

_USED = 'max by (pod, container) (container_memory_working_set_bytes{pod=~"wetread-.*", container!=""})'
_LIMIT = 'max by (pod, container) (kube_pod_container_resource_limits{resource="memory", pod=~"wetread-.*"})'
_MEMORY = f"{_USED} / {_LIMIT}"

SERVING = (
    Panel(
        "Requests",
        "By model; an ensemble's steps count by themselves.",
        "reqps",
        (("{{model}}", rate("nv_inference_request_success", "model")),),
    ),
    Panel(
        "Failures",
        "By model and reason.",
        "reqps",
        (("{{model}} {{reason}}", f"{rate('nv_inference_request_failure', 'model, reason')} > 0"),),
    ),
    Panel("Time of a request", "By model, queue and all.", "ms", (("{{model}}", per_request("request")),)),
    Panel("Time in the queue", "By model.", "ms", (("{{model}}", per_request("queue")),)),
    Panel("Time that is computed", "By model.", "ms", (("{{model}}", per_request("compute_infer")),)),
    Panel(
        "Queue over compute",
        "What the autoscaler goes by.",
        "short",
        (
            (
                "{{pod}}",
                f"{per_pod('nv_inference_queue_duration_us')} / {per_pod('nv_inference_compute_infer_duration_us')}",
            ),
        ),
    ),
    Panel("Pending requests", "By pod.", "short", (("{{pod}}", "sum by (pod) (nv_inference_pending_request_count)"),)),
    Panel(
        "Films in a batch",
        "By model.",
        "short",
        (("{{model}}", f"{rate('nv_inference_count', 'model')} / {rate('nv_inference_exec_count', 'model')}"),),
    ),
    Panel(
        "Time of the gateway's stages",
        "The 95th percentile.",
        "s",
        (("{{stage}}", quantile(0.95, f"{G}_stage_seconds", "stage")),),
    ),
    Panel(
        "Dead stubs and healings",
        "By model; healings of an hour.",
        "short",
        (
            ("dead {{model}}", "sum by (model) (wetread_agent_dead_stubs)"),
            ("healed {{model}}", "sum by (model) (increase(wetread_agent_heals_total[1h]))"),
        ),
    ),
    Panel(
        "Releases served",
        "By pipeline and arm; more than one line is a promotion under way.",
        "short",
        (("{{pipeline}} {{arm}} {{pod}}", "wetread_agent_release"),),
    ),
    Panel(
        "Settled",
        "Pods that serve what is wanted.",
        "short",
        (("{{pipeline}}", "sum by (pipeline) (wetread_agent_settled)"),),
    ),
    Panel(
        "Readers",
        "Works under way, leases lost in an hour.",
        "short",
        (
            ("under way {{pod}}", "wetread_reader_under_way"),
            ("lost {{pod}}", "increase(wetread_reader_leases_lost_total[1h])"),
        ),
    ),
    Panel(
        "Readers cut off or paused",
        "Seconds since the worklist answered; pipelines paused.",
        "short",
        (
            ("silent {{pod}}", "time() - wetread_reader_last_lease_seconds"),
            ("paused {{pipeline}} {{pod}}", "wetread_reader_paused > 0"),
        ),
    ),
    Panel(
        "Memory of the containers",
        "Of their limit, as the kubelet counts.",
        "percentunit",
        (
            (
                "{{pod}} {{container}}",
                _MEMORY,
            ),
        ),
        0.85,
    ),
    Panel(
        "Candidates in shadow",
        "Films, by outcome.",
        "reqps",
        (("{{outcome}}", rate("wetread_gateway_shadows_total", "outcome")),),
    ),
)
