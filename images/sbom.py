"""`python images/sbom.py`: a bill of materials of each built image, of Python's packages and Debian's (CycloneDX)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from buildah import FOLDER, Buildah

from build import NAMES, tag

_FIELDS = "${Package}\\t${Version}\\t${Architecture}\\n"


def bill(buildah: Buildah, name: str) -> Path:
    """Write the bill of one image and give its file. Its own Python environment is read, from outside."""
    container = buildah.output("from", "--pull-never", tag(name))
    try:
        root = Path(buildah.output("mount", container))
        tool = [str(Path(sys.executable).with_name("cyclonedx-py")), "environment", str(root / "opt/wetread")]
        made = subprocess.run([*tool, "--output-reproducible"], check=True, capture_output=True, text=True)
        document: dict[str, Any] = json.loads(made.stdout)
        document["components"] += debian_packages(root)
        document["metadata"]["component"] = {"type": "container", "bom-ref": tag(name), "name": tag(name)}
    finally:
        buildah("rm", container)
    file = FOLDER / f"{name}.cdx.json"
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return file


def debian_packages(root: Path) -> list[dict[str, str]]:
    """Give what dpkg knows to be installed under `root`, as components."""
    command = ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "--show", f"--showformat={_FIELDS}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = []
    for name, version, architecture in (line.split("\t") for line in lines):
        purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}&distro=bookworm"
        found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return found


if __name__ == "__main__":
    for image in NAMES:
        sys.stdout.write(f"{bill(Buildah(), image)}\n")
