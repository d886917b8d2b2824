"""Parquet tables with a column of pages: paths, bytes, or both in a struct as Hugging Face writes them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from ...data.read_page import PageSpec, Reading
from ...errors import PageError, UserError
from ...listing import Found
from ...storage import join, parent, shown
from .base import PICTURE_BYTES, Item, Loaded, ReadItem, SourceSettings, Unreadable
from .pictures import document_pages, file_item
from .row_groups import ParquetRows, is_binary, is_text, read_footers, read_rows

_BYTES_NAMES = ("bytes", "image", "page", "data")
_PATH_NAMES = ("path", "file", "uri", "image_path", "filename")
_ID_NAMES = ("id", "record_id")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which ones are read."""

    page: str
    has_paths: bool
    id: str | None
    path: str | None
    """Beside one of bytes: where they came from."""

    @property
    def names(self) -> list[str]:
        return [name for name in dict.fromkeys((self.page, self.id, self.path)) if name is not None]


@dataclass(frozen=True)
class TableReader:
    """Opens rows of the tables below `folder`."""

    folder: str
    columns: Columns
    settings: SourceSettings

    def open(self, items: Sequence[str]) -> Iterator[Item]:
        for name, row, values in read_rows(self.folder, items, self.columns.names):
            yield self._item(name, row, values)

    def _item(self, name: str, row: int, values: Mapping[str, Any] | PageError) -> Item:
        table, place = join(self.folder, name), f"{name}:{row}"
        if isinstance(values, PageError):
            return Item(place, shown(table), Unreadable(values))
        page = values[self.columns.page]
        data, path = (page.get("bytes"), page.get("path")) if isinstance(page, dict) else (page, None)
        if self.columns.has_paths:
            data, path = None, page
        elif self.columns.path:
            path = path or values[self.columns.path]
        told = values[self.columns.id] if self.columns.id else None
        called = str(told) if told is not None else path if isinstance(path, str) and path else place
        if data:
            return Item(called, shown(table), ReadItem(partial(_document, data, table, self.settings)))
        if path:
            found = file_item(parent(table), path, self.settings)
            return Item(called, found.source, found.pages)
        empty = PageError("empty", f"row {row} has no page in its column {self.columns.page!r}")
        return Item(called, shown(table), Unreadable(empty))


def _document(data: bytes, table: str, settings: SourceSettings, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    return document_pages(data, table, settings, spec, reading)


@dataclass(frozen=True, eq=False)
class RowsSource:
    """A Source of the rows of Parquet files."""

    kind: str
    reader: Any
    files: Sequence[ParquetRows]
    item_bytes: int | None = None
    """Of what a row names; None where the row itself is all."""
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_items(self) -> int:
        return sum(sum(rows for rows, _ in file.groups) + (file.schema is None) for file in self.files)

    @property
    def identity(self) -> str:
        return hashlib.sha256("\n".join(file.state for file in self.files).encode()).hexdigest()

    def items(self) -> Iterator[tuple[str, int]]:
        for file in self.files:
            yield from ((item, self.item_bytes or size) for item, size in file.items())


def open_table(
    folder: str, files: Sequence[Found], settings: SourceSettings, left_out: Mapping[str, int] | None = None
) -> RowsSource:
    """The rows of all these files below `folder`.

    Raises:
        UserError: none can be read, or it is not clear which column holds the pages.
    """
    found = read_footers(folder, files)
    schema = next((file.schema for file in found if file.schema is not None), None)
    if schema is None:
        raise UserError(f"{shown(join(folder, files[0].name))} cannot be read as Parquet; is it damaged?")
    columns = choose_columns(schema, settings, shown(folder))
    reader = TableReader(folder, columns, settings)
    source = RowsSource("table", reader, found, PICTURE_BYTES if columns.has_paths else None, left_out or {})
    if not source.num_items:
        raise UserError(f"{shown(folder)}: nothing to score; the table has no rows")
    return source


def choose_columns(schema: pa.Schema, settings: SourceSettings, place: str) -> Columns:
    """By settings, else by type and usual names; bytes go before paths, which then name them.

    Raises:
        UserError: no column, or several.
    """
    there = {name: schema.field(name).type for name in schema.names}
    for chosen in (settings.column, settings.id_column):
        if chosen is not None and chosen not in there:
            raise UserError(f"{place}: the table has no column {chosen!r}; it has {', '.join(schema.names)}")
    with_bytes = [name for name, kind in there.items() if _holds_bytes(kind)]
    with_paths = [name for name, kind in there.items() if _is_text(kind) and name.lower() in _PATH_NAMES]
    page = (
        settings.column or _only(with_bytes, _BYTES_NAMES) or (None if with_bytes else _only(with_paths, _PATH_NAMES))
    )
    if page is None or not (_holds_bytes(there[page]) or _is_text(there[page])):
        what = f"column {page!r} holds neither paths nor bytes" if page else "cannot tell which column holds the pages"
        has = ", ".join(f"{name} ({kind})" for name, kind in there.items())
        raise UserError(f"{place}: {what}; name one of text or bytes with `column`; the table has {has}")
    ids = [name for name in there if name.lower() in _ID_NAMES and name != page]
    has_paths = _is_text(there[page])
    path = None if has_paths else _only(with_paths, _PATH_NAMES)
    return Columns(page=page, has_paths=has_paths, id=settings.id_column or next(iter(ids), None), path=path)


def _only(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only one with a usual name, else the only one."""
    named = [name for name in names if name.lower() in usual]
    return named[0] if len(named) == 1 else names[0] if len(names) == 1 else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        fields = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        return "bytes" in fields and is_binary(fields["bytes"])
    return is_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return is_text(kind)
