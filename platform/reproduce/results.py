"""What one run predicted on the test split, read back from its evaluation.

Shapes: N records, K labels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..bundle import read_facts
from ..data.dataset_info import shard_files
from ..evaluate.metrics import EvaluationResult, evaluate_predictions
from ..evaluate.predict import numbered
from ..storage import filesystem_of

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The deployed stream of one bundle, records in the order of their ids."""

    label_space: str
    label_keys: tuple[str, ...]
    probability: NDArray[np.floating]
    """(N, K)"""
    target: NDArray[np.floating]
    """(N, K)"""
    known: NDArray[np.bool_]
    """(N, K)"""
    thresholds: tuple[float, ...]
    """(K,)"""
    patients: NDArray[np.integer]
    """(N,) numbers without meaning, never ids."""

    def evaluated(self) -> EvaluationResult:
        """As `vizecg evaluate` measures it."""
        return evaluate_predictions(self.probability, self.target, self.known, self.label_keys, self.thresholds)


def read_result(folder: Path, shards: Path) -> RunResult:
    """The predictions in FOLDER/evaluation by the bundle in FOLDER/bundle."""
    facts = read_facts(folder / "bundle")
    rows = pq.read_table(folder / "evaluation" / "predictions.parquet").sort_by("record_id")
    keys = tuple(facts.label_space.keys)
    known = np.stack([rows[f"target_{key}"].is_valid().to_numpy() for key in keys], 1)
    return RunResult(
        label_space=facts.label_space.name,
        label_keys=keys,
        probability=_matrix(rows, [f"{facts.deployed_stream}_{key}" for key in keys]),
        target=np.where(known, np.nan_to_num(_matrix(rows, [f"target_{key}" for key in keys])), 0),
        known=known,
        thresholds=tuple(facts.thresholds),
        patients=_patients(shards, rows["record_id"].to_pylist()),
    )


def _matrix(rows: pa.Table, names: list[str]) -> NDArray[np.floating]:
    return np.stack([rows[name].to_numpy() for name in names], 1)


def _patients(shards: Path, record_ids: list[str]) -> NDArray[np.integer]:
    """(N,): numbers of the records' patients."""
    of_record: dict[str, str | None] = {}
    for file in shard_files(shards, "test"):
        filesystem, path = filesystem_of(file)
        columns = pq.read_table(path, columns=["record_id", "patient_id"], filesystem=filesystem).to_pydict()
        of_record |= dict(zip(columns["record_id"], columns["patient_id"], strict=True))
    return numbered([of_record[record_id] for record_id in record_ids])
