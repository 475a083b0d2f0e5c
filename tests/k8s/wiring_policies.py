"""Policies over what rendered manifests say of each other. Each gives its complaints; none is good."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from adapter import exposed
from manifests import Document, Documents, Pod, chooses, named, of_kind, pods

if TYPE_CHECKING:
    from collections.abc import Iterator

# Made by the site, with the keys that are used (docs/kubernetes.md says how); a component may make some of them.
MADE_BY_THE_SITE = {
    ("Secret", "wetread-database"): {"url"},
    ("Secret", "wetread-http-tokens"): {"tokens"},
    ("Secret", "wetread-sibling-token"): {"token"},
    ("Secret", "wetread-reader-token"): {"token"},
    ("Secret", "wetread-http-tls"): {"tls.crt", "tls.key", "ca.crt"},
    ("Secret", "wetread-dicom-tls"): {"tls.crt", "tls.key", "ca.crt"},
    ("Secret", "wetread-registry"): set(),
    ("Secret", "wetread-metrics-token"): {"token"},
    ("Secret", "wetread-batch"): set(),
    ("ConfigMap", "wetread-trusted-keys"): set(),
    ("PersistentVolumeClaim", "wetread-archive"): set(),
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def disruption_is_possible(documents: Documents) -> Iterator[str]:
    """What serves has a budget, which lets a machine be emptied however few pods there are."""
    for pod in (pod for pod in pods(documents) if pod.serves):
        budgets = [
            each for each in of_kind(documents, "PodDisruptionBudget") if chooses(each["spec"]["selector"], pod.labels)
        ]
        if len(budgets) != 1:
            yield f"{pod.name} has {len(budgets)} budgets"
        fewest = _fewest(documents, pod)
        for budget in budgets:
            at_least, away = budget["spec"].get("minAvailable", 0), budget["spec"].get("maxUnavailable", 1)
            if _count(at_least, fewest) >= fewest or not _count(away, fewest):
                yield f"{pod.name}: {fewest} pods, of which none may be away"


def _count(wanted: int | str, pods: int) -> int:
    return math.ceil(int(wanted[:-1]) * pods / 100) if isinstance(wanted, str) else wanted


def _fewest(documents: Documents, pod: Pod) -> int:
    for scaler in _scalers(documents, pod.owner):
        return scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount", 1))
    return pod.owner["spec"].get("replicas", 1)


def _scalers(documents: Documents, owner: Document) -> list[Document]:
    return [
        each
        for each in of_kind(documents, *AUTOSCALERS)
        if (each["spec"]["scaleTargetRef"].get("kind"), each["spec"]["scaleTargetRef"]["name"])
        == (owner["kind"], owner["metadata"]["name"])
    ]


def scalers_own_the_number(documents: Documents) -> Iterator[str]:
    """An autoscaler has a target, alone, and the target says no number of its own; else it needs one."""
    workloads = [pod.owner for pod in pods(documents) if pod.serves]
    found = [each["metadata"]["name"] for owner in workloads for each in _scalers(documents, owner)]
    for scaler in of_kind(documents, *AUTOSCALERS):
        if scaler["metadata"]["name"] not in found:
            yield f"{scaler['kind']} {scaler['metadata']['name']} scales nothing"
    for owner in workloads:
        scalers = _scalers(documents, owner)
        if len(scalers) > 1 or bool(scalers) == ("replicas" in owner["spec"]):
            yield f"{owner['kind']} {owner['metadata']['name']}: {len(scalers)} autoscalers beside its own number"
        if scalers and owner["kind"] != "Deployment":
            yield f"{owner['metadata']['name']} is scaled, and holds a spool"


def scalers_metrics_exist(documents: Documents) -> Iterator[str]:
    """A container metric is of a container that stays and requests it; all others come out of the adapter's rules."""
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        pod = next((pod for pod in pods(documents) if scaler in _scalers(documents, pod.owner)), None)
        rules = named(documents, "ConfigMap", "wetread-adapter-rules")
        known = exposed(rules["data"]["config.yaml"]) if rules else {}
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "ContainerResource":
                wanted = metric["containerResource"]
                requests = [
                    one.get("resources", {}).get("requests", {})
                    for one in (pod.staying if pod else ())
                    if one["name"] == wanted["container"]
                ]
                if not requests or wanted["name"] not in requests[0]:
                    yield f"no container {wanted['container']} requests {wanted['name']}"
            else:
                kind, name = metric["type"], metric[metric["type"].lower()]["metric"]["name"]
                if known.get(name) != kind:
                    yield f"{kind} metric {name} is in no rule of the adapter"


def ports_exist(documents: Documents) -> Iterator[str]:
    """What probes and Services call by name is there; a number is a port of some container of the pod."""
    for pod in pods(documents):
        for one in pod.containers:
            own = {port["name"] for port in one.get("ports", ())}
            for probe in PROBES:
                port = one.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in (own if isinstance(port, str) else pod.ports.values()):
                    yield f"{pod.name}: {probe} of {one['name']} asks port {port}"
    for service in of_kind(documents, "Service"):
        for pod in _chosen(documents, {"matchLabels": service["spec"]["selector"]}):
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in pod.ports:
                    yield f"Service {service['metadata']['name']}: {pod.name} has no port {port['targetPort']}"


def selectors_choose(documents: Documents) -> Iterator[str]:
    """Every selector takes pods, and a pod's own ones take itself."""
    for document in of_kind(documents, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = document["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        selector = {"matchLabels": selector} if document["kind"] == "Service" else selector
        if not _chosen(documents, selector):
            yield f"{document['kind']} {document['metadata']['name']} takes no pod"
    for pod in pods(documents):
        own = [each["labelSelector"] for each in pod.spec.get("topologySpreadConstraints", ())]
        apart = pod.spec.get("affinity", {}).get("podAntiAffinity", {})
        terms = [each["podAffinityTerm"] for each in apart.get("preferredDuringSchedulingIgnoredDuringExecution", ())]
        terms += apart.get("requiredDuringSchedulingIgnoredDuringExecution", ())
        if pod.serves:
            own += [pod.owner["spec"]["selector"], *(term["labelSelector"] for term in terms)]
        if not all(chooses(each, pod.labels) for each in own):
            yield f"{pod.name} is not of its own labels"


def _chosen(documents: Documents, selector: Document | None) -> list[Pod]:
    return [pod for pod in pods(documents) if chooses(selector, pod.labels)]


def volumes_exist(documents: Documents) -> Iterator[str]:
    """Every mount has its volume and every volume a mount; a claim is there, a headless Service too."""
    for pod in pods(documents):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", ())}
        mounts = {mount["name"] for one in pod.containers for mount in one.get("volumeMounts", ())}
        if mounts != volumes:
            yield f"{pod.name}: {', '.join(sorted(mounts ^ volumes))}: volume or mount alone"
        for volume in pod.spec.get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and not _is_there(documents, "PersistentVolumeClaim", claim, set()):
                yield f"{pod.name} wants the claim {claim}"
        service = pod.owner["spec"].get("serviceName", "")
        headless = (named(documents, "Service", service) or {}).get("spec", {})
        if service and not (headless.get("clusterIP") == "None" and headless.get("publishNotReadyAddresses")):
            yield f"{pod.name} has no names: {service}"


def references_exist(documents: Documents) -> Iterator[str]:
    """Every ConfigMap, Secret and key that a pod asks for is rendered, or one that the site makes."""
    for pod in pods(documents):
        for kind, name, keys in _references(pod):
            if not _is_there(documents, kind, name, keys):
                yield f"{pod.name} wants {kind} {name} {sorted(keys)}"


def _is_there(documents: Documents, kind: str, name: str, keys: set[str]) -> bool:
    document = named(documents, kind, name)
    known = set(document.get("data", ())) if document else MADE_BY_THE_SITE.get((kind, name))
    return known is not None and keys <= known


def _references(pod: Pod) -> Iterator[tuple[str, str, set[str]]]:
    for volume in pod.spec.get("volumes", ()):
        for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if field in volume:
                yield kind, volume[field][key], {item["key"] for item in volume[field].get("items", ())}
    for one in pod.containers:
        for source in one.get("envFrom", ()):
            kind = "ConfigMap" if "configMapRef" in source else "Secret"
            yield kind, next(each["name"] for each in source.values() if isinstance(each, dict)), set()
        for variable in one.get("env", ()):
            for field, reference in variable.get("valueFrom", {}).items():
                if field in ("configMapKeyRef", "secretKeyRef"):
                    kind = "ConfigMap" if field == "configMapKeyRef" else "Secret"
                    yield kind, reference["name"], {reference["key"]}


def variables_exist(documents: Documents) -> Iterator[str]:
    """What stands as $(NAME) in an argument is in the container's environment."""
    for pod in pods(documents):
        for one in pod.containers:
            known = {variable["name"] for variable in one.get("env", ())}
            for source in one.get("envFrom", ()):
                document = named(documents, "ConfigMap", source.get("configMapRef", {}).get("name", ""))
                known |= set(document["data"]) if document else set()
            for name in re.findall(r"\$\((\w+)\)", " ".join([*one.get("args", ()), *one.get("command", ())])):
                if name not in known:
                    yield f"{pod.name}: {one['name']} does not know {name}"


def holds_no_secret(documents: Documents) -> Iterator[str]:
    """No Secret is in the tree, and nothing that looks like one is elsewhere."""
    for document in of_kind(documents, "Secret"):
        yield f"Secret {document['metadata']['name']} is in the tree"
    configs = of_kind(documents, "ConfigMap")
    texts = [(each["metadata"]["name"], text) for each in configs for text in each["data"].values()]
    for pod in pods(documents):
        for one in pod.containers:
            texts += [(pod.name, str(variable.get("value", ""))) for variable in one.get("env", ())]
            texts += [(pod.name, argument) for argument in one.get("args", ())]
    for name, text in texts:
        if re.search(r"BEGIN [A-Z ]*PRIVATE KEY|://[^/\s]*:[^/\s]*@|(?i:password|secret_access_key)\s*[=:]", text):
            yield f"{name} holds a secret"


def network_is_closed(documents: Documents) -> Iterator[str]:
    """All is denied but what is named: each pod has rules, and each of its ports somebody who may come in by it."""
    policies = of_kind(documents, "NetworkPolicy")
    if not any(each["spec"]["podSelector"] == {} and _both(each) and not _rules(each) for each in policies):
        yield "nothing is denied by default"
    for policy in policies:
        for rule in _rules(policy):
            if not rule.get("ports") or not (rule.get("from") or rule.get("to")):
                yield f"{policy['metadata']['name']} lets anybody in or out"
    for pod in pods(documents):
        selected = ((each, each["spec"]["podSelector"]) for each in policies)
        own = [each for each, selector in selected if selector and chooses(selector, pod.labels)]
        ingress = [rule for each in own for rule in each["spec"].get("ingress", ())]
        opened = {port["port"] for rule in ingress for port in rule.get("ports", ())}
        # a kubelet's probes need no rule: they come from the pod's own machine
        if opened - set(pod.ports) or (pod.serves and set(pod.ports) - opened):
            yield f"{pod.name}: {', '.join(sorted(map(str, opened ^ set(pod.ports))))}: port or rule alone"
        ports = {
            port["port"] for each in own for rule in each["spec"].get("egress", ()) for port in rule.get("ports", ())
        }
        if 53 not in ports:
            yield f"{pod.name} cannot ask for names"
        if pod.serves and not ports & {"http"} and "reader" in {one["name"] for one in pod.containers}:
            yield f"{pod.name} cannot lease"


def _both(policy: Document) -> bool:
    return set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def _rules(policy: Document) -> list[Document]:
    return [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]


def is_a_restricted_namespace(documents: Documents) -> Iterator[str]:
    """The API server itself holds pods to the restricted standard; all is in that namespace."""
    for document in of_kind(documents, "Namespace"):
        if document["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace takes any pod"
    names = {each["metadata"]["name"] for each in of_kind(documents, "Namespace")}
    for document in documents:
        place = document["metadata"].get("namespace")
        if document["kind"] not in ("Namespace", "PriorityClass") and place not in names:
            yield f"{document['kind']} {document['metadata']['name']} is elsewhere"


ALL = (
    disruption_is_possible,
    scalers_own_the_number,
    scalers_metrics_exist,
    ports_exist,
    selectors_choose,
    volumes_exist,
    references_exist,
    variables_exist,
    holds_no_secret,
    network_is_closed,
    is_a_restricted_namespace,
)
