"""The order of training data, which depends on the seed and the epoch alone.

`epoch_plan` permutes row groups, joins them into one sequence of rows, cuts it into 8 equal lanes and shuffles each
lane within windows. A step takes batch/8 rows from every lane, and of these rows, lane after lane, worker r of W takes
those from batch * r / W to batch * (r + 1) / W. So the rows of every step are the same for any number of workers up to
the batch size, and a run is continued at any step of an epoch (`Pass.first_step`) without reading what came before.
With `counts` (balance.py) a row stands in the sequence as often as it was drawn, next to its copies, and the rest is
the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..config import NUM_LANES


@dataclass(frozen=True)
class RowGroup:
    file: str
    index: int
    num_rows: int


@dataclass(frozen=True)
class Window:
    """Consecutive rows of one lane."""

    lane: int
    slices: list[tuple[str, int, int, int]]
    """(file, row group, first row, end row)"""
    shuffle_key: list[int] | None
    """Seed of the permutation; None keeps the order."""
    drawn: list[int] | None = None
    """Places in the slices' rows of what was drawn, ascending, once for every time; None takes every row once."""
    skip: int = 0
    """How many rows, in the order of use, were used before."""

    def __len__(self) -> int:
        """Rows in use, skipped ones included."""
        return sum(end - first for *_, first, end in self.slices) if self.drawn is None else len(self.drawn)


Plan = list[list[Window]]
"""The windows of every lane."""


@dataclass(frozen=True)
class Pass:
    """One way through a split, from `first_step` on."""

    plan: Plan
    num_rows: int
    first_step: int = 0


def epoch_plan(
    index: Sequence[RowGroup],
    seed: int,
    epoch: int,
    window_rows: int,
    shuffle: bool = True,
    counts: NDArray[np.int64] | None = None,
) -> Plan:
    """The windows of every lane in one pass over the rows; a pure function of its arguments.

    `counts` (number of rows in `index`,) says how often to take each row; its sum is the number of rows.
    """
    drawn = [None] * len(index) if counts is None else _drawn_rows(index, counts)
    row_groups = list(zip(index, drawn, strict=True))
    if shuffle:
        row_groups = [row_groups[i] for i in np.random.default_rng([seed, epoch]).permutation(len(row_groups))]
    sizes = [group.num_rows if rows is None else len(rows) for group, rows in row_groups]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    bounds = lane_bounds(int(starts[-1]))
    plan = []
    for lane in range(NUM_LANES):
        cuts = [*range(bounds[lane], bounds[lane + 1], window_rows), bounds[lane + 1]]
        windows = [
            _window(lane, row_groups, starts, first, end, [seed, epoch, lane, number] if shuffle else None)
            for number, (first, end) in enumerate(pairwise(cuts))
            if end > first
        ]
        plan.append(windows)
    return plan


def _drawn_rows(index: Sequence[RowGroup], counts: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """By row group, its rows, each as often as it was drawn."""
    ends = np.cumsum([group.num_rows for group in index])
    assert len(counts) == counts.sum() == ends[-1], "as many rows are drawn as there are"
    return [np.repeat(np.arange(len(part)), part) for part in np.split(counts, ends[:-1])]


def lane_bounds(num_rows: int) -> list[int]:
    """Where the lanes begin and end in the sequence of rows; their lengths differ by one row at most."""
    return [num_rows * lane // NUM_LANES for lane in range(NUM_LANES + 1)]


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    bounds = lane_bounds(num_rows)
    longest = max(end - start for start, end in pairwise(bounds))
    return -(-longest // (batch_size // NUM_LANES))


def rows_done(num_rows: int, step: int, batch_size: int) -> int:
    """Records of a pass that the first `step` steps hold, over all workers."""
    per_lane = batch_size // NUM_LANES
    return sum(min(step * per_lane, end - start) for start, end in pairwise(lane_bounds(num_rows)))


def _window(
    lane: int,
    row_groups: Sequence[tuple[RowGroup, NDArray[np.intp] | None]],
    starts: NDArray[np.int64],
    first: int,
    end: int,
    shuffle_key: list[int] | None,
) -> Window:
    """Places `first` to `end` of the sequence of rows, in which row group g begins at `starts[g]`."""
    slices: list[tuple[str, int, int, int]] = []
    drawn: list[int] = []
    position, num_read = int(np.searchsorted(starts, first, side="right")) - 1, 0
    while first < end:
        group, rows = row_groups[position]
        offset, stop = first - int(starts[position]), min(end, int(starts[position + 1])) - int(starts[position])
        if offset < stop:
            low, high = (offset, stop) if rows is None else (int(rows[offset]), int(rows[stop - 1]) + 1)
            slices.append((group.file, group.index, low, high))
            drawn += [] if rows is None else (rows[offset:stop] - low + num_read).tolist()
            num_read += high - low
        first, position = first + stop - offset, position + 1
    return Window(lane, slices, shuffle_key, drawn or None)


def rank_lanes(rank: int, world_size: int, batch_size: int) -> dict[int, tuple[int, int]]:
    """Which rows of each lane's share of a step belong to this worker: lane -> (first, end) of batch/8."""
    assert world_size <= batch_size, "every worker has a record of a full step"
    per_lane = batch_size // NUM_LANES
    first, end = batch_size * rank // world_size, batch_size * (rank + 1) // world_size
    shares = {}
    for lane in range(NUM_LANES):
        start, stop = max(first - lane * per_lane, 0), min(end - lane * per_lane, per_lane)
        if start < stop:
            shares[lane] = (start, stop)
    return shares


def rows_after(windows: list[Window], used: int) -> list[Window]:
    """What is left of a lane once `used` rows of it were used."""
    left = []
    for window in windows:
        if used < len(window):
            left.append(replace(window, skip=used))
        used = max(used - len(window), 0)
    return left
