"""Policies over the pods of rendered manifests. Each gives its complaints; none is good."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from manifests import ROOT, Document, Documents, Pod, named, of_kind, pods, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = 10001
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RESOURCES = ("cpu", "memory", "ephemeral-storage")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def each_container(documents: Documents) -> Iterator[tuple[str, Pod, Document]]:
    """Give every container under a name for complaints."""
    for pod in pods(documents):
        for one in pod.containers:
            yield f"{pod.name}: {one['name']}", pod, one


def runs_as_a_user(documents: Documents) -> Iterator[str]:
    """Nothing runs as root, and all as the images' own user."""
    for pod in pods(documents):
        context = pod.spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser") != USER or context.get("runAsGroup") != USER:
            yield f"{pod.name} may run as root"
    for name, _, one in each_container(documents):
        context = one.get("securityContext", {})
        if context.get("runAsNonRoot") is False or context.get("runAsUser", USER) != USER:
            yield f"{name} runs as another"


def has_a_read_only_root(documents: Documents) -> Iterator[str]:
    """Only volumes are written to."""
    for name, _, one in each_container(documents):
        if not one.get("securityContext", {}).get("readOnlyRootFilesystem"):
            yield f"{name} may write to its image"


def filters_system_calls(documents: Documents) -> Iterator[str]:
    """The runtime's seccomp profile holds for all."""
    for pod in pods(documents):
        contexts = [pod.spec, *pod.containers]
        profiles = [each.get("securityContext", {}).get("seccompProfile") for each in contexts]
        if profiles[0] != {"type": "RuntimeDefault"} or any(each not in (None, profiles[0]) for each in profiles):
            yield f"{pod.name} has no seccomp profile"


def has_no_privileges(documents: Documents) -> Iterator[str]:
    """No capability, and no way to one."""
    for name, _, one in each_container(documents):
        context = one.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} keeps capabilities"


def stays_off_the_host(documents: Documents) -> Iterator[str]:
    """No namespace, path or port of the machine."""
    for pod in pods(documents):
        shared = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key)]
        shared += ["hostPath" for volume in pod.spec.get("volumes", ()) if "hostPath" in volume]
        shared += ["hostPort" for one in pod.containers for port in one.get("ports", ()) if port.get("hostPort")]
        if shared:
            yield f"{pod.name}: {', '.join(shared)}"


def is_bounded(documents: Documents) -> Iterator[str]:
    """Every container says what it needs and what it may take, and every emptyDir how large it gets."""
    for name, _, one in each_container(documents):
        for kind in ("requests", "limits"):
            given = one.get("resources", {}).get(kind, {})
            yield from (f"{name} has no {kind} of {what}" for what in RESOURCES if what not in given)
    for pod in pods(documents):
        for volume in pod.spec.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.name}: volume {volume['name']} has no sizeLimit"


def has_memory_for_its_memory_volumes(documents: Documents) -> Iterator[str]:
    """Pages of a volume in memory count for the container that wrote them: it must have room for all of them."""
    for name, pod, one in each_container(documents):
        mounted = {mount["name"] for mount in one.get("volumeMounts", ())}
        own = (volume for volume in pod.spec.get("volumes", ()) if volume["name"] in mounted)
        volumes = [volume["emptyDir"] for volume in own if volume.get("emptyDir")]
        taken = sum(quantity(each.get("sizeLimit", "0")) for each in volumes if each.get("medium") == "Memory")
        limit = quantity(one.get("resources", {}).get("limits", {}).get("memory", "0"))
        if taken and taken > limit / 2:
            yield f"{name}: {taken:.0f} of {limit:.0f} bytes may go to its volumes"


def is_probed(documents: Documents) -> Iterator[str]:
    """What stays is asked whether it has begun, lives, and can serve."""
    for pod in pods(documents):
        if pod.stays:
            for one in pod.staying:
                yield from (f"{pod.name}: {one['name']} has no {probe}" for probe in PROBES if probe not in one)


def is_pinned(documents: Documents) -> Iterator[str]:
    """Every image has a tag that is not moved; ours have that of this version."""
    for name, _, one in each_container(documents):
        tag = re.fullmatch(r"[\w./-]+(?::\d+/[\w./-]+)?:([\w.-]+)(@sha256:[0-9a-f]{64})?", one["image"])
        if tag is None or tag[1] == "latest" or (one["image"].startswith("wetread/") and tag[1] != VERSION):
            yield f"{name}: image {one['image']} may be any"


def has_no_token(documents: Documents) -> Iterator[str]:
    """No pod can ask the API server, and none has the namespace's own account."""
    for account in of_kind(documents, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} gives its token away"
    for pod in pods(documents):
        account = pod.spec.get("serviceAccountName", "default")
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name} gets a token"
        if named(documents, "ServiceAccount", account) is None:
            yield f"{pod.name} has no account of its own: {account}"


def starts_in_order(documents: Documents) -> Iterator[str]:
    """The store is filled, then agent, Triton, reader; the kubelet stops them the other way round."""
    for pod in pods(documents):
        names = [one["name"] for one in pod.containers]
        if "reader" in names:
            if names[-4:] != ["prepare", "agent", "triton", "reader"]:
                yield f"{pod.name} starts {names}"
            if [one["name"] for one in pod.staying] != ["agent", "triton", "reader"]:
                yield f"{pod.name}: a sidecar ends"


def has_time_to_drain(documents: Documents) -> Iterator[str]:
    """What is drained one after the other, with what waits before it, ends before the kubelet kills it."""
    for pod in pods(documents):
        if pod.serves:
            hooks = (one.get("lifecycle", {}).get("preStop", {}) for one in pod.staying)
            waits = max(hook.get("sleep", {}).get("seconds", 0) for hook in hooks)
            drains = sum(map(_seconds, (argument for one in pod.staying for argument in one.get("args", ()))))
            if any("--config" in one.get("args", ()) for one in pod.staying):
                settings = named(documents, "ConfigMap", "wetread-gateway")
                assert settings is not None
                drains += tomllib.loads(settings["data"]["gateway.toml"])["gateway"].get("drain_s", 20)
            given = pod.spec.get("terminationGracePeriodSeconds", 30)
            if not drains or given <= waits + drains:
                yield f"{pod.name} is killed after {given} s, and needs {waits + drains}"


def _seconds(argument: str) -> int:
    found = re.fullmatch(r"--(?:drain|exit-timeout-secs)=(\d+)", argument)
    return int(found[1]) if found else 0


def is_spread(documents: Documents) -> Iterator[str]:
    """Pods of a kind do not share a zone or a machine where that can be helped."""
    for pod in pods(documents):
        if pod.serves:
            zones = [each["topologyKey"] for each in pod.spec.get("topologySpreadConstraints", ())]
            if "topology.kubernetes.io/zone" not in zones:
                yield f"{pod.name} is not spread over zones"
            if not pod.spec.get("affinity", {}).get("podAntiAffinity"):
                yield f"{pod.name} is not kept apart"


ALL = (
    runs_as_a_user,
    has_a_read_only_root,
    filters_system_calls,
    has_no_privileges,
    stays_off_the_host,
    is_bounded,
    has_memory_for_its_memory_volumes,
    is_probed,
    is_pinned,
    has_no_token,
    starts_in_order,
    has_time_to_drain,
    is_spread,
)
