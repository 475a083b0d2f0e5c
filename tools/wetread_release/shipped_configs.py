"""Every configuration that ships is generated: `python -m wetread_release.shipped_configs` writes them all.

A test asserts that they are current.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wetread_release import film_pipeline, volume_pipeline
from wetread_release.draft import Draft


def shipped_drafts() -> dict[str, Draft]:
    """Give the draft of every pipeline that ships, by its name."""
    films = {name: film_pipeline.film_draft(name, spec) for name, spec in film_pipeline.SHIPPED.items()}
    volumes = {name: volume_pipeline.volume_draft(name, spec) for name, spec in volume_pipeline.SHIPPED.items()}
    return films | volumes


def shipped_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Give the content of every generated file of the checkout at `root`, draft.json left out."""
    for name, draft in shipped_drafts().items():
        pins = {part.role: (part.config.name, 1) for part in draft.parts}
        yield root / "ensembles" / name / "config.pbtxt", draft.wiring.ensemble(name, 1, pins).text()
        for part in draft.parts:
            config = replace(part.config, versions=(1,))
            yield root / "model_repository" / config.name / "config.pbtxt", config.text()


def write_shipped(root: Path) -> None:
    """Write every generated file of the checkout at `root`."""
    for path, text in shipped_files(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, draft in shipped_drafts().items():
        draft.save(root / "ensembles" / name)


if __name__ == "__main__":
    write_shipped(Path.cwd())
