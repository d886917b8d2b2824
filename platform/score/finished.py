"""A run that has ended: what it is, its rows in bounded memory, and the input behind them."""

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ..errors import UserError
from ..storage import filesystem_of, shown, write_whole
from .identity import RUN, SUMMARY, read_json
from .sources import open_source
from .sources.base import Source, SourceSettings
from .tally import score_files

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class FinishedRun:
    """OUT of `vizecg score`, of which nothing is missing."""

    out: str
    facts: dict[str, Any]
    """What OUT/run.json holds."""

    @property
    def label_keys(self) -> list[str]:
        """In the order of the bundle."""
        return list(self.facts["label_keys"])

    @property
    def bundle_name(self) -> str:
        """For people: the folder's name and the first digits of its hash, since most are called `bundle`."""
        folder = posixpath.basename(str(self.facts.get("bundle", "bundle")).rstrip("/"))
        return f"{folder} {str(self.facts['bundle_hash'])[:8]}"

    def num_rows(self) -> int:
        """Rows in all files."""
        filesystem, files = score_files(self.out)
        return sum(_num_rows(filesystem, file) for file in files)

    def batches(self, columns: Sequence[str], items: range | None = None) -> Iterator[pa.RecordBatch]:
        """These columns, some rows at a time; of these items alone where given, reading no more than holds them."""
        filesystem, files = score_files(self.out)
        for file in files:
            with filesystem.open_input_file(file) as stream:
                parquet = pq.ParquetFile(stream)
                groups = [n for n in range(parquet.num_row_groups) if items is None or _overlaps(parquet, n, items)]
                for batch in parquet.iter_batches(_BATCH_ROWS, groups, list(columns)) if groups else ():
                    yield batch if items is None else batch.filter(_within(batch["row"], items))


def finished_run(out: str) -> FinishedRun:
    """The run in a folder or URI. Raises UserError where there is none, or one that has not ended."""
    filesystem, root = filesystem_of(out)
    facts = read_json(filesystem, posixpath.join(root, RUN))
    if facts is None:
        raise UserError(f"{shown(out)}: no scores here ({RUN} is missing); name the OUT of `vizecg score`")
    if read_json(filesystem, posixpath.join(root, SUMMARY)) is None:
        raise UserError(f"{shown(out)}: the run has not ended ({SUMMARY} is missing); run `vizecg score` again")
    return FinishedRun(out, facts)


def source_of(run: FinishedRun) -> Source | None:
    """The input that was scored; None where it is gone or is no longer the same, so that no other page is shown."""
    try:
        found = open_source(str(run.facts["source"]), SourceSettings(**run.facts.get("sources", {})))
    except (UserError, OSError):
        return None
    return found if found.identity == run.facts["input_identity"] else None


def write_text(out: str, name: str, text: str) -> str:
    """A file in OUT, whole or not at all; where it is."""
    filesystem, root = filesystem_of(out)
    write_whole(filesystem, posixpath.join(root, name), text.encode())
    return posixpath.join(shown(out), name)


def write_json(out: str, name: str, values: Any) -> str:
    """The same for values."""
    return write_text(out, name, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _num_rows(filesystem: pafs.FileSystem, file: str) -> int:
    with filesystem.open_input_file(file) as stream:
        return pq.ParquetFile(stream).metadata.num_rows


def _overlaps(parquet: pq.ParquetFile, group: int, items: range) -> bool:
    """Whether a row group may hold rows of these items."""
    place = parquet.schema_arrow.get_field_index("row")
    found = parquet.metadata.row_group(group).column(place).statistics
    return found is None or not found.has_min_max or (found.min < items.stop and found.max >= items.start)


def _within(rows: pa.Array, items: range) -> pa.Array:
    return pc.and_(pc.greater_equal(rows, items.start), pc.less(rows, items.stop))
