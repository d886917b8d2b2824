"""From probability to yes or no: one threshold a label, chosen on the validation split.

Shapes: N records, K labels.
"""

import numpy as np
from numpy.typing import NDArray

from .ranking import FloatArray, Ranking, rank

FALLBACK = 0.5


def choose_thresholds(
    probability: FloatArray, target: FloatArray, known: NDArray[np.bool_], target_recall: float | None = None
) -> NDArray[np.float64]:
    """Thresholds (K,) for probabilities (N, K) against targets (N, K) where known (N, K).

    Those of greatest F1, of equal F1 the highest; with `target_recall`, above 0 and at most 1, the highest that still
    reach this recall. Each lies midway between two scores, so that rounding in another backend flips no record. A label
    without positives gets `FALLBACK`. Raises ValueError if a probability is NaN.
    """
    assert target_recall is None or 0 < target_recall <= 1, target_recall
    columns = range(probability.shape[1])
    rankings = [rank(probability[known[:, k], k], target[known[:, k], k]) for k in columns]
    return np.array([_best_threshold(ranking, target_recall) for ranking in rankings], np.float64)


def _best_threshold(ranking: Ranking, target_recall: float | None) -> float:
    if ranking.positives == 0:
        return FALLBACK
    if target_recall is None:
        merit = 2 * ranking.true_positives / (ranking.predicted + ranking.positives)
    else:
        merit = ranking.true_positives / ranking.positives >= target_recall
    best = int(np.argmax(merit))
    score = float(ranking.score[best])
    below = float(ranking.score[best + 1]) if best + 1 < len(ranking.score) else 0.0
    middle = (score + below) / 2
    # Between neighbouring floats the middle rounds onto one of them, perhaps the one to be left out.
    return middle if middle > below else score
