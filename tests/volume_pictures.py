"""Pictures of real volumes for the test report: three planes of ours beside another tool's, and their difference."""

import html
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

FOLDER = Path(__file__).parent.parent / "build" / "test-report" / "volumes"
"""Never committed: these are patients' images."""

Volume = npt.NDArray[np.float32]

_PLANES = (
    ("axial", 2, "R", "L", "A", "P"),
    ("coronal", 1, "R", "L", "S", "I"),
    ("sagittal", 0, "A", "P", "S", "I"),
)
"""Name, axis that is cut, and the patient's sides at the picture's left, right, top and bottom."""


def draw(
    name: str,
    caption: str,
    ours: Volume,
    other: Volume,
    *,
    other_name: str,
    window: tuple[float, float],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    at: tuple[float, float, float] = (0.5, 0.5, 0.5),
    folder: Path = FOLDER,
) -> Path:
    """Draw the planes at the parts `at` of two volumes on one grid, axes as RAS, as radiologists look at them.

    `window`: the values that are black and white; the difference is shown as gray = equal, within the same width.
    """
    low, high = window
    difference = ours - other + (low + high) / 2
    rows = []
    for title, axis, *sides in _PLANES:
        index = min(int(ours.shape[axis] * at[axis]), ours.shape[axis] - 1)
        panels = [
            _panel(each, axis, index, spacing_mm, window, f"{title}, {label}", sides)
            for each, label in ((ours, "ours"), (other, other_name), (difference, "difference"))
        ]
        rows.append(np.hstack(panels))
    width = max(row.shape[1] for row in rows)
    sheet = np.vstack([np.pad(row, ((0, 4), (0, width - row.shape[1]))) for row in rows])
    folder.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("Description", caption)
    path = folder / f"{name}.png"
    Image.fromarray(sheet).save(path, pnginfo=info)
    write_page(folder)
    return path


def write_page(folder: Path = FOLDER) -> None:
    """Write `index.html` of all pictures in the folder, with their captions."""
    figures = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            caption = html.escape(str(picture.info.get("Description", "")))
        figures.append(f'<figure><img src="{path.name}" alt="{path.stem}"><figcaption>{caption}</figcaption></figure>')
    (folder / "index.html").write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Volumes</title>"
        "<style>body{font:16px sans-serif;margin:2em}img{max-width:100%}figure{margin:0 0 3em}</style>"
        "<h1>Volumes of real series</h1><p>Planes as radiologists look at them: the patient's right at the left of the "
        "picture, front or head at its top. The difference is gray where both are equal. Not for clinical use.</p>"
        + "".join(figures)
        + "</html>\n"
    )


def plane(volume: Volume, axis: int, index: int) -> Volume:
    """Cut a RAS volume and turn the plane as it is looked at: [rows, columns]."""
    cut = np.take(volume, index, axis)
    return cut.T[::-1, ::-1]  # up is +z or +y; left is +x (the patient's right) or +y (the front)


def _panel(volume, axis, index, spacing_mm, window, title, sides):
    low, high = window
    cut = plane(volume, axis, index)
    first, second = (spacing for n, spacing in enumerate(spacing_mm) if n != axis)
    levels = (np.clip((cut - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels).resize((round(cut.shape[1] * first), round(cut.shape[0] * second)), Image.NEAREST)
    pen = ImageDraw.Draw(image)
    pen.text((4, 2), title, fill=255)
    left, right, top, bottom = sides
    for place, letter, anchor in (
        ((3, image.height // 2), left, "lm"),
        ((image.width - 3, image.height // 2), right, "rm"),
        ((image.width // 2, 14), top, "mt"),
        ((image.width // 2, image.height - 3), bottom, "mb"),
    ):
        pen.text(place, letter, fill=255, anchor=anchor)
    return np.pad(np.asarray(image), ((0, 0), (0, 4)))
