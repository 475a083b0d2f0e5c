"""The code that answers beside a release's data: both backends' packages, by their hash."""

from importlib.util import find_spec
from pathlib import Path

from wetread_release.digest import folder_digests, joined_digest

PACKAGES = ("wetread_preprocess", "wetread_postprocess")


def installed_code() -> dict[str, str]:
    """Return the SHA-256 of each backend's installed Python files, by package; absent packages are left out."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            files = folder_digests(Path(spec.origin).parent)
            found[package] = joined_digest({name: digest for name, digest in files.items() if name.endswith(".py")})
    return found
