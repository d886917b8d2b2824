"""Records in the order of their scores, and the areas under the curves that this order draws.

Shapes: n records of one label, m distinct scores among them, ... leading axes, such as resamples with weights.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


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


def order_of(score: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Records (n,) from the highest score down, and the places (m,) in that order where a run of equal scores ends.

    Raises ValueError if a score is NaN.
    """
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN; the model's output is not finite"
        )
    order = np.argsort(-score, kind="stable")
    score = score[order]
    return order, np.flatnonzero(np.r_[score[1:] != score[:-1], True][: len(score)])


def rank(score: FloatArray, target: FloatArray) -> Ranking:
    """Rank records (n,) by score (n,) against targets of 0 and 1 (n,); raises ValueError if a score is NaN."""
    order, last_of_tie = order_of(score)
    hits = np.cumsum(target[order] > 0.5, dtype=np.int64)
    return Ranking(score[order[last_of_tie]], hits[last_of_tie], last_of_tie + 1)


def auroc_of(ranking: Ranking) -> float | None:
    """Area under the ROC curve, ties counting half; None without both classes."""
    if not (ranking.positives and ranking.negatives):
        return None
    return float(roc_areas(ranking.true_positives, ranking.predicted))


def auprc_of(ranking: Ranking) -> float | None:
    """Average precision, the step-wise area under the precision-recall curve; None without both classes."""
    if not (ranking.positives and ranking.negatives):
        return None
    return float(average_precisions(ranking.true_positives, ranking.predicted))


def roc_areas(true_positives: NDArray[np.number], predicted: NDArray[np.number]) -> FloatArray:
    """Areas (...) under ROC curves from counts (..., m) as `Ranking` has them; NaN without both classes."""
    positives = true_positives[..., -1]
    negatives = predicted[..., -1] - positives
    # Whole numbers until the division: exact in whatever order they are summed.
    widths = np.diff(predicted - true_positives, prepend=0)
    twice_area = (widths * (2 * true_positives - np.diff(true_positives, prepend=0))).sum(-1)
    return ratio(twice_area, 2 * positives * negatives)


def average_precisions(true_positives: NDArray[np.number], predicted: NDArray[np.number]) -> FloatArray:
    """Average precision (...) from counts (..., m) as `Ranking` has them; NaN without both classes."""
    positives = true_positives[..., -1]
    # At weight zero nothing is predicted yet, nor hit.
    precision = true_positives / np.maximum(predicted, 1)
    steps = (np.diff(true_positives, prepend=0) * precision).sum(-1)
    return ratio(steps, np.where(predicted[..., -1] > positives, positives, 0))


def ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> NDArray[np.float64]:
    """Element by element; NaN where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
