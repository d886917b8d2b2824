"""The pages on which two runs differ: all of them as a table, the most changed ones for a sheet.

Shapes: n rows that both runs have, K labels that both know.
"""

import heapq
import posixpath
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..storage import filesystem_of
from .rows import PROBABILITY, SCORED

CHANGES = "changes.parquet"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Joined:
    """Rows of two runs, matched: `old` and `new` are tables of n rows in one order."""

    old: pa.Table
    new: pa.Table
    keys: tuple[str, ...]
    only_old: int
    """Rows that the other run does not have: a document that one of them could not open."""
    only_new: int

    @cached_property
    def scored(self) -> tuple[Mask, Mask]:
        """Which rows each run has scored: (n,) twice."""
        old, new = (pc.equal(table["status"], SCORED).to_numpy() for table in (self.old, self.new))
        return old, new

    @cached_property
    def was(self) -> Mask:
        """Findings of the old run (n, K)."""
        return self._found(self.old)

    @cached_property
    def is_now(self) -> Mask:
        """Findings of the new run (n, K)."""
        return self._found(self.new)

    @cached_property
    def changed(self) -> Mask:
        """Rows (n,) with other findings, or that one run has rejected and the other one scored."""
        old, new = self.scored
        return (self.was != self.is_now).any(axis=1) | (old != new)

    def probability(self, number: int, side: Literal["old", "new"]) -> NDArray[np.float32]:
        """Of one label (n,); NaN where the page was rejected."""
        table = self.old if side == "old" else self.new
        return table[f"{PROBABILITY}{self.keys[number]}"].to_numpy()

    def largest_change(self) -> NDArray[np.float32]:
        """Of the labels whose finding changed, how far the farthest one moved: (n,); 1 where one run rejected."""
        old, new = (np.stack([self.probability(k, side) for k in range(len(self.keys))], 1) for side in ("old", "new"))
        moved = np.where(self.was != self.is_now, np.abs(new - old), 0)
        return np.nan_to_num(moved, nan=1.0).max(axis=1).astype(np.float32)

    def _found(self, table: pa.Table) -> Mask:
        findings = table["findings"].combine_chunks()
        values, owners = findings.flatten(), findings.value_parent_indices().to_numpy()
        place = pc.index_in(values, pa.array(self.keys, pa.string())).fill_null(-1).to_numpy()
        found = np.zeros((len(table), len(self.keys)), bool)
        found[owners[place >= 0], place[place >= 0]] = True
        return found


@dataclass(frozen=True)
class Changed:
    """One page for the sheet."""

    change: float
    row: int
    page: int
    id: str
    labels: list[tuple[str, float, float, str]]
    """Labels whose finding changed, the farthest moved first: key, old and new probability, `gone` or `found`."""


class Changes:
    """OUT/changes.parquet, written share by share; it appears when all is written."""

    def __init__(self, out: str, keys: list[str], most: int):
        self._filesystem, root = filesystem_of(out)
        self._filesystem.create_dir(root, recursive=True)
        self._path, self._written = posixpath.join(root, CHANGES), posixpath.join(root, f".{CHANGES}.tmp")
        self._keys, self._num_most = keys, most
        self._heap: list[tuple[float, int, int, Changed]] = []
        self.num_rows = 0

    def __enter__(self) -> Self:
        self._stream = self._filesystem.open_output_stream(self._written, compression=None)
        self._writer = pq.ParquetWriter(self._stream, schema_of(self._keys), compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._stream.close()
        if kind is None:
            self._filesystem.move(self._written, self._path)
        else:
            self._filesystem.delete_file(self._written)

    @property
    def most(self) -> list[Changed]:
        """The most changed pages that both runs have scored, the farthest first."""
        return [each for *_, each in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]

    def add(self, joined: Joined) -> None:
        """One more share."""
        table = changes_of(joined)
        self._writer.write_table(table)
        self.num_rows += len(table)
        scored = table.filter(pc.and_(pc.equal(table["old_status"], SCORED), pc.equal(table["new_status"], SCORED)))
        order = np.argsort(-scored["change"].to_numpy(), kind="stable")[: self._num_most]
        for values in scored.take(order).to_pylist():
            each = self._changed(values)
            heapq.heappush(self._heap, (each.change, -each.row, -each.page, each))
            if len(self._heap) > self._num_most:
                heapq.heappop(self._heap)

    def _changed(self, values: dict[str, Any]) -> Changed:
        was, is_now = set(values["old_findings"]), set(values["new_findings"])
        labels = []
        for key in was ^ is_now:
            before, after = (values[f"{side}_{PROBABILITY}{key}"] for side in ("old", "new"))
            labels.append((key, before, after, "gone" if key in was else "found"))
        labels.sort(key=lambda label: (-abs(label[2] - label[1]), label[0]))
        return Changed(values["change"], values["row"], values["page"], values["id"], labels)


def schema_of(keys: list[str]) -> pa.Schema:
    """Columns of changes.parquet: every page, then both runs' words, findings only of labels that both know."""
    about = {"row": pa.int64(), "page": pa.int32(), "id": pa.string(), "source": pa.string(), "change": pa.float32()}
    sides = {
        f"{side}_{name}": kind
        for side in ("old", "new")
        for name, kind in {
            "status": pa.string(), "reason": pa.string(), "findings": pa.list_(pa.string()),
            **{f"{PROBABILITY}{key}": pa.float32() for key in keys},
        }.items()
    }  # fmt: skip
    return pa.schema(about | sides)


def changes_of(joined: Joined) -> pa.Table:
    """The rows that changed."""
    rows = np.flatnonzero(joined.changed)
    columns: dict[str, Any] = {name: joined.new[name].take(rows) for name in ("row", "page", "id", "source")}
    columns["change"] = joined.largest_change()[rows]
    for side, table, found in (("old", joined.old, joined.was), ("new", joined.new, joined.is_now)):
        columns |= {f"{side}_{name}": table[name].take(rows) for name in ("status", "reason")}
        columns[f"{side}_findings"] = _lists(found[rows], table["status"].take(rows), joined.keys)
        columns |= {f"{side}_{PROBABILITY}{key}": table[f"{PROBABILITY}{key}"].take(rows) for key in joined.keys}
    schema = schema_of(list(joined.keys))
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def _lists(found: Mask, status: pa.ChunkedArray, keys: tuple[str, ...]) -> pa.Array:
    """Findings as lists of keys; null where the page was rejected."""
    lists = [
        [keys[k] for k in np.flatnonzero(row)] if scored else None
        for row, scored in zip(found, pc.equal(status, SCORED).to_pylist(), strict=True)
    ]
    return pa.array(lists, pa.list_(pa.string()))
