"""Predictions on the records of a dataset, by every stream of the model, with their targets.

Shapes: N records, K labels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...models.batch import EcgBatch
from ..bundle import check_bundle
from ..data.batches import COLUMNS, as_row, read_rows, read_window
from ..data.dataset_info import load_dataset_info, read_row_index
from ..data.decode import BatchDecoder
from ..data.order import RowGroup, Window, epoch_plan
from ..data.splits import SPLITS
from ..errors import UserError
from ..predictor import Predictor
from ..ray_session import actor_pool, share_of_cores, start_ray

_WINDOW_ROWS = 128
_BATCH_ROWS = 32
_TRAITS = ("patient_id", "age", "sex", "source", "page_layout", "signal_known")
_COLUMNS = tuple(dict.fromkeys((*COLUMNS, *_TRAITS)))

ReadRows = Callable[[Predictor, BatchDecoder, pa.Table], pa.Table]
"""One batch of rows of shards -> its predictions, as `predict_rows` gives them."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    record_id: list[str]
    probability: dict[str, np.ndarray]
    """float32 (N, K) by stream, calibrated."""
    logits: dict[str, np.ndarray]
    """float32 (N, K) by stream, as the model gives them."""
    target: np.ndarray
    """float32 (N, K)"""
    known: np.ndarray
    """bool (N, K)"""
    signal_known: np.ndarray
    """bool (N,)"""
    patients: np.ndarray
    """int64 (N,): equal where the patient is; numbers by first appearance, without meaning beyond this."""
    age: np.ndarray
    """float32 (N,) in years, NaN where unknown."""
    sex: list[str | None]
    source: list[str]
    page_layout: list[str]

    def __len__(self) -> int:
        return len(self.record_id)

    def known_to(self, stream: str) -> np.ndarray:
        """bool (N, K): what a stream can be measured on; one that reads signals needs a record that has its signal."""
        return known_to(stream, self.known, self.signal_known)

    def seen_by(self, stream: str) -> np.ndarray:
        """bool (N,): the records of which a stream has something to read."""
        return np.ones(len(self), bool) if stream == "image" else self.signal_known


def known_to(stream: str, known: np.ndarray, signal_known: np.ndarray) -> np.ndarray:
    """The same of bool (N, K) and (N,)."""
    return known if stream == "image" else known & signal_known[:, None]


def predict_split(
    bundle: Path | str, shards: Path | str, split: str, num_actors: int = 1, read: ReadRows | None = None
) -> Predictions:
    """Predictions of a bundle on one split (or `all`), by `num_actors` predictors on Ray Data, in the shards' order.

    `read` asks the model something else about the rows than `predict_rows` does.

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
        read_window, batch_size=1, batch_format="pyarrow", fn_kwargs={"columns": _COLUMNS}
    )
    dataset = actor_pool(
        rows, SplitPredictor, num_actors, (str(bundle), num_actors, read or predict_rows),
        batch_size=_BATCH_ROWS, batch_format="pyarrow",
    )  # fmt: skip
    return joined(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))


def predict_windows(predictor: Predictor, row_groups: Sequence[RowGroup]) -> Predictions:
    """The same within this process."""
    decoder = decoder_of(predictor)
    tables = (
        predict_rows(predictor, decoder, rows.slice(start, _BATCH_ROWS))
        for rows in (read_rows(window, _COLUMNS) for window in _windows(row_groups))
        for start in range(0, len(rows), _BATCH_ROWS)
    )
    return joined(tables)


class SplitPredictor:
    """Ray Data actor: rows of shards -> their predictions."""

    def __init__(self, bundle: str, num_actors: int, read: ReadRows):
        self._predictor = Predictor.load(bundle, num_threads=share_of_cores(num_actors))
        self._decoder = decoder_of(self._predictor)
        self._read = read

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self._read(self._predictor, self._decoder, rows)


def decoder_of(predictor: Predictor) -> BatchDecoder:
    return BatchDecoder(predictor.bundle.label_space, predictor.bundle.page)


def predict_rows(predictor: Predictor, decoder: BatchDecoder, rows: pa.Table) -> pa.Table:
    """One batch: record_id, target, known, `p_<stream>` and `l_<stream>` as a list per record, and `_TRAITS`."""
    batch = decoder.batch(rows)
    logits = predictor.predict_logits(batch)
    return prediction_table(rows, batch, predictor.calibrated(logits), logits)


def prediction_table(
    rows: pa.Table, batch: EcgBatch, probability: dict[str, np.ndarray], logits: dict[str, np.ndarray]
) -> pa.Table:
    """Rows and what they became with what a model said of them, (B, K) by stream."""
    columns: dict[str, Any] = {"record_id": batch.record_id, **{name: rows[name] for name in _TRAITS}}
    matrices = {"target": batch.target.numpy(), "known": batch.target_known.numpy()}
    matrices |= {f"p_{stream}": values for stream, values in probability.items()}
    matrices |= {f"l_{stream}": values for stream, values in logits.items()}
    for name, matrix in matrices.items():
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    return pa.table(columns)


def _windows(row_groups: Sequence[RowGroup]) -> list[Window]:
    return [w for lane in epoch_plan(row_groups, 0, 0, _WINDOW_ROWS, shuffle=False) for w in lane]


def joined(tables: Iterable[pa.Table]) -> Predictions:
    """Batches of `prediction_table`, in order, as one."""
    whole = pa.concat_tables(tables)
    matrices = {
        name: whole[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(whole), -1)
        for name in whole.column_names
        if name in ("target", "known") or name[:2] in ("p_", "l_")
    }
    return Predictions(
        record_id=whole["record_id"].to_pylist(),
        probability={name[2:]: matrix for name, matrix in matrices.items() if name.startswith("p_")},
        logits={name[2:]: matrix for name, matrix in matrices.items() if name.startswith("l_")},
        target=matrices["target"],
        known=matrices["known"],
        signal_known=whole["signal_known"].to_numpy(),
        patients=numbered(whole["patient_id"].to_pylist()),
        age=np.array([np.nan if age is None else age for age in whole["age"].to_pylist()], np.float32),
        sex=whole["sex"].to_pylist(),
        source=[source or "" for source in whole["source"].to_pylist()],
        page_layout=[layout or "" for layout in whole["page_layout"].to_pylist()],
    )


def numbered(patient_ids: Sequence[str | None]) -> np.ndarray:
    """int64 (N,): a number for every patient; who is unknown counts as a patient of his own."""
    numbers: dict[object, int] = {}
    keys = (patient if patient is not None else (row,) for row, patient in enumerate(patient_ids))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
