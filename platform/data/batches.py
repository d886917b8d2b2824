"""Shards -> the rows of every step, read ahead of their use, in the order of order.py.

Every worker reads its own windows a few ahead, on threads: a few milliseconds of Arrow's own code a window, outside the
interpreter lock. `streaming_split` guarantees no order and with `equal=True` drops rows. A Ray Data pipeline in each
worker keeps the order, but its executor spins while it waits and holds the interpreter: it halved the speed of two
workers on two hyperthreads (Ray 2.60, measured). Ray tasks cost a copy through the object store, hold CPUs that an
elastic run counts as room for workers, and starve where workers hold them all.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import islice, tee

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import NUM_LANES
from ..storage import filesystem_of
from .order import Pass, RowGroup, Window, lane_bounds, rank_lanes, rows_after, steps_per_epoch

COLUMNS = ("record_id", "page", "signal", "signal_known", "lead_present", "valid_samples", "codes", "code_set")

ReadRowGroup = Callable[[str, int, Sequence[str]], pa.Table]
"""(file, row group, columns) -> its records, in order; signals as plain lists."""

_THREADS = 2
_WINDOWS_AHEAD = NUM_LANES
"""One of every lane: the first step of an epoch needs them all."""


def read_window(table: pa.Table, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Ray task: one row with a window's JSON -> `read_rows` of it."""
    return read_rows(Window(**json.loads(table["window"][0].as_py())), columns)


def read_rows(window: Window, columns: Sequence[str] = COLUMNS, row_group: ReadRowGroup | None = None) -> pa.Table:
    """A window's records, in the order of use, with their lane; `row_group` reads them in place of the files."""
    read = row_group or row_group_of_file
    parts = [read(file, group, columns).slice(first, end - first) for file, group, first, end in window.slices]
    rows = pa.concat_tables(parts)
    order = np.arange(len(rows)) if window.drawn is None else np.array(window.drawn)
    if window.shuffle_key is not None:
        order = order[np.random.default_rng(window.shuffle_key).permutation(len(order))]
    if window.shuffle_key is not None or window.drawn is not None or window.skip:
        rows = rows.take(order[window.skip :])
    return rows.append_column("lane", pa.array([window.lane] * len(rows), pa.int8()))


def no_rows() -> pa.Table:
    """What `read_window` gives, without a row; the length of signals is left open."""
    types = {
        "record_id": pa.string(),
        "page": pa.binary(),
        "signal": pa.list_(pa.int16()),
        "signal_known": pa.bool_(),
        "lead_present": pa.list_(pa.bool_(), 12),
        "valid_samples": pa.int32(),
        "codes": pa.list_(pa.string()),
        "code_set": pa.list_(pa.string()),
        "lane": pa.int8(),
    }
    return pa.schema(types).empty_table()


def as_row(window: Window) -> dict[str, str]:
    """A window as what `read_window` takes."""
    return {"window": json.dumps(asdict(window))}


def read_row_group(group: RowGroup) -> pa.Table:
    """All records of a row group, in order."""
    return read_rows(Window(0, [(group.file, group.index, 0, group.num_rows)], None))


def row_group_of_file(file: str, group: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """All records of a row group, in order, as the file has them; `signal` is among the columns."""
    filesystem, path = filesystem_of(file)
    with filesystem.open_input_file(path) as source:
        rows = pq.ParquetFile(source).read_row_group(group, columns=list(columns))
    # A plain list column: Ray would turn the extension type into a type of its own.
    signal = rows["signal"].combine_chunks().storage
    return rows.set_column(rows.schema.get_field_index("signal"), "signal", signal)


def read_on_threads(windows: Iterable[Window], row_group: ReadRowGroup | None = None) -> Iterator[pa.Table]:
    """The records of every window in turn, read ahead of their use."""
    waiting = iter(windows)
    read = partial(read_rows, row_group=row_group)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="shards") as pool:
        ahead = deque(pool.submit(read, window) for window in islice(waiting, _WINDOWS_AHEAD))
        while ahead:
            rows = ahead.popleft().result()
            ahead.extend(pool.submit(read, window) for window in islice(waiting, 1))
            yield rows


class RankStream:
    """The shares of one worker, step by step, over a sequence of passes (epochs of training and of validation)."""

    def __init__(
        self,
        passes: Iterable[Pass],
        rank: int,
        world_size: int,
        batch_size: int,
        reader: Callable[[Iterable[Window]], Iterator[pa.Table]] = read_on_threads,
    ):
        self._shares = rank_lanes(rank, world_size, batch_size)
        self._per_lane = batch_size // NUM_LANES
        self._buffers: dict[int, list[pa.Table]] = {lane: [] for lane in self._shares}
        # Reading is ahead of use; a pass is planned when its first window is due.
        self._passes, ahead = tee(passes)
        self._blocks = reader(window for item in ahead for window in self._in_order_of_use(item))

    def next_pass(self) -> Iterator[pa.Table]:
        """The next pass, once the one before is used up: a table for every step that is left of it.

        A table has this worker's rows and no others: fewer or none where the lanes run out.
        """
        return self._steps(next(self._passes))

    def _steps(self, item: Pass) -> Iterator[pa.Table]:
        assert not any(self._buffers.values()), "the pass before is used up"
        bounds = lane_bounds(item.num_rows)
        for step in range(item.first_step, steps_per_epoch(item.num_rows, self._per_lane * NUM_LANES)):
            parts = []
            for lane, (first, end) in self._shares.items():
                left = bounds[lane + 1] - bounds[lane] - step * self._per_lane
                if rows := self._take(lane, min(self._per_lane, left)):
                    parts.append(pa.concat_tables(rows).slice(first, end - first))
            shares = [part for part in parts if len(part)]
            yield pa.concat_tables(shares) if shares else no_rows()

    def _in_order_of_use(self, item: Pass) -> Iterator[Window]:
        used = item.first_step * self._per_lane
        lanes = [rows_after(item.plan[lane], used) for lane in self._shares]
        for number in range(max(len(windows) for windows in lanes)):
            yield from (windows[number] for windows in lanes if number < len(windows))

    def _take(self, lane: int, count: int) -> list[pa.Table]:
        """The next `count` rows of a lane, in one or more tables."""
        while sum(map(len, self._buffers[lane])) < count:
            block = next(self._blocks)
            self._buffers[block["lane"][0].as_py()].append(block)
        taken, self._buffers[lane] = _split(self._buffers[lane], count)
        return taken


def _split(tables: list[pa.Table], count: int) -> tuple[list[pa.Table], list[pa.Table]]:
    """The first `count` rows, and the rest."""
    head: list[pa.Table] = []
    rest: list[pa.Table] = []
    for table in tables:
        if count:
            head.append(table.slice(0, count))
        if len(table) > count:
            rest.append(table.slice(count))
        count -= min(count, len(table))
    return head, rest
