"""How far luck reaches: intervals of every measure, and of the difference between two models, over patients.

Patients are drawn, not records: those of one patient resemble each other, and drawing them apart would make intervals
too narrow. A resample is a weight for each record, so all measures come from one sorting and sums over weights.
Intervals are percentiles of the resamples (Efron and Tibshirani 1993, An Introduction to the Bootstrap).

Shapes: N records, K labels, R resamples, P patients, n records that know one label, m distinct scores among them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ranking import FloatArray, average_precisions, order_of, ratio, roc_areas

BoolArray = NDArray[np.bool_]
Samples = dict[str, NDArray[np.float64]]
"""By measure: (R, K) of labels, or (R,) of macro means; NaN where undefined."""

MEASURES = ("auroc", "auprc", "f1", "precision", "recall", "brier")
"""All but the calibration error, which every resample inflates."""
_BLOCK = 250_000
"""Weights at a time: 2 MB, so that the passes over them stay in a core's cache."""
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the resamples lie."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """By measure; None where no resample defines it."""

    macro: dict[str, Interval | None]
    labels: dict[str, dict[str, Interval | None]]
    """By label key, then measure."""
    num_resamples: int
    num_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second; None where undefined for one of the two."""

    value: float | None
    interval: Interval | None
    p_value: float | None
    """Two-sided: twice the share of resamples on the rarer side of zero."""


def bootstrap_intervals(
    probability: FloatArray,
    target: FloatArray,
    known: BoolArray,
    label_keys: Sequence[str],
    thresholds: Sequence[float] | FloatArray,
    patients: NDArray[np.integer],
    num_resamples: int = 1000,
    seed: int = 0,
) -> Intervals:
    """Intervals for what `evaluate_predictions` measures; `patients` (N,) numbers the patient of each record.

    A resample's macro means count the labels that have both classes in it, as those of the whole do.
    """
    scores = _prepare(probability, target, known, thresholds)
    measured = [_measure(scores, weights) for weights in _weights(patients, num_resamples, seed)]
    labels = _joined([by_label for by_label, _ in measured])
    macro = _joined([means for _, means in measured])
    return Intervals(
        macro={name: _interval(values) for name, values in macro.items()},
        labels={
            key: {name: _interval(values[:, k]) for name, values in labels.items()} for k, key in enumerate(label_keys)
        },
        num_resamples=num_resamples,
        num_patients=len(np.unique(patients)),
    )


def paired_bootstrap(
    first: FloatArray,
    second: FloatArray,
    target: FloatArray,
    known: BoolArray,
    first_thresholds: Sequence[float] | FloatArray,
    second_thresholds: Sequence[float] | FloatArray,
    patients: NDArray[np.integer],
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """By measure, how the macro means of two models (N, K) differ on the same records and the same resamples.

    A label counts where it is defined for both: a model that never claims one gains nothing by its missing precision.
    """
    ours = _prepare(first, target, known, first_thresholds)
    theirs = _prepare(second, target, known, second_thresholds)

    def differences(weights: NDArray[np.float64]) -> Samples:
        own, other = _measure(ours, weights)[0], _measure(theirs, weights)[0]
        both_classes = _both_classes(ours, weights)
        return {name: _mean(np.where(both_classes, own[name] - other[name], np.nan)) for name in MEASURES}

    values = differences(np.ones((1, len(first))))
    samples = _joined([differences(weights) for weights in _weights(patients, num_resamples, seed)])
    return {name: _difference(float(values[name][0]), samples[name]) for name in MEASURES}


class _Scores(NamedTuple):
    """One model's predictions, made ready for any weights."""

    sums: tuple[NDArray[np.float64], ...]
    """(N, K) each: known, positive, claimed, both of these, squared error."""
    orders: tuple[tuple[NDArray[np.intp], NDArray[np.intp], BoolArray], ...]
    """By label: records (n,) from the highest score down, where ties end (m,), and which of them are positive (n,)."""


def _prepare(
    probability: FloatArray, target: FloatArray, known: BoolArray, thresholds: Sequence[float] | FloatArray
) -> _Scores:
    positive = (target > 0.5) & known
    claimed = (probability >= np.asarray(thresholds, np.float64)) & known
    error = np.where(known, (probability.astype(np.float64) - positive) ** 2, 0)
    orders = []
    for k in range(target.shape[1]):
        rows = np.flatnonzero(known[:, k])
        order, last_of_tie = order_of(probability[rows, k])
        orders.append((rows[order], last_of_tie, positive[rows[order], k]))
    parts = (known, positive, claimed, positive & claimed, error)
    return _Scores(tuple(part.astype(np.float64) for part in parts), tuple(orders))


def _measure(scores: _Scores, weights: NDArray[np.float64]) -> tuple[Samples, Samples]:
    """Measures of the labels and their macro means, under weights (R, N)."""
    records, positives, claims, hits, error = (weights @ part for part in scores.sums)
    areas = np.array([_areas(weights, *order) for order in scores.orders], np.float64)
    labels: Samples = {
        "auroc": areas[:, 0].T,
        "auprc": areas[:, 1].T,
        "f1": ratio(2 * hits, claims + positives),
        "precision": ratio(hits, claims),
        "recall": ratio(hits, positives),
        "brier": ratio(error, records),
    }
    both_classes = _both_classes(scores, weights)
    return labels, {name: _mean(np.where(both_classes, values, np.nan)) for name, values in labels.items()}


def _both_classes(scores: _Scores, weights: NDArray[np.float64]) -> BoolArray:
    """(R, K): which labels count in macro means."""
    records, positives = (weights @ part for part in scores.sums[:2])
    return (positives > 0) & (positives < records)


def _areas(
    weights: NDArray[np.float64], order: NDArray[np.intp], last_of_tie: NDArray[np.intp], positive: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """AUROC and average precision (R,) of one label."""
    if not len(order):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    taken = weights[:, order]
    predicted, hits = np.cumsum(taken, 1), np.cumsum(taken * positive, 1)
    if len(last_of_tie) < len(order):
        predicted, hits = predicted[:, last_of_tie], hits[:, last_of_tie]
    return roc_areas(hits, predicted), average_precisions(hits, predicted)


def _weights(patients: NDArray[np.integer], num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks (R, N) of how often each record's patient is drawn."""
    distinct, number = np.unique(patients, return_inverse=True)
    num_patients, rng = len(distinct), np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(1, len(patients)))
    for start in range(0, num_resamples, rows):
        count = min(rows, num_resamples - start)
        draws = rng.integers(max(1, num_patients), size=(count, num_patients))
        cells = (draws + num_patients * np.arange(count)[:, None]).ravel()
        drawn = np.bincount(cells, minlength=count * num_patients).reshape(count, num_patients)
        yield drawn[:, number].astype(np.float64)


def _joined(blocks: list[Samples]) -> Samples:
    return {name: np.concatenate([block[name] for block in blocks]) for name in MEASURES}


def _interval(samples: NDArray[np.float64]) -> Interval | None:
    defined = samples[~np.isnan(samples)]
    return Interval(*(float(end) for end in np.percentile(defined, _TAILS))) if len(defined) else None


def _difference(value: float, samples: NDArray[np.float64]) -> Difference:
    defined = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(defined):
        return Difference(value=None, interval=None, p_value=None)
    # The whole counts as one resample more: no finite number of them proves that a difference cannot be luck.
    rarer = 1 + min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    p_value = min(1.0, 2 * rarer / (len(defined) + 1))
    return Difference(value=value, interval=_interval(samples), p_value=p_value)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (R,) of what is defined of (R, K)."""
    return ratio(np.nansum(values, 1), (~np.isnan(values)).sum(1))
