"""How good probabilities are: per label, macro and micro.

Shapes: N records, K labels, m distinct scores of one label. A record counts for a label only where `known`.
What cannot be computed is None, never zero: AUROC and AUPRC need both classes, precision a predicted positive.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

MEASURES = ("auroc", "auprc", "f1", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Five numbers between 0 and 1; None where undefined."""

    auroc: float | None
    auprc: float | None
    f1: float | None
    precision: float | None
    recall: float | None


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
    micro: Measures
    """All known (record, label) pairs pooled."""
    left_out: tuple[str, ...]
    """Keys of labels without both classes, which no macro mean counts."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


class Ranking(NamedTuple):
    """One label's records from the highest score down: what every threshold on a distinct score would find."""

    score: FloatArray
    """(m,) falling."""
    true_positives: NDArray[np.int64]
    """(m,) positives with at least this score."""
    predicted: NDArray[np.int64]
    """(m,) records with at least this score."""

    @property
    def positives(self) -> int:
        """Positive records."""
        return int(self.true_positives[-1]) if len(self.score) else 0

    @property
    def negatives(self) -> int:
        """Negative records."""
        return int(self.predicted[-1]) - self.positives if len(self.score) else 0

    def roc(self) -> tuple[FloatArray, FloatArray]:
        """False and true positive rate, both (m + 1,), from the corner (0, 0); needs both classes."""
        false_rate = (self.predicted - self.true_positives) / self.negatives
        return np.r_[0.0, false_rate], np.r_[0.0, self.true_positives / self.positives]

    def precision_recall(self) -> tuple[FloatArray, FloatArray]:
        """Recall and precision, both (m,), recall rising; needs a positive."""
        return self.true_positives / self.positives, self.true_positives / self.predicted


def rank(score: FloatArray, target: FloatArray) -> Ranking:
    """Rank records (n,) by score (n,) against targets of 0 and 1 (n,); raises ValueError if a score is NaN."""
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN; the model's output is not finite"
        )
    order = np.argsort(-score, kind="stable")
    score = score[order]
    last_of_tie = np.flatnonzero(np.r_[score[1:] != score[:-1], True][: len(score)])
    return Ranking(score[last_of_tie], np.cumsum(target[order] > 0.5, dtype=np.int64)[last_of_tie], last_of_tie + 1)


def auroc_of(ranking: Ranking) -> float | None:
    """Area under the ROC curve, ties counting half; None without both classes."""
    if not (ranking.positives and ranking.negatives):
        return None
    false_rate, true_rate = ranking.roc()
    return float(np.trapezoid(true_rate, false_rate))


def auprc_of(ranking: Ranking) -> float | None:
    """Average precision, the step-wise area under the precision-recall curve; None without both classes."""
    if not (ranking.positives and ranking.negatives):
        return None
    recall, precision = ranking.precision_recall()
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


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
) -> EvaluationResult:
    """Measure probabilities (N, K) against targets (N, K) where known (N, K), with one threshold a label (K,)."""
    assert probability.shape == target.shape == known.shape, (probability.shape, target.shape, known.shape)
    assert probability.shape[1] == len(label_keys) == len(thresholds), (probability.shape, label_keys, thresholds)
    limits = np.asarray(thresholds, np.float64)
    labels = []
    for k, key in enumerate(label_keys):
        rows = known[:, k]
        measures = _measures(probability[rows, k], target[rows, k], probability[rows, k] >= limits[k])
        records, positives = int(rows.sum()), int((target[rows, k] > 0.5).sum())
        prevalence = positives / records if records else None
        labels.append(
            LabelMetrics(
                key=key,
                records=records,
                positives=positives,
                prevalence=prevalence,
                threshold=float(limits[k]),
                **asdict(measures),
            )
        )
    counted = {
        name: [value for label in labels if label.has_both_classes and (value := getattr(label, name)) is not None]
        for name in MEASURES
    }
    return EvaluationResult(
        num_records=len(probability),
        labels=tuple(labels),
        macro=Measures(**{name: _mean(values) for name, values in counted.items()}),
        macro_labels={name: len(values) for name, values in counted.items()},
        micro=_measures(probability[known], target[known], (probability >= limits)[known]),
        left_out=tuple(label.key for label in labels if not label.has_both_classes),
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
    )


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
