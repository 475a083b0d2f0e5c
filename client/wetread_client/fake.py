"""A transport without a server, for tests of programs that use the client."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wetread_client.errors import NoSuchOutput, Status
from wetread_client.transport import DICOM, InferAnswer, InferRequest, RegionSlice

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request as a FakeTransport met it; `lengths` are those of a series' files, which lie end to end in `film`."""

    model: str
    film: bytes
    outputs: tuple[str, ...]
    parameters: dict[str, bool | str]
    timeout_s: float
    lengths: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[bytes, ...]:
        """A series' files; a film is one."""
        ends = list(itertools.accumulate(self.lengths or (len(self.film),)))
        return tuple(self.film[start:end] for start, end in zip([0, *ends], ends, strict=False))


OUTPUTS = ("PROBABILITY", "POSITIVE", "HEATMAP", "NOVELTY", "NOTES", "CARD")

Script = InferAnswer | BaseException | Callable[[FakeRequest], InferAnswer]


class FakeTransport:
    """Gives scripted answers, one a request, and the last of them ever after.

    An entry is an answer, an error to raise, or a function of the request. `requests` holds what was asked; only the
    outputs that a request names come back, as from a server, and one that the answer lacks is refused.
    `outputs`: what the server says that answers made by functions have. `inputs`: of a pipeline; with LENGTHS it takes
    series.
    """

    def __init__(
        self,
        script: Iterable[Script],
        *,
        live: bool = True,
        ready: bool = True,
        outputs: frozenset[str] = frozenset(OUTPUTS),
        inputs: frozenset[str] = frozenset({DICOM}),
    ) -> None:
        self.requests: list[FakeRequest] = []
        self.closed = False
        self._script = list(script)
        self._live = live
        self._ready = ready
        self._outputs = outputs
        self._inputs = inputs
        self._lock = threading.Lock()

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        """Take the next entry of the script."""
        assert not isinstance(request.film, RegionSlice), "a region is a matter between a transport and its server"
        met = FakeRequest(
            request.model,
            bytes(request.film.view()),
            request.outputs,
            dict(request.parameters),
            timeout_s,
            request.lengths,
        )
        with self._lock:
            entry = self._script[min(len(self.requests), len(self._script) - 1)]
            self.requests.append(met)
        if isinstance(entry, BaseException):
            raise entry
        answer = entry if isinstance(entry, InferAnswer) else entry(met)
        for name in request.outputs:
            if name not in answer.outputs:
                message = f"unexpected inference output '{name}' for model '{request.model}'"
                raise NoSuchOutput(Status.INVALID_ARGUMENT.value, message)
        return InferAnswer(answer.model_version, {name: answer.outputs[name] for name in request.outputs})

    def is_live(self, timeout_s: float) -> bool:
        """Say what the constructor was told."""
        return self._live

    def is_ready(self, model: str, timeout_s: float) -> bool:
        """Say what the constructor was told."""
        return self._ready

    def versions(self, model: str, timeout_s: float) -> tuple[int, ...]:
        """Give the release of the script's first answer."""
        return tuple(entry.model_version for entry in self._script if isinstance(entry, InferAnswer))[:1]

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        """Give what the script's next answer has, or its first of that release; all where functions make them."""
        with self._lock:
            following = self._script[min(len(self.requests), len(self._script) - 1) :]
        answers = following if version is None else self._script
        for entry in answers:
            if isinstance(entry, InferAnswer) and version in (None, entry.model_version):
                return frozenset(entry.outputs)
        return self._outputs

    def inputs(self, model: str, timeout_s: float) -> frozenset[str]:
        """Give what the constructor was told."""
        return self._inputs

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def fake_card(
    labels: Sequence[str] = ("finding",),
    pipeline: str = "chest_xray",
    *,
    has_heatmap: bool = True,
    has_novelty: bool = True,
    segments: Sequence[str] = (),
) -> bytes:
    """Give CARD's bytes for findings, and segments, of these labels; codes and numbers are made up."""
    findings = [
        {
            "label": label,
            "codes": [{"scheme": "99FAKE", "value": label.upper(), "meaning": label}],
            "threshold": 0.5,
            "temperature": 1.0,
            **({"heatmap_scale": 10.0} if has_heatmap else {}),
        }
        for label in labels
    ]
    document = {
        "schema": 1,
        "pipeline": pipeline,
        "task": "segmentation" if segments else "classification",
        "algorithm": {"name": "fake", "manufacturer": "nobody"},
        "intended_use": {
            "statement": "tests",
            "modalities": ["CR", "DX", "RG"],
            "body_part": "CHEST",
            "views": ["AP", "PA"],
            "age_years": [1, 5],
            "limits": "none",
        },
        "findings": findings,
        **({"segments": [_segment(number, label) for number, label in enumerate(segments, 1)]} if segments else {}),
        **({"novelty": {"statistics": "novelty.npz", "percentile_99": 1.0}} if has_novelty else {}),
    }
    return json.dumps(document).encode()


def fake_answer(
    probabilities: Sequence[float] = (0.9,),
    *,
    release: int = 1,
    novelty: float | None = 0.5,
    has_heatmap: bool = True,
    card: bytes | None = None,
    warnings: Sequence[str] = (),
) -> InferAnswer:
    """Give a whole answer; a probability of 0.5 or more is positive. `novelty`: None for a release without it."""
    probability = np.asarray([probabilities], np.float32)
    geometry: dict[str, object] = {
        "rows": 224,
        "columns": 224,
        "pixel_spacing_mm": None,
        "sop_instance_uid": "2.25.1",
        "warnings": [],
    }
    notes = json.dumps({"warnings": list(warnings), "geometry": geometry}).encode()
    if card is None:
        card = fake_card(has_heatmap=has_heatmap, has_novelty=novelty is not None)
    outputs: dict[str, NDArray[np.generic]] = {
        "PROBABILITY": probability,
        "POSITIVE": probability >= 0.5,
        "NOTES": np.frombuffer(notes, np.uint8)[None],
        "CARD": np.frombuffer(card, np.uint8)[None],
    }
    if has_heatmap:
        outputs["HEATMAP"] = np.zeros((1, len(probabilities), 224, 224), np.uint8)
    if novelty is not None:
        outputs["NOVELTY"] = np.asarray([[novelty]], np.float32)
    return InferAnswer(release, outputs)


def fake_segmentation(
    labels: NDArray[np.uint8] | None = None,
    *,
    release: int = 1,
    segments: Sequence[str] = ("segment",),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    card: bytes | None = None,
    warnings: Sequence[str] = (),
    left_out: Sequence[Mapping[str, object]] = (),
) -> InferAnswer:
    """Give a segmenter's whole answer; of `labels`, uint8 [slices, rows, columns], `spacing_mm` apart.

    By default two slices of 4x5 pixels whose first row is the first segment.
    """
    if labels is None:
        labels = np.zeros((2, 4, 5), np.uint8)
        labels[:, 0] = 1
    slices, rows, columns = labels.shape
    geometry: dict[str, object] = {
        "modality": "MR",
        "series_instance_uid": "2.25.1",
        "slices": slices,
        "rows": rows,
        "columns": columns,
        "pixel_spacing_mm": spacing_mm[1:],
        "row_direction": [1, 0, 0],
        "column_direction": [0, 1, 0],
        "positions_mm": [[0, 0, spacing_mm[0] * number] for number in range(slices)],
        "sop_instance_uids": [f"2.25.2.{number}" for number in range(slices)],
        "frames": [0] * slices,
        "affine": [[0, 0, spacing_mm[2], 0], [0, spacing_mm[1], 0, 0], [spacing_mm[0], 0, 0, 0], [0, 0, 0, 1]],
        "tilt_degrees": 0.0,
    }
    notes = json.dumps({"warnings": list(warnings), "left_out": list(left_out), "geometry": geometry}).encode()
    card = card or fake_card((), "brain_mr", has_novelty=False, segments=segments)
    outputs: dict[str, NDArray[np.generic]] = {
        "SEGMENTATION": labels[None],
        "NOTES": np.frombuffer(notes, np.uint8)[None],
        "CARD": np.frombuffer(card, np.uint8)[None],
    }
    return InferAnswer(release, outputs)


def _segment(value: int, label: str) -> dict[str, object]:
    code = {"scheme": "99FAKE", "value": label.upper(), "meaning": label}
    category = {"scheme": "99FAKE", "value": "TISSUE", "meaning": "Tissue"}
    return {"value": value, "label": label, "codes": [code], "category": category, "colour": [value, 100, 200]}
