"""Whether probabilities can be taken at their word, as pictures: reliability of each label, and answers over coverage.

Shapes: N records, K labels, n records that know one label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p

import numpy as np
from numpy.typing import NDArray

from .abstention import CoverageCurve
from .metrics import ECE_BINS, FloatArray, calibration_error
from .plots import Chart, Line

_Z = 1.96
_LEAST_COVERAGE = 0.49
"""Below, so few positives of a label are answered that its F1 jumps."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Records of similar probability."""

    probability: float
    """Their mean."""
    observed: float
    """Share that has the label, with its 95 % Wilson interval."""
    low: float
    high: float
    records: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One label: shares over probabilities, in bins of equal width as those of ECE; empty where nothing is known."""

    key: str
    bins: tuple[Bin, ...]
    ece: float | None

    @property
    def line(self) -> str:
        """SVG points in a square of 100 x 100."""
        return " ".join(f"{100 * b.probability:.1f},{100 * (1 - b.observed):.1f}" for b in self.bins)

    @property
    def bars(self) -> list[tuple[float, float]]:
        """Left edge and height, both up to 100, of a bar for every bin; heights grow with the logarithm of records."""
        greatest = max((log1p(b.records) for b in self.bins), default=1.0)
        width = 100 / ECE_BINS
        return [
            (round(min(int(b.probability * ECE_BINS), ECE_BINS - 1) * width, 2), 100 * log1p(b.records) / greatest)
            for b in self.bins
        ]


def reliability_of(
    probability: FloatArray, target: FloatArray, known: NDArray[np.bool_], label_keys: Sequence[str]
) -> tuple[Reliability, ...]:
    """Reliability of every label from probabilities (N, K), targets (N, K) and where they are known (N, K)."""
    columns = [(probability[rows, k].astype(np.float64), target[rows, k] > 0.5) for k, rows in enumerate(known.T)]
    return tuple(
        Reliability(key=key, bins=_bins(*column), ece=calibration_error(*column))
        for key, column in zip(label_keys, columns, strict=True)
    )


def coverage_chart(curve: CoverageCurve) -> Chart:
    """How right the answers are if the least certain, up to half of them, are left to people."""
    shown = [place for place, share in enumerate(curve.coverage) if share >= _LEAST_COVERAGE]
    percent = [100 * curve.coverage[place] for place in shown]
    lines = (
        Line(name="macro F1 of the answers", x=percent, y=[curve.f1[place] for place in shown], color=3),
        Line(name="share of wrong answers", x=percent, y=[curve.error_rate[place] for place in shown], color=1),
    )
    return Chart(title="Leaving the least certain to people", x_label="% answered", lines=lines)


def _bins(probability: FloatArray, positive: NDArray[np.bool_]) -> tuple[Bin, ...]:
    place = np.minimum((probability * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    count, hits, total = (
        np.bincount(place, weights=weights, minlength=ECE_BINS) for weights in (None, positive, probability)
    )
    filled = np.flatnonzero(count)
    return tuple(_bin(int(count[i]), hits[i] / count[i], total[i] / count[i]) for i in filled)


def _bin(records: int, observed: float, probability: float) -> Bin:
    # Wilson 1927: unlike the normal approximation it stays between 0 and 1 for few records.
    centre = (observed + _Z**2 / (2 * records)) / (1 + _Z**2 / records)
    half = _Z / (1 + _Z**2 / records) * np.sqrt(observed * (1 - observed) / records + (_Z / (2 * records)) ** 2)
    return Bin(
        probability=float(probability), observed=float(observed), records=records,
        low=float(max(0, centre - half)), high=float(min(1, centre + half)),
    )  # fmt: skip
