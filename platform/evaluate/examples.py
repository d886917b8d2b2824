"""Which pages a report shows: one that the model reads rightly for each label, and its surest mistakes.

Shapes: N records, K labels.
"""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..bundle import Bundle
from ..data.dataset_info import filesystem_of, shard_files
from ..data.splits import SPLITS
from .predict import Predictions
from .report import ExamplePage

_MAX_LABELS = 7
_NUM_MISTAKES = 3


def example_pages(bundle: Bundle, predictions: Predictions, shards: Path | str, split: str) -> tuple[ExamplePage, ...]:
    """The chosen pages with their probabilities and truth."""
    chosen = choose_examples(predictions, bundle)
    pages = _read_pages(shards, split, [predictions.record_id[n] for n in chosen])
    return tuple(
        ExamplePage(
            title=predictions.record_id[n],
            page=pages[predictions.record_id[n]],
            probabilities=_by_key(bundle, predictions.probability[bundle.deployed_stream][n]),
            thresholds=_by_key(bundle, np.array(bundle.thresholds)),
            truth={
                key: bool(predictions.target[n, k]) if predictions.known[n, k] else None
                for k, key in enumerate(bundle.label_space.keys)
            },
        )
        for n in chosen
    )


def choose_examples(predictions: Predictions, bundle: Bundle) -> list[int]:
    """Rows (n,): the most typical right reading of each label, then the records that are farthest from the truth."""
    probability = predictions.probability[bundle.deployed_stream]
    positive = (predictions.target > 0.5) & predictions.known
    wrong = ((probability >= np.array(bundle.thresholds)) != positive) & predictions.known
    chosen: list[int] = []
    for k in range(min(_MAX_LABELS, probability.shape[1])):
        candidates = np.flatnonzero(positive[:, k] & ~wrong.any(1))
        left = candidates[~np.isin(candidates, chosen)]
        if len(left):
            # The median, not the surest: what a reader will meet.
            chosen.append(int(left[np.argsort(probability[left, k])[len(left) // 2]]))
    distance = np.where(wrong, np.abs(probability - predictions.target), 0).max(1)
    mistakes = [int(n) for n in np.argsort(-distance)[:_NUM_MISTAKES] if distance[n] > 0 and n not in chosen]
    return chosen + mistakes


def _by_key(bundle: Bundle, values: np.ndarray) -> dict[str, float]:
    return {key: float(value) for key, value in zip(bundle.label_space.keys, values, strict=True)}


def _read_pages(shards: Path | str, split: str, record_ids: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    splits = SPLITS if split == "all" else (split,)
    for file in (file for name in splits for file in shard_files(shards, name)):
        filesystem, path = filesystem_of(file)
        ids = pq.read_table(path, columns=["record_id"], filesystem=filesystem)["record_id"]
        if not pc.any(pc.is_in(ids, pc.cast(record_ids, "string"))).as_py():
            continue
        rows = pq.read_table(path, columns=["record_id", "page"], filters=[("record_id", "in", record_ids)],
                             filesystem=filesystem)  # fmt: skip
        found |= dict(zip(rows["record_id"].to_pylist(), rows["page"].to_pylist(), strict=True))
    return found
