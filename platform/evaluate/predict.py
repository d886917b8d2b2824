"""Predictions on the records of a dataset, by every stream of the model, with their targets.

Shapes: N records, K labels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..bundle import check_bundle
from ..data.batches import RowGroup, Window, as_row, epoch_plan, read_window
from ..data.dataset_info import load_dataset_info, read_row_index
from ..data.decode import BatchDecoder
from ..data.splits import SPLITS
from ..errors import UserError
from ..predictor import Predictor
from ..ray_session import actor_pool, share_of_cores, start_ray

_WINDOW_ROWS = 128
_BATCH_ROWS = 32


@dataclass(frozen=True)
class Predictions:
    record_id: list[str]
    probability: dict[str, np.ndarray]
    """float32 (N, K) by stream."""
    target: np.ndarray
    """float32 (N, K)"""
    known: np.ndarray
    """bool (N, K)"""


def predict_split(bundle: Path | str, shards: Path | str, split: str, num_actors: int = 1) -> Predictions:
    """Predictions of a bundle on one split (or `all`), by `num_actors` predictors on Ray Data, in the shards' order.

    Raises:
        UserError: no bundle, a damaged one, no shards, or no record in that split.
    """
    import ray

    bundle = Path(bundle).absolute()
    facts, info = check_bundle(bundle), load_dataset_info(shards)
    if facts.sampling_rate_hz not in (None, info.sampling_rate_hz):
        raise UserError(
            f"{shards}: its signals have {info.sampling_rate_hz:g} Hz and the model learnt from "
            f"{facts.sampling_rate_hz:g} Hz; write the shards with --sampling-rate-hz {facts.sampling_rate_hz:g}"
        )
    splits = SPLITS if split == "all" else (split,)
    windows = _windows([RowGroup(*group) for name in splits for group in read_row_index(shards, name)])
    if not windows:
        raise UserError(f"{shards}: the {split} split holds no record; choose another with --split")
    start_ray(min_cpus=num_actors + 1)
    rows = ray.data.from_items([as_row(window) for window in windows], override_num_blocks=len(windows)).map_batches(
        read_window, batch_size=1, batch_format="pyarrow"
    )
    dataset = actor_pool(
        rows, SplitPredictor, num_actors, (str(bundle), num_actors), batch_size=_BATCH_ROWS, batch_format="pyarrow"
    )
    return _joined(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))


def predict_windows(predictor: Predictor, row_groups: Sequence[RowGroup]) -> Predictions:
    """The same within this process."""
    decoder = decoder_of(predictor)
    tables = (
        predict_rows(predictor, decoder, rows.slice(start, _BATCH_ROWS))
        for rows in (read_window(pa.Table.from_pylist([as_row(window)])) for window in _windows(row_groups))
        for start in range(0, len(rows), _BATCH_ROWS)
    )
    return _joined(tables)


class SplitPredictor:
    """Ray Data actor: rows of shards -> their predictions."""

    def __init__(self, bundle: str, num_actors: int):
        self._predictor = Predictor.load(bundle, num_threads=share_of_cores(num_actors))
        self._decoder = decoder_of(self._predictor)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return predict_rows(self._predictor, self._decoder, rows)


def decoder_of(predictor: Predictor) -> BatchDecoder:
    return BatchDecoder(predictor.bundle.label_space, predictor.bundle.page)


def predict_rows(predictor: Predictor, decoder: BatchDecoder, rows: pa.Table) -> pa.Table:
    """One batch: columns record_id, target, known, and `p_<stream>`, each a list per record."""
    batch = decoder.batch(rows, len(rows))
    columns: dict[str, Any] = {
        "record_id": batch.record_id,
        "target": batch.target.tolist(),
        "known": batch.target_known.tolist(),
    }
    for stream, probability in predictor.predict_streams(batch).items():
        columns[f"p_{stream}"] = pa.array(probability.tolist(), pa.list_(pa.float32()))
    return pa.table(columns)


def _windows(row_groups: Sequence[RowGroup]) -> list[Window]:
    return [w for lane in epoch_plan(row_groups, 0, 0, _WINDOW_ROWS, shuffle=False) for w in lane]


def _joined(tables: Iterable[pa.Table]) -> Predictions:
    whole = pa.concat_tables(tables)
    arrays = {name: np.array(whole[name].to_pylist()) for name in whole.column_names if name != "record_id"}
    return Predictions(
        record_id=whole["record_id"].to_pylist(),
        probability={name[2:]: arrays[name].astype(np.float32) for name in arrays if name.startswith("p_")},
        target=arrays["target"].astype(np.float32),
        known=arrays["known"].astype(bool),
    )
