"""The served copy: the two repositories that one Triton reads. Only the agent beside that Triton writes here.

    model_repository/<model>/config.pbtxt, <version>/      a version folder, once there, never changes
    ensembles/<pipeline>[_candidate]/config.pbtxt, <release>/
    agent.json                                             see `record`
    manifests/<pipeline>/<release>.json                    of what is installed

Every file gets its name by a rename of a whole, synced one, so that a kill leaves the old or the new.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wetread_embedded.gentle import MARKS, mark_of

from wetread_release.digest import folder_digests
from wetread_release.durable import copy_hashed, partial_folder, sync_folder, write_file
from wetread_release.errors import ServeFailed
from wetread_release.manifest import ReleasedPart
from wetread_release.triton_config import ModelConfig

CONFIG = "config.pbtxt"
_PIN = re.compile(r'model_name: "(?P<model>[^"]+)"\s+model_version: (?P<version>\d+)')
_SERVED = re.compile(r"version_policy\s*\{\s*specific\s*\{\s*versions:\s*\[(?P<versions>[\d,\s]*)\]")


class ServedCopy:
    """The repositories below a store's folder."""

    def __init__(self, models: Path, ensembles: Path) -> None:
        self.models = models
        self.ensembles = ensembles

    def tidy(self) -> None:
        """Remove what a killed writer left half done; it never had a name that Triton reads."""
        shutil.rmtree(self.models.parent / MARKS, ignore_errors=True)
        for repository in (self.models, self.ensembles):
            for left in (*repository.glob("*/.*.partial"), *repository.glob("*/.*.writing")):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def versions(self, model: str) -> list[Path]:
        """Return the version folders of a model."""
        folder = self.models / model
        return sorted(path for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []

    def model_names(self) -> list[str]:
        """Return the names of all component models."""
        return sorted(config.parent.name for config in self.models.glob(f"*/{CONFIG}"))

    def is_intact(self, part: ReleasedPart) -> bool:
        """Tell whether a part's version folder holds its files and no others."""
        return self.is_there(part) and folder_digests(self._version(part)) == part.files

    def is_there(self, part: ReleasedPart) -> bool:
        """Tell whether a part has its version folder, whatever it holds."""
        return self._version(part).is_dir()

    def install(self, part: ReleasedPart, source: Path, *, replace_changed: bool = False) -> None:
        """Put a part's files from folder `source` into its version folder.

        Raises:
            ServeFailed: the folder is there with other content (unless `replace_changed`: the server does not run),
                or the files are not those of the manifest.
        """
        target = self._version(part)
        if self.is_intact(part):
            return
        if target.exists():
            if not replace_changed:
                raise ServeFailed(
                    f"{part.model} version {part.version} was changed in the served copy: restart to mend"
                )
            shutil.rmtree(target)
        with partial_folder(target) as partial:
            for name, digest in part.files.items():
                with (source / name).open("rb") as file:
                    if copy_hashed(file, partial / name) != digest:
                        raise ServeFailed(f"{part.folder}/{name} of {part.model} version {part.version} was changed")

    @contextmanager
    def loaded_gently(self, part: ReleasedPart) -> Iterator[None]:
        """Have the embedded server's stubs start a part at a low priority meanwhile."""
        mark = mark_of(self._version(part))
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def write_config(self, config: ModelConfig) -> bool:
        """Write a component's config.pbtxt where it says something else; tell whether it did."""
        return write_text(self.models / config.name / CONFIG, config.text())

    def config_text(self, model: str) -> str | None:
        """Return a component's config.pbtxt, None where there is none."""
        return read_text(self.models / model / CONFIG)

    def restore_config(self, model: str, text: str | None) -> None:
        """Put back what `config_text` gave; a model that was not there is removed."""
        if text is None:
            shutil.rmtree(self.models / model, ignore_errors=True)
        else:
            write_text(self.models / model / CONFIG, text)

    def ensemble_text(self, name: str) -> str | None:
        """Return an ensemble's config.pbtxt, None where there is none."""
        return read_text(self.ensembles / name / CONFIG)

    def write_ensemble(self, config: ModelConfig) -> bool:
        """Make the release's folder, then put number and pins in force with one rename; tell whether it changed."""
        (release,) = config.versions
        (self.ensembles / config.name / str(release)).mkdir(parents=True, exist_ok=True)
        return write_text(self.ensembles / config.name / CONFIG, config.text())

    def restore_ensemble(self, name: str, text: str | None) -> None:
        """Put back what `ensemble_text` gave; an ensemble that was not there is removed."""
        if text is None:
            self.remove_ensemble(name)
        else:
            write_text(self.ensembles / name / CONFIG, text)

    def remove_ensemble(self, name: str) -> None:
        """Remove an ensemble that is not loaded; its configuration goes first, so a kill leaves nothing half."""
        (self.ensembles / name / CONFIG).unlink(missing_ok=True)
        shutil.rmtree(self.ensembles / name, ignore_errors=True)

    def pins(self, names: Iterable[str] | None = None) -> dict[str, set[int]]:
        """Return the versions that ensembles pin, by model; `names`: of these ensembles alone."""
        chosen = self.ensembles.glob(f"*/{CONFIG}") if names is None else [self.ensembles / n / CONFIG for n in names]
        pinned: dict[str, set[int]] = {}
        for path in chosen:
            for match in _PIN.finditer(read_text(path) or ""):
                pinned.setdefault(match["model"], set()).add(int(match["version"]))
        return pinned

    def release_of(self, ensemble: str) -> int:
        """Return the release that an ensemble's configuration serves, 0 where there is none."""
        return max(served_versions(self.ensemble_text(ensemble) or ""), default=0)

    def collect(self, keep: Mapping[str, Iterable[int]]) -> list[str]:
        """Remove version folders and models that are neither in `keep` nor pinned by any ensemble; return them.

        Only models in `keep` or of our private names are looked at by the caller's choice of `keep`'s keys.
        """
        pinned = self.pins()
        removed = []
        for model, versions in keep.items():
            wanted = set(versions) | pinned.get(model, set())
            for folder in self.versions(model):
                if int(folder.name) not in wanted:
                    shutil.rmtree(folder)
                    removed.append(f"{model}/{folder.name}")
            if not wanted and (self.models / model).is_dir():
                shutil.rmtree(self.models / model)
        for ensemble in self.ensembles.glob("*"):
            release = self.release_of(ensemble.name)
            for folder in ensemble.iterdir():
                if release and folder.name.isdecimal() and int(folder.name) != release:
                    shutil.rmtree(folder)
        return removed

    def _version(self, part: ReleasedPart) -> Path:
        return self.models / part.model / str(part.version)


def served_versions(text: str) -> set[int]:
    """Return the versions in a configuration's `version_policy { specific }`."""
    match = _SERVED.search(text)
    return {int(number) for number in re.findall(r"\d+", match["versions"])} if match else set()


def read_text(path: Path) -> str | None:
    """Return a file's text, None where there is no file."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_text(path: Path, text: str) -> bool:
    """Write a file whole and durably, in one rename, unless it says `text` already; tell whether it was written."""
    if read_text(path) == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".{path.name}.writing")
    writing.unlink(missing_ok=True)
    write_file(writing, text.encode())
    writing.replace(path)
    sync_folder(path.parent)
    return True
