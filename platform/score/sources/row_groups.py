"""Rows of Parquet files, each row group read once for a chunk and never held as a whole.

An item is `file:row group:row in it`, with the file as it lies below the input's folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...data.reading.dicom import MAX_DICOM_BYTES
from ...errors import PageError, UserError
from ...listing import Found
from ...storage import driver_errors, filesystem_of, join, told

_TEXT_ROWS = 8192
"""In a batch. Of bytes it is one: a dictionary of a single picture may stand for every row of its group."""
_MAX_TEXT_BYTES = 1 << 16
_SUSPICIOUS_RATIO, _SUSPICIOUS_BYTES = 50, 8 << 20
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


def _opened(location: str, as_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    """Raises OSError, also for what is no Parquet."""
    filesystem, path = filesystem_of(location)
    with driver_errors():
        # Read as it is used: a row group of a careless writer has the whole file.
        return pq.ParquetFile(
            filesystem.open_input_file(path), pre_buffer=False, buffer_size=_BUFFER_BYTES,
            read_dictionary=list(as_dictionary) or None,
        )  # fmt: skip


Values = Mapping[str, Any] | PageError
Row = tuple[str, int, Values]
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
) -> Iterator[tuple[int, Values]]:
    """(row in the file, its values) of ascending rows of a group."""
    with _opened(location) as parquet, driver_errors():
        if group == _DAMAGED:
            raise OSError("it was damaged when the run began; start anew in another OUT")
        if lacking := [name for name in columns if name not in parquet.schema_arrow.names]:
            raise OSError(f"it has no column {lacking[0]!r}")
        before = sum(parquet.metadata.row_group(number).num_rows for number in range(group))
        all_small = not any(_may_be_large(parquet.schema_arrow.field(name).type) for name in columns)
        blown_up = _blown_up(parquet.metadata.row_group(group), columns) if all_small else []
    with _opened(location, blown_up) as parquet, driver_errors():
        left, first = list(wanted), 0
        for batch in parquet.iter_batches(_TEXT_ROWS if all_small else 1, row_groups=[group], columns=list(columns)):
            here = [row - first for row in left if row < first + len(batch)]
            for row, values in zip(here, _values(batch.take(pa.array(here, pa.int64()))) if here else (), strict=True):
                yield before + first + row, values
            first, left = first + len(batch), left[len(here) :]
            if not left:
                return
        raise OSError("it has lost rows since the run began")


def _may_be_large(kind: pa.DataType) -> bool:
    """Whether a value may be a picture."""
    return not (is_text(kind) or pa.types.is_primitive(kind) or pa.types.is_dictionary(kind))


def _blown_up(group: pq.RowGroupMetaData, columns: Sequence[str]) -> list[str]:
    """Columns of which a few stored bytes may be a batch that fills the memory; these are read as dictionaries."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in columns and chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page
        and (
            chunk.total_uncompressed_size > _SUSPICIOUS_RATIO * chunk.total_compressed_size
            or chunk.data_page_offset - chunk.dictionary_page_offset > _SUSPICIOUS_BYTES
        )
    ]  # fmt: skip


def _values(batch: pa.RecordBatch) -> Iterator[Values]:
    """Of every row, in order."""
    over = np.any([_too_large(column) for column in batch.columns], axis=0)
    fitting = batch.filter(pa.array(~over))
    read = zip(*(_python(column) for column in fitting.columns), strict=True)
    for is_over in over:
        if is_over:
            yield PageError("too_large", f"the row has a text of more than {_MAX_TEXT_BYTES:,} or a page of more than "
                            f"{MAX_DICOM_BYTES:,} bytes, which are read at most")  # fmt: skip
        else:
            yield dict(zip(batch.schema.names, next(read), strict=True))


def _too_large(column: pa.Array) -> NDArray[np.bool_]:
    """Which values (n,), told by their lengths."""
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        of_values = np.append(_too_large(column.dictionary), False)  # The last one is that of a null.
        return of_values[column.indices.cast(pa.int64()).fill_null(len(of_values) - 1).to_numpy()]
    if isinstance(column, pa.StructArray):
        return np.any([_too_large(each) for each in column.flatten()], axis=0)
    if not (is_text(kind) or is_binary(kind)):
        return np.zeros(len(column), bool)
    most = _MAX_TEXT_BYTES if is_text(kind) else MAX_DICOM_BYTES
    lengths = pc.binary_length(column.cast(pa.large_binary())).fill_null(0)
    return np.asarray(lengths) > most


def _python(column: pa.Array) -> list[Any]:
    """As to_pylist, but bytes of a text that are no UTF-8 stand as in listings."""
    if isinstance(column, pa.DictionaryArray):
        return _python(column.dictionary_decode())
    if isinstance(column, pa.StructArray):
        names = [column.type.field(number).name for number in range(column.type.num_fields)]
        rows = zip(*(_python(each) for each in column.flatten()), strict=True)
        valid = column.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]
    if is_text(column.type):
        found = column.cast(pa.large_binary()).to_pylist()
        return [None if each is None else each.decode("utf-8", "backslashreplace") for each in found]
    return column.to_pylist()


def is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
