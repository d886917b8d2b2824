"""Every row once an epoch, in an order that the number of workers does not touch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.config import NUM_LANES
from vizecg.platform.data import batches
from vizecg.platform.data.batches import RankStream, as_row, read_on_threads, read_row_group, read_window
from vizecg.platform.data.dataset_info import read_row_index
from vizecg.platform.data.order import (
    Pass,
    Plan,
    RowGroup,
    Window,
    epoch_plan,
    lane_bounds,
    rank_lanes,
    rows_done,
    steps_per_epoch,
)

group_sizes = st.lists(st.integers(0, 12), min_size=1, max_size=12)
small_epochs = st.integers(8, 50).flatmap(
    lambda n: st.lists(st.integers(1, n), max_size=6).map(lambda cuts: cut_into_groups(n, cuts))
)


def cut_into_groups(num_rows: int, cuts: list[int]) -> list[RowGroup]:
    edges = [0, *sorted({cut for cut in cuts if cut < num_rows}), num_rows]
    return [RowGroup("a" if n < 3 else "b", n, end - start) for n, (start, end) in enumerate(pairwise(edges))]


def groups_of(sizes: list[int]) -> list[RowGroup]:
    return [RowGroup("a" if n < 3 else "b", n, size) for n, size in enumerate(sizes)]


def rows_of(group: RowGroup) -> list[str]:
    return [f"{group.file}:{group.index}:{row}" for row in range(group.num_rows)]


def rows_of_window(window: Window) -> list[str]:
    rows = [f"{file}:{group}:{row}" for file, group, first, end in window.slices for row in range(first, end)]
    if window.drawn is not None:
        rows = [rows[place] for place in window.drawn]
    if window.shuffle_key is None:
        return rows
    return [rows[n] for n in np.random.default_rng(window.shuffle_key).permutation(len(rows))]


def lanes_of(plan: Plan) -> list[list[str]]:
    return [[row for window in lane for row in rows_of_window(window)] for lane in plan]


def steps_of(plan: Plan, batch_size: int) -> list[list[str]]:
    """By the definition: step t is the t-th batch/8 rows of every lane, lane after lane."""
    lanes, share = lanes_of(plan), batch_size // NUM_LANES
    number = -(-max(map(len, lanes)) // share)
    return [[row for lane in lanes for row in lane[t * share : (t + 1) * share]] for t in range(number)]


@pytest.fixture(scope="module", autouse=True)
def rows_in_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Row groups made on the spot instead of read, for all tests but those on real shards."""

    def row_group(file: str, group: int, columns: Sequence[str]) -> pa.Table:
        if file.endswith(".parquet"):
            return from_file(file, group, columns)
        ids = [f"{file}:{group}:{row}" for row in range(60)]
        signal = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((60, 12, 2), np.int16))
        return pa.table({"record_id": ids, "signal": signal.storage})

    from_file = batches.row_group_of_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "row_group_of_file", row_group)
        yield


def in_process(windows: Iterable[Window]) -> Iterator[pa.Table]:
    """What `read_on_threads` gives, one after the other."""
    for window in windows:
        yield read_window(pa.Table.from_pylist([as_row(window)]))


def rank_steps(passes: list[Pass], rank: int, world_size: int, batch_size: int) -> list[list[str]]:
    stream = RankStream(passes, rank, world_size, batch_size, in_process)
    return [step["record_id"].to_pylist() for _ in passes for step in stream.next_pass()]


def joined_steps(passes: list[Pass], world_size: int, batch_size: int) -> list[list[str]]:
    """What all ranks hold of every step."""
    ranks = [rank_steps(passes, rank, world_size, batch_size) for rank in range(world_size)]
    return [sum(parts, []) for parts in zip(*ranks, strict=True)]


def size_of(groups: list[RowGroup]) -> int:
    return sum(group.num_rows for group in groups)


@given(sizes=group_sizes, window_rows=st.integers(1, 40), seed=st.integers(0, 99), shuffle=st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_row_once_in_lanes_of_equal_length(sizes: list[int], window_rows: int, seed: int, shuffle: bool) -> None:
    groups = groups_of(sizes)

    lanes = lanes_of(epoch_plan(groups, seed, 3, window_rows, shuffle))

    assert len(lanes) == NUM_LANES
    assert Counter(row for lane in lanes for row in lane) == Counter(row for group in groups for row in rows_of(group))
    assert max(map(len, lanes)) - min(map(len, lanes)) <= 1
    assert [len(lane) for lane in lanes] == [end - start for start, end in pairwise(lane_bounds(sum(sizes)))]


@given(sizes=group_sizes, window_rows=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_windows_are_no_longer_than_asked_and_know_their_lane(sizes: list[int], window_rows: int) -> None:
    for number, lane in enumerate(epoch_plan(groups_of(sizes), 0, 0, window_rows)):
        assert all(window.lane == number for window in lane)
        assert all(1 <= len(rows_of_window(window)) <= window_rows for window in lane)
        assert all(len(rows_of_window(window)) == window_rows for window in lane[:-1])


@given(sizes=group_sizes, window_rows=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_unshuffled_rows_stay_in_the_order_of_the_shards(sizes: list[int], window_rows: int) -> None:
    groups = groups_of(sizes)

    lanes = lanes_of(epoch_plan(groups, 5, 7, window_rows, shuffle=False))

    assert [row for lane in lanes for row in lane] == [row for group in groups for row in rows_of(group)]


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    groups = groups_of([9] * 20)

    plans = {key: epoch_plan(groups, *key, 16) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}

    assert plans[0, 1] == epoch_plan(tuple(groups), 0, 1, 16)
    orders = [str(lanes_of(plan)) for plan in plans.values()]
    assert len(set(orders)) == 4


def test_shuffling_mixes_files_and_moves_rows() -> None:
    groups = groups_of([20] * 16)

    (first, *_) = steps_of(epoch_plan(groups, 0, 0, 1024), 16)

    assert len({row.split(":")[1] for row in first}) >= 6
    places = [int(row.split(":")[2]) for row in first]
    assert places != sorted(places)


def test_every_epoch_deals_row_groups_anew() -> None:
    groups = groups_of([10] * 32)

    dealt = [
        [{row.rsplit(":", 1)[0] for row in lane} for lane in lanes_of(epoch_plan(groups, 0, epoch, 10))]
        for epoch in range(2)
    ]

    assert dealt[0] != dealt[1]


def test_every_window_is_shuffled_in_a_way_of_its_own() -> None:
    plan = epoch_plan([RowGroup("a", 0, 8 * 4 * 12)], 0, 0, 12)
    places = [[int(row.split(":")[2]) for row in rows_of_window(window)] for lane in plan for window in lane]

    ways = {tuple(place - min(window) for place in window) for window in places}

    assert len(places) == len(ways) == 32


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 1), (8, 8), (16, 2), (32, 4), (64, 16), (64, 7), (24, 5)])
def test_ranks_share_the_lanes_without_rest(batch_size: int, world_size: int) -> None:
    share = batch_size // NUM_LANES
    taken = [
        (lane, row)
        for rank in range(world_size)
        for lane, (first, end) in rank_lanes(rank, world_size, batch_size).items()
        for row in range(first, end)
    ]

    assert taken == [(lane, row) for lane in range(NUM_LANES) for row in range(share)]
    for rank in range(world_size):
        size = sum(end - first for first, end in rank_lanes(rank, world_size, batch_size).values())
        assert size in (batch_size // world_size, -(-batch_size // world_size))


@pytest.mark.parametrize(("batch_size", "worlds"), [(8, (1, 2, 3, 4)), (16, (1, 3, 4)), (32, (1, 2, 5)), (24, (1, 7))])
@given(train=small_epochs, val=small_epochs, window_rows=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_steps_do_not_depend_on_the_number_of_workers(
    batch_size: int,
    worlds: tuple[int, ...],
    train: list[RowGroup],
    val: list[RowGroup],
    window_rows: int,
    seed: int,
) -> None:
    """Training and validation in turn over two epochs; what all ranks hold of a step is the step, in its order."""
    passes = []
    for epoch in range(2):
        passes.append(Pass(epoch_plan(train, seed, epoch, window_rows), size_of(train)))
        passes.append(Pass(epoch_plan(val, seed, epoch, window_rows, shuffle=False), size_of(val)))
    expected = [step for item in passes for step in steps_of(item.plan, batch_size)]

    for world_size in worlds:
        assert joined_steps(passes, world_size, batch_size) == expected
    for part, item in zip((train, val) * 2, passes, strict=True):
        held = Counter(row for step in steps_of(item.plan, batch_size) for row in step)
        assert held == Counter(row for group in part for row in rows_of(group))


def test_a_rank_may_have_nothing_in_the_last_step() -> None:
    """9 rows and a batch of 8: the second step has one row, and three of four ranks hold none of it."""
    plan = epoch_plan(groups_of([9]), 0, 0, 4)

    ranks = [rank_steps([Pass(plan, 9)], rank, 4, 8) for rank in range(4)]

    assert [[len(step) for step in steps] for steps in ranks] == [[2, 0], [2, 0], [2, 0], [2, 1]]
    assert Counter(sum(sum(ranks, []), [])) == Counter(rows_of(RowGroup("a", 0, 9)))


@pytest.mark.parametrize("first_step", [0, 1])
def test_a_step_without_rows_keeps_the_columns(first_step: int) -> None:
    stream = RankStream([Pass(epoch_plan(groups_of([9]), 0, 0, 4), 9, first_step)], 0, 4, 8, in_process)

    *_, last = stream.next_pass()

    assert len(last) == 0
    assert set(last.column_names) == {*batches.COLUMNS, "lane"}


@given(
    train=small_epochs,
    window_rows=st.integers(1, 9),
    world_size=st.integers(1, 5),
    step=st.integers(0, 7),
    with_counts=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_run_goes_on_at_any_step(
    train: list[RowGroup], window_rows: int, world_size: int, step: int, with_counts: bool
) -> None:
    num_rows = size_of(train)
    counts = np.bincount(np.arange(num_rows) ** 2 % num_rows, minlength=num_rows) if with_counts else None
    plans = [epoch_plan(train, 4, epoch, window_rows, counts=counts) for epoch in range(2)]
    step = min(step, steps_per_epoch(num_rows, 8))
    expected = [steps for plan in plans for steps in steps_of(plan, 8)]

    resumed = joined_steps([Pass(plans[0], num_rows, step), Pass(plans[1], num_rows)], world_size, 8)

    assert resumed == expected[step:]
    assert rows_done(num_rows, step, 8) == sum(map(len, expected[:step]))


def test_nothing_before_the_start_is_read() -> None:
    """A resumed worker asks for the windows that a worker from the start asks for later, and for no other."""
    plan = epoch_plan(groups_of([40] * 4), 0, 0, 5)
    reads: dict[int, list[Window]] = {}

    for first_step in (0, 4):
        asked = reads[first_step] = []

        def noting(windows: Iterable[Window], asked: list[Window] = asked) -> Iterator[pa.Table]:
            asked += windows
            return in_process(asked)

        stream = RankStream([Pass(plan, 160, first_step)], 0, 1, 16, noting)
        first = next(stream.next_pass())
        assert first["record_id"].to_pylist() == steps_of(plan, 16)[first_step]

    # 20 rows a lane in 4 windows; 4 steps use 8 rows: a window, and three rows of the next.
    assert len(reads[0]) == 8 * 4
    assert [(window.lane, window.skip) for window in reads[4][:8]] == [(lane, 3) for lane in range(8)]
    assert [window.slices for window in reads[4]] == [window.slices for window in reads[0][8:]]


@given(num_rows=st.integers(1, 500), lanes_per_batch=st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_steps_per_epoch_is_what_the_longest_lane_needs(num_rows: int, lanes_per_batch: int) -> None:
    plan = epoch_plan([RowGroup("a", 0, num_rows)], 0, 0, 1000)

    assert steps_per_epoch(num_rows, 8 * lanes_per_batch) == len(steps_of(plan, 8 * lanes_per_batch))


def test_only_what_a_rank_uses_is_read_and_in_the_order_of_use() -> None:
    """A reader that is asked for the next block only when it is needed holds at most a window a lane."""
    asked = []

    def noting(windows: Iterable[Window]) -> Iterator[pa.Table]:
        for window in windows:
            asked.append(window)
            yield from in_process([window])

    stream = RankStream([Pass(epoch_plan(groups_of([40] * 4), 0, 0, 5), 160)], 1, 4, 16, noting)
    steps = stream.next_pass()
    for _ in range(2):
        next(steps)

    assert {window.lane for window in asked} == {2, 3}
    assert len(asked) == 2


def test_two_ranks_over_three_epochs_on_real_shards(small_dataset: Path) -> None:
    index = [RowGroup(*group) for group in read_row_index(small_dataset, "train")]
    num_rows, batch_size = size_of(index), 16
    ids = {(g.file, g.index): read_row_group(g)["record_id"].to_pylist() for g in index}
    passes = [Pass(epoch_plan(index, seed=1, epoch=epoch, window_rows=4), num_rows) for epoch in range(3)]

    def named(row: str) -> str:
        file, group, place = row.rsplit(":", 2)
        return ids[file, int(group)][int(place)]

    expected = [[named(row) for row in step] for item in passes for step in steps_of(item.plan, batch_size)]
    streams = [RankStream(passes, rank, 2, batch_size, read_on_threads) for rank in range(2)]
    got = []
    for _ in passes:
        for parts in zip(*(stream.next_pass() for stream in streams), strict=True):
            got.append([row for part in parts for row in part["record_id"].to_pylist()])

    assert len(index) > 4
    assert sum(map(len, expected)) == 3 * num_rows
    assert got == expected


def test_rows_are_drawn_as_often_as_their_counts_say() -> None:
    groups = groups_of([20] * 6)
    counts = np.random.default_rng(0).multinomial(120, np.random.default_rng(1).dirichlet([0.3] * 120))

    rows = Counter(row for lane in lanes_of(epoch_plan(groups, 0, 0, 7, counts=counts)) for row in lane)

    every = [row for group in groups for row in rows_of(group)]
    assert rows == Counter({row: int(count) for row, count in zip(every, counts, strict=True) if count})


def test_counts_of_one_are_the_plain_plan() -> None:
    groups = groups_of([9, 0, 14, 3])

    drawn, plain = (epoch_plan(groups, 2, 3, 4, counts=counts) for counts in (np.ones(26, np.int64), None))

    assert lanes_of(drawn) == lanes_of(plain)


def test_drawn_rows_are_read_and_shuffled_like_others() -> None:
    groups, counts = groups_of([30, 30]), np.repeat([0, 3, 0, 1], [30, 10, 0, 20])[:60]
    counts[59] += 60 - counts.sum()
    plan = epoch_plan(groups, 0, 0, 64, counts=counts)

    assert [row for step in joined_steps([Pass(plan, 60)], 3, 8) for row in step] == [
        row for step in steps_of(plan, 8) for row in step
    ]
    read = [window for lane in plan for window in lane]
    assert all(first >= 0 and group == 1 for window in read for _, group, first, _ in window.slices)


def test_a_pass_is_planned_when_its_first_window_is_due() -> None:
    planned = []

    def passes() -> Iterator[Pass]:
        for epoch in range(1000):
            planned.append(epoch)
            yield Pass(epoch_plan(groups_of([40] * 4), 0, epoch, 1024), 160)

    stream = RankStream(passes(), 0, 1, 16, in_process)
    for _ in range(2):
        assert sum(map(len, stream.next_pass())) == 160
    assert len(planned) <= 3
