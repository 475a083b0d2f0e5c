"""What a draft must reach; a small TOML file may say otherwise."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from wetread_release.errors import BadDraft

if TYPE_CHECKING:
    from pathlib import Path

DISABLED = math.inf


@dataclass(frozen=True)
class Limits:
    """The limits of the gate. Those of differences hold against the reference read in the same run.

    In the file each is a number under its name; `inf` (for those named min_: `-inf`) takes one away.
    """

    max_flips_percent: float = 1.0
    """Films of which any finding is decided otherwise than by the reference."""
    max_mean_difference: float = 0.03
    """Mean absolute difference of a probability to the reference's."""
    max_auc_drop: float = 0.005
    """Area under the ROC curve, reference minus draft; of the worst finding."""
    max_sensitivity_drop: float = 0.02
    """At each release's own threshold; of the worst finding."""
    max_specificity_drop: float = 0.03
    """The same."""
    max_calibration_rise: float = 0.02
    """Expected calibration error, draft minus reference; of the worst finding."""
    min_auc: float = -DISABLED
    """Of the draft alone, of the worst finding."""
    min_sensitivity: float = -DISABLED
    """Of the draft alone, of the worst finding."""
    min_specificity: float = -DISABLED
    """Of the draft alone, of the worst finding."""
    max_unread: float = 0.0
    """Films that the draft does not read although the reference does, or that nobody reads where there is none."""
    min_films: float = 16.0
    """Films that must have been read: fewer prove nothing."""
    max_latency_ratio: float = 2.0
    """Median of one film's time, over the reference's of the same run, where both have the same engine."""
    max_memory_ratio: float = 2.0
    """Memory of the models' processes, over the reference's, where both have the same engine."""

    @classmethod
    def load(cls, path: Path) -> Limits:
        """Read a TOML file; what it leaves out has its default.

        Raises:
            BadDraft: it cannot be read, or has an unknown key or a value that is no number; the message names it.
        """
        try:
            document = tomllib.loads(path.read_text())
        except OSError as error:
            raise BadDraft(f"{path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadDraft(f"{path}: {error}") from error
        known = [field.name for field in fields(cls)]
        for key, value in document.items():
            if key not in known:
                raise BadDraft(f"{path}: {key} is no limit; there are {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise BadDraft(f"{path}: {key} must be a number, is {value!r}")
        return cls(**{key: float(value) for key, value in document.items()})
