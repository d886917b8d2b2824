"""Leaving the least certain to people: a band around each threshold in which a model gives no answer.

Shapes: N records, K labels, C coverages.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from .ranking import FloatArray, ratio

BoolArray = NDArray[np.bool_]

_CLOSEST = 1e-9
"""How near to 0 and 1 a probability is taken at its word: a calibrated one may be 0 or 1 itself."""
_COVERAGES = np.linspace(1.0, 0.05, 20)


@dataclass(frozen=True, kw_only=True)
class CoverageCurve:
    """How right a model is on what it answers; means over the labels with both classes, from full coverage down."""

    coverage: tuple[float, ...]
    """Share of the known records that is answered."""
    error_rate: tuple[float | None, ...]
    """Share of the answers that is wrong; None where nothing is answered."""
    f1: tuple[float | None, ...]
    """F1 of the answers, over the labels where it is defined; a rare label's may fall, being sure only of absence."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def abstention_band(
    probability: FloatArray, known: BoolArray, thresholds: FloatArray, coverage: float = 0.9
) -> NDArray[np.float64]:
    """Half-widths (K,) in logits of the bands that leave a share `coverage` of every label's known records answered.

    Chosen on the validation split from probabilities (N, K); truth has no part in it. Ties at a band's edge are
    answered, and so is everything of a label without known records.
    """
    assert 0 < coverage <= 1, coverage
    distance = _distance(probability, thresholds)
    return np.array([_width(np.sort(distance[known[:, k], k]), coverage) for k in range(distance.shape[1])])


def is_answered(probability: FloatArray, thresholds: FloatArray, widths: FloatArray) -> BoolArray:
    """Where (N, K) a model answers: its probability is at least `widths` (K,) logits away from the threshold (K,)."""
    return _distance(probability, thresholds) >= np.asarray(widths)


def open_band(thresholds: FloatArray, widths: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probabilities (K,) between which, both left out, `is_answered` says no."""
    limits = logit(np.clip(np.asarray(thresholds, np.float64), _CLOSEST, 1 - _CLOSEST))
    return expit(limits - widths), expit(limits + widths)


def coverage_curve(
    probability: FloatArray, target: FloatArray, known: BoolArray, thresholds: FloatArray
) -> CoverageCurve:
    """What abstaining buys, for probabilities (N, K), targets (N, K), known (N, K) and thresholds (K,)."""
    positive, claimed = target > 0.5, probability >= np.asarray(thresholds)
    records, positives = known.sum(0), (positive & known).sum(0)
    counted = (positives > 0) & (positives < records)
    positive, claimed, known = positive[:, counted], claimed[:, counted], known[:, counted]
    distance = _distance(probability, thresholds)[:, counted]
    ordered = [np.sort(distance[known[:, k], k]) for k in range(distance.shape[1])]
    points = []
    for coverage in _COVERAGES if counted.any() else ():
        answered = known & (distance >= [_width(column, coverage) for column in ordered])
        answers, wrong = answered.sum(0), (answered & (positive != claimed)).sum(0)
        hits = (answered & positive & claimed).sum(0)
        points.append((answers / records[counted], ratio(wrong, answers), ratio(2 * hits, 2 * hits + wrong)))
    coverages, errors, f1 = zip(*points, strict=True) if points else ((), (), ())
    return CoverageCurve(
        coverage=tuple(float(values.mean()) for values in coverages),
        error_rate=tuple(_mean(values) for values in errors),
        f1=tuple(_mean(values) for values in f1),
    )


def _distance(probability: FloatArray, thresholds: FloatArray) -> NDArray[np.float64]:
    """Logits (N, K) between probability and threshold."""
    ends = (_CLOSEST, 1 - _CLOSEST)
    limits = logit(np.clip(np.asarray(thresholds, np.float64), *ends))
    return np.abs(logit(np.clip(probability.astype(np.float64), *ends)) - limits)


def _width(distance: NDArray[np.float64], coverage: float) -> float:
    """Between the last distance that is left out and the first that is answered, of distances (n,) rising."""
    # Slack for products such as 0.9 * 10 that land a hair above a whole number.
    left_out = len(distance) - int(np.ceil(coverage * len(distance) - 1e-9))
    if left_out <= 0:
        return 0.0
    middle = (distance[left_out - 1] + distance[left_out]) / 2
    return float(middle if middle > distance[left_out - 1] else distance[left_out])


def _mean(values: FloatArray) -> float | None:
    return float(np.nanmean(values)) if not np.isnan(values).all() else None
