"""From probability to yes or no: one threshold a label, chosen on the validation split.

Shapes: N records, K labels.
"""

import numpy as np
from numpy.typing import NDArray

from .metrics import FloatArray, Ranking, rank

FALLBACK = 0.5


def choose_thresholds(probability: FloatArray, target: FloatArray, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Thresholds (K,) of greatest F1 for probabilities (N, K) against targets (N, K) where known (N, K).

    Each lies midway between two scores, so that rounding in another backend flips no record; of equal F1 the highest
    wins. A label without positives gets `FALLBACK`. Raises ValueError if a probability is NaN.
    """
    columns = range(probability.shape[1])
    rankings = [rank(probability[known[:, k], k], target[known[:, k], k]) for k in columns]
    return np.array([_best_threshold(ranking) for ranking in rankings], np.float64)


def _best_threshold(ranking: Ranking) -> float:
    if ranking.positives == 0:
        return FALLBACK
    f1 = 2 * ranking.true_positives / (ranking.predicted + ranking.positives)
    best = int(np.argmax(f1))
    score = float(ranking.score[best])
    below = float(ranking.score[best + 1]) if best + 1 < len(ranking.score) else 0.0
    middle = (score + below) / 2
    # Between neighbouring floats the middle rounds onto one of them, perhaps the one to be left out.
    return middle if middle > below else score
