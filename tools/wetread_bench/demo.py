"""`make demo`: serve, read films, print the table, write overlays; the whole path in one command."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from wetread_client.cli import main as wetread
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.errors import EmbeddedError
from wetread_models.synthetic import LABELS, FilmModel

SEEDS = range(1, 4)


def main() -> int:
    """Run the demo; the exit code is `wetread read`'s."""
    config = ServerConfig.on_free_ports()
    folder = config.root / "build" / "demo"
    films = write_films(config.root, folder / "films")
    print(f"{len(films)} synthetic films, drawn from a statistical model of no one's chest: {folder / 'films'}")
    started = time.monotonic()
    try:
        with EmbeddedTriton(config) as server:
            print(
                f"Triton is ready after {time.monotonic() - started:.1f} s at {server.http_url} and {server.grpc_url}\n"
            )
            code = _read(server.http_url, films, folder / "overlays")
    except EmbeddedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"\nOverlays: {folder / 'overlays'}\nYour own films: `make serve`, then `.venv/bin/wetread read PATH...`")
    return code


def write_films(root: Path, folder: Path, seeds: Sequence[int] = SEEDS) -> list[Path]:
    """Draw the demo's films as DICOM files and return their paths."""
    model = FilmModel.load(root / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for label in LABELS:
        for seed in seeds:
            path = folder / f"synthetic-{label}-{seed}.dcm"
            path.write_bytes(model.dicom(seed, label))
            paths.append(path)
    return paths


def _read(url: str, films: list[Path], overlays: Path) -> int:
    words = ["read", *map(str, films), "--url", url, "--heatmap", str(overlays)]
    print("$ wetread", *(_short(word) for word in words))
    try:
        wetread(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _short(word: str) -> str:
    path = Path(word)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else word


if __name__ == "__main__":
    sys.exit(main())
