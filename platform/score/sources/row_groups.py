"""Rows of Parquet files, each row group read once for a chunk and never held as a whole.

An item is `file:row group:row in it`, with the file as it lies below the input's folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import PageError, UserError
from ...listing import Found
from ...storage import driver_errors, filesystem_of, join, told

_BATCH_ROWS = 16
_BUFFER_BYTES = 1 << 20
_DAMAGED = -1
"""In place of a row group: the file could not be opened when the run began."""


@dataclass(frozen=True)
class ParquetRows:
    """A file and what its footer says."""

    file: Found
    groups: tuple[tuple[int, int], ...]
    """(rows, bytes of the pages' column) of every row group."""
    schema: pa.Schema | None

    def items(self) -> Iterator[tuple[str, int]]:
        for group, (num_rows, num_bytes) in enumerate(self.groups):
            share = num_bytes // max(num_rows, 1)
            yield from ((f"{self.file.name}:{group}:{row}", share) for row in range(num_rows))
        if self.schema is None:
            yield f"{self.file.name}:{_DAMAGED}:0", 0

    @property
    def state(self) -> str:
        """Changes with the file."""
        return f"{self.file.name} {self.file.size_bytes} {self.file.mtime_ns} {sum(rows for rows, _ in self.groups)}"


def read_footers(folder: str, files: Sequence[Found]) -> list[ParquetRows]:
    """Of all files, in their order; those that cannot be opened have no schema."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda file: _footer(folder, file), files))


def _footer(folder: str, file: Found) -> ParquetRows:
    try:
        with _opened(join(folder, file.name)) as parquet:
            facts = parquet.metadata
            groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
            sizes = tuple((group.num_rows, group.total_byte_size) for group in groups)
            return ParquetRows(file, sizes, parquet.schema_arrow)
    except (OSError, UserError):
        return ParquetRows(file, (), None)


def _opened(location: str) -> pq.ParquetFile:
    """Raises OSError, also for what is no Parquet."""
    filesystem, path = filesystem_of(location)
    with driver_errors():
        # Read as it is used: a row group of a careless writer has the whole file.
        return pq.ParquetFile(filesystem.open_input_file(path), pre_buffer=False, buffer_size=_BUFFER_BYTES)


Row = tuple[str, int, Mapping[str, Any] | PageError]
"""(file below the folder, row in it, its values or why they cannot be read)"""


def read_rows(folder: str, items: Sequence[str], columns: Sequence[str]) -> Iterator[Row]:
    """The rows of these items, in their order."""
    placed = [(name, int(group), int(row)) for name, group, row in (item.rsplit(":", 2) for item in items)]
    for (name, group), some in groupby(placed, key=lambda place: place[:2]):
        wanted = [row for _, _, row in some]
        try:
            for row, values in _rows_of_group(join(folder, name), group, wanted, columns):
                yield name, row, values
                wanted.pop(0)
        except OSError as error:
            failed = PageError("unreadable_file", f"the table cannot be read: {told(error)}")
            yield from ((name, row, failed) for row in wanted)


def _rows_of_group(
    location: str, group: int, wanted: Sequence[int], columns: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(row in the file, its values) of ascending rows of a group."""
    with _opened(location) as parquet, driver_errors():
        if group == _DAMAGED:
            raise OSError("it was damaged when the run began; start anew in another OUT")
        if lacking := [name for name in columns if name not in parquet.schema_arrow.names]:
            raise OSError(f"it has no column {lacking[0]!r}")
        before = sum(parquet.metadata.row_group(number).num_rows for number in range(group))
        left, first = list(wanted), 0
        for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns)):
            here = [row - first for row in left if row < first + len(batch)]
            for row, values in zip(here, batch.take(pa.array(here, pa.int64())).to_pylist(), strict=True):
                yield before + first + row, values
            first, left = first + len(batch), left[len(here) :]
            if not left:
                return
        raise OSError("it has lost rows since the run began")
