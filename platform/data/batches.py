"""Shards -> training batches, in an order that depends on the seed and the epoch alone.

`epoch_plan` permutes row groups, joins them into one sequence of rows, cuts it into 8 equal lanes and shuffles each
lane within windows. A step takes batch/8 rows from every lane; workers share the lanes of a step. So the rows of every
step are the same for any number of workers, and a run is continued from (epoch, records seen).

Every worker reads its own windows, by Ray tasks a few windows ahead. `streaming_split` guarantees no order and with
`equal=True` drops rows. A Ray Data pipeline in each worker keeps the order, but its executor is a thread of the worker,
and while the pipeline waits for training it spins and holds the interpreter: it halved the speed of two workers on two
hyperthreads, and its first batch came 4 s later (Ray 2.60, measured).

Shapes: B records of one worker's share, K labels, L = 12 leads, T samples, H x W pixels.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import NUM_LANES
from .dataset_info import filesystem_of

COLUMNS = ("record_id", "page", "signal", "signal_known", "lead_present", "valid_samples", "codes", "code_set")


_WINDOWS_AHEAD = NUM_LANES
"""One of every lane: the first step of an epoch needs them all."""


@dataclass(frozen=True)
class RowGroup:
    file: str
    index: int
    num_rows: int


@dataclass(frozen=True)
class Window:
    """Consecutive rows of one lane, in the order in which they are used."""

    lane: int
    slices: list[tuple[str, int, int, int]]
    """(file, row group, first row, end row)"""
    shuffle_key: list[int] | None
    """Seed of the permutation; None keeps the order."""


def epoch_plan(
    index: Sequence[RowGroup], seed: int, epoch: int, window_rows: int, shuffle: bool = True
) -> list[list[Window]]:
    """The windows of every lane in one pass over the rows; a pure function of its arguments."""
    row_groups = list(index)
    if shuffle:
        row_groups = [row_groups[i] for i in np.random.default_rng([seed, epoch]).permutation(len(row_groups))]
    starts = np.concatenate([[0], np.cumsum([group.num_rows for group in row_groups])])
    bounds = lane_bounds(int(starts[-1]))
    plan = []
    for lane in range(NUM_LANES):
        cuts = [*range(bounds[lane], bounds[lane + 1], window_rows), bounds[lane + 1]]
        windows = [
            Window(lane, _slices(row_groups, starts, first, end), [seed, epoch, lane, number] if shuffle else None)
            for number, (first, end) in enumerate(pairwise(cuts))
            if end > first
        ]
        plan.append(windows)
    return plan


def lane_bounds(num_rows: int) -> list[int]:
    """Where the lanes begin and end in the sequence of rows; their lengths differ by one row at most."""
    return [num_rows * lane // NUM_LANES for lane in range(NUM_LANES + 1)]


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    bounds = lane_bounds(num_rows)
    longest = max(end - start for start, end in pairwise(bounds))
    return -(-longest // (batch_size // NUM_LANES))


def _slices(
    row_groups: Sequence[RowGroup], starts: np.ndarray, first: int, end: int
) -> list[tuple[str, int, int, int]]:
    slices = []
    position = int(np.searchsorted(starts, first, side="right")) - 1
    while first < end:
        group, offset = row_groups[position], first - int(starts[position])
        taken = min(end - first, group.num_rows - offset)
        if taken:
            slices.append((group.file, group.index, offset, offset + taken))
        first, position = first + taken, position + 1
    return slices


def rank_lanes(rank: int, world_size: int, batch_size: int) -> dict[int, tuple[int, int]]:
    """Which rows of each lane's share of a step belong to this worker: lane -> (first, end) of batch/8."""
    per_lane, per_rank = batch_size // NUM_LANES, batch_size // world_size
    first, end = rank * per_rank, (rank + 1) * per_rank
    shares = {}
    for lane in range(NUM_LANES):
        start, stop = max(first - lane * per_lane, 0), min(end - lane * per_lane, per_lane)
        if start < stop:
            shares[lane] = (start, stop)
    return shares


def read_window(table: pa.Table) -> pa.Table:
    """Ray task: one row with a window's JSON -> the window's records, with their lane."""
    window = Window(**json.loads(table["window"][0].as_py()))
    parts = [_row_group(file, group).slice(first, end - first) for file, group, first, end in window.slices]
    rows = pa.concat_tables(parts)
    if window.shuffle_key is not None:
        rows = rows.take(np.random.default_rng(window.shuffle_key).permutation(len(rows)))
    signal = rows["signal"].combine_chunks()
    # A plain list column: Ray would turn the extension type into a type of its own.
    rows = rows.set_column(rows.schema.get_field_index("signal"), "signal", signal.storage)
    return rows.append_column("lane", pa.array([window.lane] * len(rows), pa.int8()))


def as_row(window: Window) -> dict[str, str]:
    """A window as what `read_window` takes."""
    return {"window": json.dumps(asdict(window))}


def read_row_group(group: RowGroup) -> pa.Table:
    """All records of a row group, in order."""
    window = Window(0, [(group.file, group.index, 0, group.num_rows)], None)
    return read_window(pa.Table.from_pylist([as_row(window)]))


def _row_group(file: str, group: int) -> pa.Table:
    filesystem, path = filesystem_of(file)
    with filesystem.open_input_file(path) as source:
        return pq.ParquetFile(source).read_row_group(group, columns=list(COLUMNS))


def ray_reader(windows: list[Window]) -> Iterator[pa.Table]:
    """The records of every window in turn, read ahead of their use by Ray tasks."""
    import ray

    # Named, for else a task that starts within a trial of Ray Tune may use that trial's resources alone.
    task = ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")(read_window)
    waiting = (task.remote(pa.Table.from_pylist([as_row(window)])) for window in windows)
    ahead = deque(islice(waiting, _WINDOWS_AHEAD))
    while ahead:
        rows = ray.get(ahead.popleft())
        ahead.extend(islice(waiting, 1))
        yield rows


class RankStream:
    """The shares of one worker, step by step, over a sequence of passes (epochs of training and of validation)."""

    def __init__(
        self,
        passes: Sequence[list[list[Window]]],
        rank: int,
        world_size: int,
        batch_size: int,
        reader: Callable[[list[Window]], Iterator[pa.Table]] = ray_reader,
    ):
        self._shares = rank_lanes(rank, world_size, batch_size)
        self._per_lane = batch_size // NUM_LANES
        self._buffers: dict[int, list[pa.Table]] = {lane: [] for lane in self._shares}
        self._empty: pa.Table | None = None
        self._blocks = reader([window for plan in passes for window in self._in_order_of_use(plan)])

    def steps(self, num_rows: int) -> Iterator[pa.Table]:
        """One pass over `num_rows` rows: a table for every step, fewer or no rows where the lanes run out."""
        bounds = lane_bounds(num_rows)
        left = {lane: bounds[lane + 1] - bounds[lane] for lane in self._shares}
        for _ in range(steps_per_epoch(num_rows, self._per_lane * NUM_LANES)):
            parts = [self._empty] if self._empty is not None else []
            for lane, (first, end) in self._shares.items():
                rows = self._take(lane, min(self._per_lane, left[lane]))
                left[lane] -= sum(map(len, rows))
                if rows:
                    parts.append(pa.concat_tables(rows).slice(first, end - first))
            step = pa.concat_tables(parts)
            self._empty = step.slice(0, 0)
            yield step

    def _in_order_of_use(self, plan: list[list[Window]]) -> Iterator[Window]:
        lanes = [plan[lane] for lane in self._shares]
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
