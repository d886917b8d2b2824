"""Shards of `vizecg shard`: pages known to be upright and of ECGs, read as training reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ...data.dataset_info import load_dataset_info
from ...data.read_page import PageSpec, Reading, ReadPage, prepare
from ...data.splits import SPLITS
from ...errors import PageError, UserError
from ...listing import Found
from ...storage import join, shown, walk, what_is
from .base import Item, Loaded, ReadItem, Unreadable
from .row_groups import read_footers, read_rows
from .table import RowsSource


@dataclass(frozen=True)
class ShardReader:
    folder: str

    def open(self, items: Sequence[str]) -> Iterator[Item]:
        for name, row, values in read_rows(self.folder, items, ("record_id", "page")):
            file = shown(join(self.folder, name))
            if isinstance(values, PageError):
                yield Item(f"{name}:{row}", file, Unreadable(values))
            else:
                yield Item(values["record_id"], file, ReadItem(partial(_page, values["page"])))


def _page(data: bytes, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    yield ReadPage(pixels=prepare(data, spec), finding=None, note=None)


def open_shards(folder: str) -> RowsSource:
    """All splits, one after the other.

    Raises:
        UserError: an unfinished dataset, or one that has lost rows since.
    """
    expected = load_dataset_info(folder).num_records
    files = [
        Found(f"{split}/{found.name}", found.size_bytes, found.mtime_ns)
        for split in SPLITS
        if what_is(join(folder, split)) == "folder"
        for found in walk(join(folder, split), 1)
        if found.name.endswith(".parquet")
    ]
    source = RowsSource("shards", ShardReader(folder), read_footers(folder, files))
    if source.num_items != expected:
        raise UserError(
            f"{shown(folder)} has {source.num_items} records and dataset.json says {expected}; write it again"
        )
    return source
