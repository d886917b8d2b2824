"""What the conditions of pages cost a model: its measures under each, and what is lost against clean pages.

Shapes: N records, K labels.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Difference, Interval, bootstrap_intervals, paired_bootstrap
from .metrics import FloatArray, evaluate_predictions

CLEAN = "clean"
"""What the others are compared with."""
MEASURES = ("auroc", "auprc", "f1")
MEANINGS = {
    CLEAN: "as printed",
    "scan-colour": "colour scan",
    "scan-bw": "black-and-white scan",
    "photo-clean": "photo of a clean print",
    "photo-stained": "photo of a stained print",
    "photo-crumpled": "photo of a deteriorated print",
    "screen-photo": "photo of a screen",
}


@dataclass(frozen=True, kw_only=True)
class ConditionPage:
    """One record's page under a condition, as the model sees it."""

    condition: str
    record_id: str
    picture: bytes
    """JPEG."""


@dataclass(frozen=True, kw_only=True)
class ConditionScores:
    """Macro means of the deployed stream under one condition, at the bundle's thresholds."""

    condition: str
    macro: dict[str, float | None]
    """By measure; None where no label has both classes."""
    intervals: dict[str, Interval | None]
    differences: dict[str, Difference]
    """This condition minus clean pages, on the same resamples of patients; empty for clean pages themselves."""

    @property
    def meaning(self) -> str:
        """For people."""
        return MEANINGS[self.condition]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """A model on the same records, page after page made worse."""

    scores: tuple[ConditionScores, ...]
    """Clean pages first."""
    pages: tuple[ConditionPage, ...]
    prints: str
    """How the records were printed, for people."""
    records: int
    without_signal: int
    """Records that are left out, since only a signal can be printed anew."""
    patients: int
    num_resamples: int

    @property
    def told(self) -> str:
        """What was measured, for people."""
        left_out = f" {self.without_signal:,} records without a signal are left out." if self.without_signal else ""
        return (
            f"{self.records:,} records, printed anew from their signals, {self.prints}, then scanned or photographed; "
            f"every model meets the same prints. Macro means, at the bundle's thresholds.{left_out}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the pictures."""
        values = asdict(self)
        del values["pages"]
        return values

    def to_csv(self) -> str:
        """One line a condition; empty where undefined, as are the differences of clean pages from themselves."""
        file = io.StringIO()
        ends = ("", "_low", "_high", "_difference", "_difference_low", "_difference_high", "_p")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["condition", "records", *(name + end for name in MEASURES for end in ends)])
        for line in self.scores:
            numbers = [number for name in MEASURES for number in _numbers(line, name)]
            writer.writerow([line.condition, self.records, *("" if n is None else f"{n:.6f}" for n in numbers)])
        return file.getvalue()


def score_conditions(
    probability: Mapping[str, FloatArray],
    target: FloatArray,
    known: NDArray[np.bool_],
    label_keys: Sequence[str],
    thresholds: Sequence[float],
    patients: NDArray[np.integer],
    num_resamples: int = 1000,
) -> tuple[ConditionScores, ...]:
    """Scores from probabilities (N, K) by condition, clean pages among them, of the same records."""
    clean = probability[CLEAN]
    truth, limits = (target, known), (thresholds, thresholds)
    found = []
    for name, values in probability.items():
        result = evaluate_predictions(values, *truth, label_keys, thresholds)
        spread = bootstrap_intervals(values, *truth, label_keys, thresholds, patients, num_resamples).macro
        lost = paired_bootstrap(values, clean, *truth, *limits, patients, num_resamples) if name != CLEAN else {}
        found.append(
            ConditionScores(
                condition=name,
                macro={measure: getattr(result.macro, measure) for measure in MEASURES},
                intervals={measure: spread[measure] for measure in MEASURES},
                differences={measure: lost[measure] for measure in MEASURES if lost},
            )
        )
    return tuple(found)


def _numbers(line: ConditionScores, measure: str) -> list[float | None]:
    """Value, its interval, difference from clean pages, its interval and p."""
    interval, difference = line.intervals[measure], line.differences.get(measure)
    ends = [interval.low, interval.high] if interval else [None, None]
    if difference is None:
        return [line.macro[measure], *ends, None, None, None, None]
    reach = difference.interval
    other_ends = [reach.low, reach.high] if reach else [None, None]
    return [line.macro[measure], *ends, difference.value, *other_ends, difference.p_value]
