"""The scores of a run counted, in one pass over their files with memory for a few row groups and 8 bytes a row.

Shapes: n rows of a batch, K labels, E edges of histograms.
"""

import posixpath
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..bundle_facts import Bundle
from ..evaluate.abstention import open_band
from ..reference import LOG_ODDS_EDGES, bin_counts, probability_edges
from ..storage import filesystem_of

SCORES = "scores"
"""The folder of OUT that holds the files."""
_BATCH_ROWS = 65_536
_COLUMNS = ("id", "page", "status", "reason", "turned_deg", "note", "findings", "backend", "scored_at")


@dataclass(kw_only=True)
class LabelTally:
    """One label over all scored pages."""

    histogram: NDArray[np.int64]
    """Pages by calibrated probability (E + 1,), between the edges of the bundle's reference."""
    found: int = 0
    """Pages among whose findings it is."""
    total: float = 0.0
    """Sum of the probabilities."""
    uncertain: int = 0
    """Pages nearer to the threshold than the bundle decides."""


@dataclass(kw_only=True)
class Tally:
    """What the files of a run hold."""

    labels: dict[str, LabelTally]
    log_odds_edges: tuple[float, ...]
    pages: int = 0
    scored: int = 0
    turned: int = 0
    noted: int = 0
    """Pages with a note: those that were rectified, or were to be."""
    uncertain: int = 0
    """Pages on which at least one label is."""
    duplicates: int = 0
    """Pages with the id and page number of an earlier one."""
    num_files: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    backends: Counter[str] = field(default_factory=Counter)
    """Scored pages by what computed them."""
    first: datetime | None = None
    last: datetime | None = None
    """When the first and the last page was scored."""


def count_scores(out: str, bundle: Bundle) -> Tally:
    """Everything that summary and report say of the files in OUT/scores, a local folder's or a URI's."""
    filesystem, files = score_files(out)
    edges = bundle.reference.log_odds_edges if bundle.reference else LOG_ODDS_EDGES
    labels = {key: LabelTally(histogram=np.zeros(len(edges) + 1, np.int64)) for key in bundle.label_space.keys}
    tally = Tally(labels=labels, log_odds_edges=edges, num_files=len(files))
    # Of the interpreter's own hash, whose 64 bits make one false duplicate in ten million rows a matter of 1 : 400,000.
    seen = array("q")
    columns = [*_COLUMNS, *(f"p_{key}" for key in labels)]
    for file in files:
        for batch in _batches(filesystem, file, columns):
            seen.frombytes(_hashes(batch).tobytes())
            _add_pages(tally, batch)
            _add_labels(tally, batch.filter(pc.equal(batch["status"], "scored")), bundle)
    tally.duplicates = _repeated(np.frombuffer(seen, np.int64))
    return tally


def score_files(out: str) -> tuple[pafs.FileSystem, list[str]]:
    """The file system of OUT and its files of scores, in order."""
    filesystem, path = filesystem_of(out)
    folder = pafs.FileSelector(posixpath.join(path, SCORES), allow_not_found=True)
    found = filesystem.get_file_info(folder)
    return filesystem, sorted(info.path for info in found if info.is_file and info.base_name.endswith(".parquet"))


def _batches(filesystem: pafs.FileSystem, file: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with filesystem.open_input_file(file) as stream:
        yield from pq.ParquetFile(stream).iter_batches(_BATCH_ROWS, columns=columns)


def _hashes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Of id and page number (n,)."""
    ids = np.fromiter(map(hash, batch["id"].to_pylist()), np.int64, len(batch))
    return ids ^ (batch["page"].to_numpy().astype(np.int64) << 40)


def _repeated(hashes: NDArray[np.int64]) -> int:
    """How many occurred before; sorts in place."""
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _add_pages(tally: Tally, batch: pa.RecordBatch) -> None:
    tally.pages += len(batch)
    tally.rejected.update(_counts(batch["reason"]))
    tally.backends.update(_counts(batch["backend"].filter(pc.equal(batch["status"], "scored"))))
    tally.turned += pc.sum(pc.not_equal(batch["turned_deg"], 0)).as_py() or 0
    tally.noted += len(batch) - batch["note"].null_count
    span = pc.min_max(batch["scored_at"]).as_py()
    tally.first = min(filter(None, (tally.first, span["min"])), default=None)
    tally.last = max(filter(None, (tally.last, span["max"])), default=None)


def _add_labels(tally: Tally, batch: pa.RecordBatch, bundle: Bundle) -> None:
    """Scored pages alone."""
    tally.scored += len(batch)
    found = _counts(batch["findings"].flatten())
    edges = probability_edges(tally.log_odds_edges)
    thresholds = np.array(bundle.thresholds)
    bands = open_band(thresholds, np.array(bundle.abstention_widths or np.zeros_like(thresholds)))
    any_uncertain = np.zeros(len(batch), bool)
    for (key, label), low, high in zip(tally.labels.items(), *bands, strict=True):
        probability = batch[f"p_{key}"].to_numpy()
        uncertain = (probability > low) & (probability < high)
        any_uncertain |= uncertain
        label.found += found.get(key, 0)
        label.total += float(probability.sum(dtype=np.float64))
        label.uncertain += int(uncertain.sum())
        label.histogram += bin_counts(probability, edges)
    tally.uncertain += int(any_uncertain.sum())


def _counts(values: pa.Array) -> dict[str, int]:
    """How often each occurs; null is none."""
    counted = pc.value_counts(values.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
