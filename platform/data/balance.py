"""Class-balanced sampling: how often a record is trained on in an epoch, by how rare its labels are.

Shapes: N records of a split in the order of its shards, K labels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..config import NUM_LANES
from ..storage import filesystem_of
from .labels import LabelSpace


def row_weights(files: Sequence[str], label_space: LabelSpace, balance: float) -> NDArray[np.float64]:
    """Sampling weight (N,) of every record of some shards: the mean of `label_weights` over its labels.

    A record without a label weighs what the commonest label does. Reads the codes alone.
    """
    with ThreadPoolExecutor(8) as pool:
        codes = [record for column in pool.map(_codes, files) for record in column]
    target = np.stack([label_space.targets(record, ())[0] for record in codes])
    weights = label_weights(target, balance)
    num_labels = target.sum(axis=1)
    means = target @ weights / np.maximum(num_labels, 1)
    return np.where(num_labels > 0, means, weights.min())


def label_weights(target: NDArray[np.float32], balance: float) -> NDArray[np.float64]:
    """(K,) from (N, K) targets: 1 / frequency to the power of `balance`, from 0 (all alike) to 1."""
    frequency = np.maximum(target.sum(axis=0, dtype=np.float64), 1) / len(target)
    return frequency**-balance


def balanced_counts(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """How often every record comes in an epoch: (N,), in sum N, in expectation N * weight / sum of weights.

    Systematic resampling (Kitagawa 1996): one random number for all, so a count is off its expectation by less than
    one. A pure function of its arguments.
    """
    ends = np.cumsum(weights) * (len(weights) / weights.sum())
    ends = np.append(np.minimum(ends[:-1], len(weights)), len(weights))
    # No lane has this number, so that no window is shuffled by the same random numbers (order.py).
    offset = np.random.default_rng([seed, epoch, NUM_LANES]).random()
    return np.diff(np.floor(ends + offset), prepend=0.0).astype(np.int64)


def _codes(file: str) -> list[list[str]]:
    filesystem, path = filesystem_of(file)
    return pq.read_table(path, columns=["codes"], filesystem=filesystem)["codes"].to_pylist()
