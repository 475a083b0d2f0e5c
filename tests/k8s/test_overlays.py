"""Every overlay renders, is valid for three versions of Kubernetes, and asks our commands for what they know."""

from __future__ import annotations

import dataclasses
import importlib
import json
import tomllib
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
from manifests import EVERY, K8S, OVERLAYS, ROOT, named, of_kind, pods, rendered
from typer.main import get_command
from wetread_client.rollout import open_store
from wetread_gateway.config.check import cautions
from wetread_gateway.config.load import load
from wetread_gateway.reading import remote
from wiring_policies import MADE_BY_THE_SITE

pytestmark = pytest.mark.slow  # kubectl renders every overlay

VERSIONS = ("1.35", "1.36", "1.37")  # the newest that kubernetes-validate carries
SCHEMAS = cache(kubernetes_validate.utils.schema_contents)
# Custom resources: Kubernetes itself has no schema of them.
WITHOUT_SCHEMA = {
    "Certificate",  # cert-manager.io/v1
    "ScaledObject",  # keda.sh/v1alpha1
    "PrometheusRule",
    "ServiceMonitor",
    "PodMonitor",  # monitoring.coreos.com/v1
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EVERY)
def test_it_is_valid_strictly(name, version):
    documents = rendered(name)
    assert documents
    for document in documents:
        if document["kind"] not in WITHOUT_SCHEMA:
            validate(json.dumps(document, sort_keys=True), version)


@cache
def validate(document: str, version: str) -> None:
    """Most documents are alike in all overlays; each is looked at once."""
    kubernetes_validate.validate(json.loads(document), version, strict=True)


@pytest.fixture(autouse=True)
def _schemas_read_once(monkeypatch):
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", SCHEMAS)


def test_the_versions_are_the_newest_there_are():
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = {tuple(map(int, path.name[1:].split("-")[0].split(".")[:2])) for path in folder.iterdir() if path.is_dir()}
    assert sorted(found)[-3:] == [tuple(map(int, version.split("."))) for version in VERSIONS]


def test_a_field_that_kubernetes_does_not_know_is_noticed():
    document = of_kind(rendered("base"), "Deployment")[0]
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_nothing_is_rendered_twice():
    for name in EVERY:
        keys = [(one["kind"], one["metadata"]["name"]) for one in rendered(name)]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_a_few_lines(overlay):
    assert len((K8S / "overlays" / overlay / "kustomization.yaml").read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", EVERY)
def test_the_gateways_own_parser_takes_its_settings(name, tmp_path):
    """With what is mounted in a pod lying below a folder here."""
    config = named(rendered(name), "ConfigMap", "wetread-gateway")
    pod = next(pod for pod in pods(rendered(name)) if pod.owner["kind"] == "StatefulSet")
    text = config["data"]["gateway.toml"].replace('"/etc/wetread', f'"{tmp_path}/etc/wetread')
    text = text.replace('"/var/lib/wetread"', f'"{tmp_path}/state"')
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    for path in files_of(pod):
        mounted = tmp_path / path.relative_to("/")
        mounted.parent.mkdir(parents=True, exist_ok=True)
        mounted.write_text("postgresql+psycopg://wetread@wetread-postgres/wetread\n")
    settings = load(file)
    assert not settings.gateway.reader
    assert [caution for caution in cautions(settings) if "DICOM door is open" not in caution] == []
    for path in paths_in(settings):
        inside = "/" / path.relative_to(tmp_path)
        assert inside in files_of(pod) or inside.name == "state", f"{inside} is not mounted"
    ports = pod.ports
    assert (settings.dicom.port, settings.http.port) == (ports["dicom"], ports["http"])


def paths_in(settings: object) -> list[Path]:
    if isinstance(settings, Path):
        return [settings]
    if dataclasses.is_dataclass(settings):
        return [path for one in dataclasses.fields(settings) for path in paths_in(getattr(settings, one.name))]
    if isinstance(settings, tuple):
        return [path for one in settings for path in paths_in(one)]
    return []


def files_of(pod) -> list[Path]:
    """Give the files that the Secrets and ConfigMaps of a pod's first container are mounted as."""
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    found = []
    for mount in pod.spec["containers"][0]["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        items = (volume.get("secret") or volume.get("configMap") or {}).get("items", ())
        found += [Path(mount["mountPath"]) / item["path"] for item in items]
    return found


@pytest.mark.parametrize("name", EVERY)
def test_the_commands_take_the_arguments(name, monkeypatch):
    """Each container's arguments are parsed by the command itself; a batch's in a test of their own."""
    monkeypatch.setenv("COLUMNS", "200")
    documents, seen = rendered(name), set()
    for pod in pods(documents):
        for one in pod.containers:
            if one["image"].startswith("wetread/") and "command" not in one and one["name"] != "batch":
                arguments = [value.replace("$(POD_NAME)", "a-0").replace("$(JOB)", "engine") for value in one["args"]]
                parse(arguments)
                seen.add(one["name"])
    assert seen >= {"gateway", "prepare", "agent", "reader"}


def parse(arguments: list[str]) -> None:
    """Walk down to the command and let it parse; nothing runs."""
    group, *rest = arguments
    if arguments[:2] == ["gateway", "reader"]:
        remote._parser().parse_args(rest[1:])
        return
    module = {"gateway": "wetread_gateway.cli", "release": "wetread_release.cli"}[group]
    command = get_command(importlib.import_module(module).app)
    context = command.make_context(group, rest)
    while hasattr(context.command, "resolve_command") and (words := [*context._protected_args, *context.args]):
        name, command, rest = context.command.resolve_command(context, words)
        context = command.make_context(name, rest, parent=context)


def test_an_argument_that_a_command_does_not_know_is_noticed():
    with pytest.raises(Exception, match="stroe"):
        parse(["release", "agent", "--store=/models", "--stroe=/models"])
    with pytest.raises(SystemExit):
        parse(["gateway", "reader", "--url=https://localhost", "--trition=http://localhost"])


@pytest.mark.parametrize("name", ["single-node", "edge"])
def test_the_rollout_in_the_tree_is_one(name):
    """As the folder store reads it where the ConfigMap is mounted."""
    component = K8S / "components" / "configmap-rollouts" / "rollout"
    rollout = open_store(str(component)).read("chest_xray")
    assert rollout is not None
    rollout.check()
    config = next(
        one for one in of_kind(rendered(name), "ConfigMap") if one["metadata"]["name"].startswith("wetread-rollout")
    )
    assert config["data"]["chest_xray.1.json"].encode() == (component / "chest_xray" / "1.json").read_bytes()


def test_what_the_site_must_make_is_documented():
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    for (kind, name), keys in MADE_BY_THE_SITE.items():
        assert f"`{name}`" in text, f"{kind} {name} is not in docs/kubernetes.md"
        assert all(key in text for key in keys)


def test_the_gateway_is_told_the_same_addresses_as_the_agents():
    for name in EVERY:
        documents = rendered(name)
        gateway = tomllib.loads(named(documents, "ConfigMap", "wetread-gateway")["data"]["gateway.toml"])
        releases = next(one for one in of_kind(documents, "ConfigMap") if "ROLLOUTS" in one["data"])
        if releases["data"]["ROLLOUTS"].startswith("etcd"):
            assert gateway["triton"]["rollouts"] == releases["data"]["ROLLOUTS"]
        else:
            assert gateway["triton"]["rollouts"] == "/etc/wetread/rollout"
