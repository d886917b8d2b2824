"""How good probabilities are: per label, macro and micro, and in the two scores of public benchmarks.

Shapes: N records, K labels, T thresholds. A record counts for a label only where `known`.
What cannot be computed is None, never zero: AUROC and AUPRC need both classes, precision a predicted positive.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .challenge import challenge_score
from .ranking import FloatArray, auprc_of, auroc_of, rank

MEASURES = ("auroc", "auprc", "f1", "precision", "recall", "brier", "ece")
LOWER_IS_BETTER = frozenset({"brier", "ece"})
FREQUENT_POSITIVES = 10
ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Seven numbers between 0 and 1, of which those in `LOWER_IS_BETTER` are errors; None where undefined."""

    auroc: float | None
    auprc: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    brier: float | None
    """Mean squared distance between probability and truth."""
    ece: float | None
    """Expected calibration error, see `calibration_error`."""


@dataclass(frozen=True, kw_only=True)
class LabelMetrics(Measures):
    """One label on the records that know it; positive means a probability of at least `threshold`."""

    key: str
    records: int
    positives: int
    prevalence: float | None
    threshold: float

    @property
    def has_both_classes(self) -> bool:
        """Whether the label counts in macro means."""
        return 0 < self.positives < self.records


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Everything about one stream's predictions."""

    num_records: int
    labels: tuple[LabelMetrics, ...]
    macro: Measures
    """Means over the labels with both classes, each over those where the measure is defined."""
    macro_labels: dict[str, int]
    """Number of labels behind each macro mean."""
    macro_frequent: Measures
    """The same over `frequent` alone: a label with a handful of positives moves a mean by luck."""
    frequent: tuple[str, ...]
    """Keys of labels with both classes and at least `FREQUENT_POSITIVES` positives."""
    micro: Measures
    """All known (record, label) pairs pooled."""
    left_out: tuple[str, ...]
    """Keys of labels without both classes, which no macro mean counts."""
    fmax: float | None
    """Best F1 of records under one threshold for all labels, see `fmax`."""
    challenge_score: float | None
    """Of the CinC Challenge 2021; None where the label space does not cover its sinus rhythm."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def macro_auroc(score: FloatArray, target: FloatArray, known: NDArray[np.bool_]) -> float | None:
    """Mean AUROC over the labels with both classes; scores (N, K) may be logits. None if no label has both."""
    areas = [auroc_of(rank(score[known[:, k], k], target[known[:, k], k])) for k in range(score.shape[1])]
    return _mean([area for area in areas if area is not None])


def evaluate_predictions(
    probability: FloatArray,
    target: FloatArray,
    known: NDArray[np.bool_],
    label_keys: Sequence[str],
    thresholds: Sequence[float] | FloatArray,
    label_codes: Sequence[Sequence[str]] | None = None,
) -> EvaluationResult:
    """Measure probabilities (N, K) against targets (N, K) where known (N, K), with one threshold a label (K,).

    `label_codes`, the `system:code` of every label, are what the challenge score needs.
    """
    assert probability.shape == target.shape == known.shape, (probability.shape, target.shape, known.shape)
    assert probability.shape[1] == len(label_keys) == len(thresholds), (probability.shape, label_keys, thresholds)
    predicted = probability >= np.asarray(thresholds, np.float64)
    labels = tuple(
        _label_metrics(key, float(thresholds[k]), *(part[known[:, k], k] for part in (probability, target, predicted)))
        for k, key in enumerate(label_keys)
    )
    counted = [label for label in labels if label.has_both_classes]
    frequent = [label for label in counted if label.positives >= FREQUENT_POSITIVES]
    macro, macro_labels = _macro(counted)
    # The published scorer never meets a record without any label.
    rows = known.any(1)
    truth = (target > 0.5) & known
    return EvaluationResult(
        num_records=len(probability),
        labels=labels,
        macro=macro,
        macro_labels=macro_labels,
        macro_frequent=_macro(frequent)[0],
        frequent=tuple(label.key for label in frequent),
        micro=_measures(probability[known], target[known], predicted[known]),
        left_out=tuple(label.key for label in labels if not label.has_both_classes),
        fmax=fmax(probability, target, known),
        challenge_score=challenge_score(predicted[rows], truth[rows], label_codes or ()),
    )


def calibration_error(probability: FloatArray, target: FloatArray) -> float | None:
    """Distance between mean probability and share of positives, over `ECE_BINS` bins of equal width.

    Bins are weighted by their records; probabilities and targets (n,) are of the positive class (Naeini et al. 2015,
    doi:10.1609/aaai.v29i1.9602). None without records.
    """
    if not len(probability):
        return None
    bins = np.minimum((probability.astype(np.float64) * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    surplus = np.bincount(bins, weights=probability.astype(np.float64) - (target > 0.5), minlength=ECE_BINS)
    return float(np.abs(surplus).sum() / len(probability))


def fmax(probability: FloatArray, target: FloatArray, known: NDArray[np.bool_], num_steps: int = 100) -> float | None:
    """Greatest F1 over thresholds 0, 0.01, ..., 1, the same for all labels, as the PTB-XL benchmark counts it.

    Precision is averaged over the records with a claim, recall over all, and F1 is that of the two means (Strodthoff
    et al. 2020, doi:10.1109/JBHI.2020.3022989, `F_max` of https://github.com/helme/ecg_ptbxl_benchmarking). Records
    without a positive label, of which that benchmark has none, do not count. None if no record has one.
    """
    truth = (target > 0.5) & known
    rows = truth.any(1)
    truth, known, score = truth[rows], known[rows], probability[rows].astype(np.float64)
    if not len(truth):
        return None
    # A pair is claimed at the thresholds up to its score: how many, summed from the highest threshold down.
    levels = np.searchsorted(np.arange(num_steps + 1) * (1 / num_steps), score, side="right")
    cells = np.arange(len(score))[:, None] * (num_steps + 2) + levels

    def at_thresholds(pairs: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.bincount(cells[pairs], minlength=len(score) * (num_steps + 2)).reshape(len(score), -1)
        return counts[:, :0:-1].cumsum(1)

    hits, claims = at_thresholds(truth), at_thresholds(known)
    claimants = np.maximum((claims > 0).sum(0), 1)
    precision = (hits / np.maximum(claims, 1)).sum(0) / claimants
    recall = (hits / truth.sum(1, keepdims=True)).mean(0)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def _label_metrics(
    key: str, threshold: float, probability: FloatArray, target: FloatArray, predicted: NDArray[np.bool_]
) -> LabelMetrics:
    records, positives = len(target), int((target > 0.5).sum())
    return LabelMetrics(
        key=key,
        records=records,
        positives=positives,
        prevalence=positives / records if records else None,
        threshold=threshold,
        **asdict(_measures(probability, target, predicted)),
    )


def _measures(probability: FloatArray, target: FloatArray, predicted: NDArray[np.bool_]) -> Measures:
    """Of records pooled into one axis, all (n,)."""
    ranking = rank(probability, target)
    positive = target > 0.5
    hits, claims, positives = int((positive & predicted).sum()), int(predicted.sum()), int(positive.sum())
    return Measures(
        auroc=auroc_of(ranking),
        auprc=auprc_of(ranking),
        f1=2 * hits / (claims + positives) if claims + positives else None,
        precision=hits / claims if claims else None,
        recall=hits / positives if positives else None,
        brier=float(np.mean((probability.astype(np.float64) - positive) ** 2)) if len(positive) else None,
        ece=calibration_error(probability, target),
    )


def _macro(labels: Sequence[LabelMetrics]) -> tuple[Measures, dict[str, int]]:
    """Means over labels, and how many stand behind each."""
    defined = {name: [value for label in labels if (value := getattr(label, name)) is not None] for name in MEASURES}
    means = Measures(**{name: _mean(values) for name, values in defined.items()})
    return means, {name: len(values) for name, values in defined.items()}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
