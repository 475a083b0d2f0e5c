"""Every overlay keeps every policy, and every policy notices a manifest that was broken on purpose."""
# ruff: noqa: E501 -- a mutation is a line of a table

from __future__ import annotations

from typing import TYPE_CHECKING

import pod_policies as on_pods
import pytest
import wiring_policies as wiring
from manifests import EVERY, Document, Documents, Pod, named, pods, rendered

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow  # kubectl renders every overlay

POLICIES = (*on_pods.ALL, *wiring.ALL)


def triton(documents: Documents) -> Pod:
    return next(pod for pod in pods(documents) if pod.owner["metadata"]["name"] == "wetread-triton")


def intake(documents: Documents) -> Pod:
    return next(pod for pod in pods(documents) if pod.owner["metadata"]["name"] == "wetread-intake")


def sidecar(documents: Documents, name: str) -> Document:
    return triton(documents).container(name)


def get(documents: Documents, kind: str, name: str) -> Document:
    found = named(documents, kind, name)
    assert found is not None
    return found


def put(place: Document, path: str, value: object) -> None:
    """Set what stands at a dotted path; numbers are places in a list."""
    *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    for part in parents:
        place = place[part]
    place[last] = value


def take(place: Document, path: str) -> None:
    *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    for part in parents:
        place = place[part]
    del place[last]


# policy, overlay, what is wrong, how it is made wrong
MUTATIONS: list[tuple[object, str, str, Callable[[Documents], object]]] = [
    (on_pods.runs_as_a_user, "hospital", "root", lambda d: put(triton(d).spec, "securityContext.runAsUser", 0)),
    (on_pods.runs_as_a_user, "hospital", "root allowed", lambda d: take(intake(d).spec, "securityContext.runAsNonRoot")),
    (on_pods.runs_as_a_user, "hospital", "one as root", lambda d: put(sidecar(d, "agent"), "securityContext.runAsUser", 0)),
    (on_pods.has_a_read_only_root, "edge", "writable", lambda d: take(sidecar(d, "rollout"), "securityContext.readOnlyRootFilesystem")),
    (on_pods.filters_system_calls, "edge", "no seccomp", lambda d: take(triton(d).spec, "securityContext.seccompProfile")),
    (on_pods.filters_system_calls, "edge", "one unconfined", lambda d: put(sidecar(d, "triton"), "securityContext.seccompProfile", {"type": "Unconfined"})),
    (on_pods.has_no_privileges, "hospital", "escalation", lambda d: put(sidecar(d, "reader"), "securityContext.allowPrivilegeEscalation", True)),
    (on_pods.has_no_privileges, "hospital", "a capability", lambda d: put(sidecar(d, "triton"), "securityContext.capabilities.add", ["SYS_NICE"])),
    (on_pods.has_no_privileges, "hospital", "none dropped", lambda d: take(sidecar(d, "triton"), "securityContext.capabilities")),
    (on_pods.stays_off_the_host, "hospital", "host network", lambda d: put(intake(d).spec, "hostNetwork", True)),
    (on_pods.stays_off_the_host, "hospital", "host path", lambda d: put(intake(d).spec, "volumes.0", {"name": "tmp", "hostPath": {"path": "/tmp"}})),
    (on_pods.is_bounded, "hospital", "no limit of memory", lambda d: take(sidecar(d, "triton"), "resources.limits.memory")),
    (on_pods.is_bounded, "hospital", "no request of a disk", lambda d: take(sidecar(d, "agent"), "resources.requests.ephemeral-storage")),
    (on_pods.is_bounded, "hospital", "endless /dev/shm", lambda d: take(triton(d).spec["volumes"][1], "emptyDir.sizeLimit")),
    (on_pods.has_memory_for_its_memory_volumes, "edge", "a large /dev/shm", lambda d: put(triton(d).spec["volumes"][0], "emptyDir.sizeLimit", "3Gi")),
    (on_pods.is_probed, "single-node", "no liveness of Triton", lambda d: take(sidecar(d, "triton"), "livenessProbe")),
    (on_pods.is_probed, "single-node", "no readiness of the reader", lambda d: take(sidecar(d, "reader"), "readinessProbe")),
    (on_pods.is_pinned, "hospital", "latest", lambda d: put(sidecar(d, "triton"), "image", "wetread/triton:latest")),
    (on_pods.is_pinned, "hospital", "no tag", lambda d: put(sidecar(d, "triton"), "image", "wetread/triton")),
    (on_pods.is_pinned, "hospital", "a port for a tag", lambda d: put(sidecar(d, "triton"), "image", "registry:5000/triton")),
    (on_pods.has_no_token, "hospital", "a token", lambda d: put(triton(d).spec, "automountServiceAccountToken", True)),
    (on_pods.has_no_token, "hospital", "the default account", lambda d: take(intake(d).spec, "serviceAccountName")),
    (on_pods.has_no_token, "hospital", "an account's token", lambda d: take(get(d, "ServiceAccount", "wetread-triton"), "automountServiceAccountToken")),
    (on_pods.starts_in_order, "hospital", "Triton before the agent", lambda d: triton(d).spec["initContainers"].reverse()),
    (on_pods.starts_in_order, "hospital", "an agent that ends", lambda d: take(sidecar(d, "agent"), "restartPolicy")),
    (on_pods.has_time_to_drain, "hospital", "killed while it reads", lambda d: put(triton(d).spec, "terminationGracePeriodSeconds", 60)),
    (on_pods.has_time_to_drain, "hospital", "killed while it takes", lambda d: put(intake(d).spec, "terminationGracePeriodSeconds", 60)),
    (on_pods.is_spread, "hospital", "all in one zone", lambda d: take(intake(d).spec, "topologySpreadConstraints")),
    (on_pods.is_spread, "hospital", "all on one machine", lambda d: take(triton(d).spec, "affinity")),
    (wiring.disruption_is_possible, "hospital", "none may be away", lambda d: put(get(d, "PodDisruptionBudget", "wetread-triton"), "spec.minAvailable", 2)),
    (wiring.disruption_is_possible, "hospital", "all must be there", lambda d: put(get(d, "PodDisruptionBudget", "wetread-triton"), "spec.minAvailable", "60%")),
    (wiring.disruption_is_possible, "hospital", "the scaler's least", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.minReplicas", 1)),
    (wiring.disruption_is_possible, "edge", "the one is held", lambda d: put(get(d, "PodDisruptionBudget", "wetread-triton"), "spec", {"minAvailable": 1, "selector": get(d, "PodDisruptionBudget", "wetread-triton")["spec"]["selector"]})),
    (wiring.disruption_is_possible, "hospital", "no budget", lambda d: d.remove(get(d, "PodDisruptionBudget", "wetread-intake"))),
    (wiring.scalers_own_the_number, "hospital", "two owners", lambda d: put(triton(d).owner, "spec.replicas", 2)),
    (wiring.scalers_own_the_number, "single-node", "no owner", lambda d: take(triton(d).owner, "spec.replicas")),
    (wiring.scalers_own_the_number, "hospital", "no target", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.scaleTargetRef.name", "triton")),
    (wiring.scalers_own_the_number, "with KEDA", "no target of KEDA's", lambda d: put(get(d, "ScaledObject", "wetread-triton"), "spec.scaleTargetRef.name", "triton")),
    (wiring.scalers_own_the_number, "hospital", "a spool is scaled", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.scaleTargetRef", {"kind": "StatefulSet", "name": "wetread-intake"})),
    (wiring.scalers_metrics_exist, "hospital", "an unknown metric", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.metrics.1.pods.metric.name", "queue")),
    (wiring.scalers_metrics_exist, "hospital", "a metric of another kind", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.metrics.1.pods.metric.name", "wetread_works_waiting")),
    (wiring.scalers_metrics_exist, "hospital", "no rules", lambda d: d.remove(get(d, "ConfigMap", "wetread-adapter-rules"))),
    (wiring.scalers_metrics_exist, "hospital", "no such container", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.metrics.0.containerResource.container", "server")),
    (wiring.scalers_metrics_exist, "hospital", "a container that ends", lambda d: put(get(d, "HorizontalPodAutoscaler", "wetread-triton"), "spec.metrics.0.containerResource.container", "prepare")),
    (wiring.ports_exist, "hospital", "a probe's name", lambda d: put(sidecar(d, "triton"), "readinessProbe.httpGet.port", "https")),
    (wiring.ports_exist, "hospital", "a neighbour's name", lambda d: put(sidecar(d, "triton"), "livenessProbe.httpGet.port", "health")),
    (wiring.ports_exist, "hospital", "a probe's number", lambda d: put(sidecar(d, "triton"), "livenessProbe.httpGet.port", 8099)),
    (wiring.ports_exist, "hospital", "a Service's port", lambda d: put(get(d, "Service", "wetread-gateway"), "spec.ports.0.targetPort", "dimse")),
    (wiring.selectors_choose, "hospital", "a Service of none", lambda d: put(get(d, "Service", "wetread-triton"), "spec.selector", {"app": "triton"})),
    (wiring.selectors_choose, "hospital", "a budget of none", lambda d: put(get(d, "PodDisruptionBudget", "wetread-triton"), "spec.selector.matchLabels", {"app": "triton"})),
    (wiring.selectors_choose, "hospital", "a policy of none", lambda d: put(get(d, "NetworkPolicy", "wetread-intake"), "spec.podSelector.matchLabels", {"app": "intake"})),
    (wiring.selectors_choose, "hospital", "another's labels", lambda d: put(intake(d).owner, "spec.selector.matchLabels", {"app.kubernetes.io/component": "triton"})),
    (wiring.selectors_choose, "hospital", "apart from others", lambda d: put(triton(d).spec, "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.podAffinityTerm.labelSelector.matchLabels", {"app": "x"})),
    (wiring.volumes_exist, "hospital", "no volume", lambda d: take(triton(d).spec, "volumes.1")),
    (wiring.volumes_exist, "hospital", "no mount", lambda d: take(sidecar(d, "reader"), "volumeMounts.3")),
    (wiring.volumes_exist, "hospital-gpu", "no claim", lambda d: d.remove(get(d, "PersistentVolumeClaim", "wetread-engine"))),
    (wiring.volumes_exist, "hospital", "no names", lambda d: take(get(d, "Service", "wetread-intake"), "spec.publishNotReadyAddresses")),
    (wiring.references_exist, "hospital", "no ConfigMap", lambda d: d.remove(get(d, "ConfigMap", "wetread-gateway"))),
    (wiring.references_exist, "hospital", "no such key", lambda d: put(intake(d).spec["volumes"][2], "secret.items.0.key", "dsn")),
    (wiring.references_exist, "hospital", "no such Secret", lambda d: put(intake(d).spec["volumes"][2], "secret.secretName", "postgres")),
    (wiring.references_exist, "hospital", "no such environment", lambda d: put(sidecar(d, "agent"), "envFrom.0.configMapRef.name", "releases")),
    (wiring.variables_exist, "hospital", "no variable", lambda d: sidecar(d, "reader").pop("env")),
    (wiring.variables_exist, "hospital", "a misspelt variable", lambda d: sidecar(d, "agent")["args"].append("--registry=$(REGISTRI)")),
    (wiring.holds_no_secret, "hospital", "a Secret", lambda d: d.append({"kind": "Secret", "metadata": {"name": "s", "namespace": "wetread"}})),
    (wiring.holds_no_secret, "hospital", "a password in an address", lambda d: put(get(d, "ConfigMap", "wetread-gateway"), "data.store", "postgresql+psycopg://a:b@c/d")),
    (wiring.holds_no_secret, "hospital", "a key in a ConfigMap", lambda d: put(get(d, "ConfigMap", "wetread-gateway"), "data.key", "-----BEGIN EC PRIVATE KEY-----")),
    (wiring.network_is_closed, "hospital", "nothing denied", lambda d: d.remove(get(d, "NetworkPolicy", "wetread-default-deny"))),
    (wiring.network_is_closed, "hospital", "open to all", lambda d: take(get(d, "NetworkPolicy", "wetread-triton"), "spec.ingress.0.from")),
    (wiring.network_is_closed, "hospital", "open on all ports", lambda d: take(get(d, "NetworkPolicy", "wetread-triton"), "spec.egress.2.ports")),
    (wiring.network_is_closed, "hospital", "a port for nobody", lambda d: take(get(d, "NetworkPolicy", "wetread-triton"), "spec.ingress.1.ports.0")),
    (wiring.network_is_closed, "hospital", "no rules", lambda d: d.remove(get(d, "NetworkPolicy", "wetread-intake"))),
    (wiring.network_is_closed, "hospital", "no names", lambda d: d.remove(get(d, "NetworkPolicy", "wetread-dns"))),
    (wiring.network_is_closed, "hospital", "no leases", lambda d: take(get(d, "NetworkPolicy", "wetread-triton"), "spec.egress.0")),
    (wiring.is_a_restricted_namespace, "hospital", "any pod", lambda d: take(get(d, "Namespace", "wetread"), "metadata.labels")or put(get(d, "Namespace", "wetread"), "metadata.labels", {})),
    (wiring.is_a_restricted_namespace, "hospital", "elsewhere", lambda d: put(get(d, "Service", "wetread-triton"), "metadata.namespace", "default")),
]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_the_manifests_keep_it(name, policy):
    assert list(policy(rendered(name))) == []


@pytest.mark.parametrize(
    ("policy", "name", "mutation"),
    [pytest.param(policy, name, how, id=f"{policy.__name__}: {what}") for policy, name, what, how in MUTATIONS],
)
def test_a_manifest_that_breaks_it_is_noticed(policy, name, mutation):
    documents = rendered(name)
    mutation(documents)
    assert list(policy(documents))


def test_every_policy_has_a_manifest_that_breaks_it():
    assert {policy for policy, *_ in MUTATIONS} == set(POLICIES)
