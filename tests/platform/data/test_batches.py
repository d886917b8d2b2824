"""Every row once an epoch, in an order that the number of workers does not touch."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.config import NUM_LANES
from vizecg.platform.data import batches
from vizecg.platform.data.batches import (
    RankStream,
    RowGroup,
    Window,
    as_row,
    epoch_plan,
    lane_bounds,
    rank_lanes,
    read_row_group,
    read_window,
    steps_per_epoch,
)
from vizecg.platform.data.dataset_info import read_row_index

Plan = list[list[Window]]

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

    def row_group(file: str, group: int) -> pa.Table:
        if file.endswith(".parquet"):
            return from_file(file, group)
        ids = [f"{file}:{group}:{row}" for row in range(60)]
        signal = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((60, 12, 2), np.int16))
        return pa.table({"record_id": ids, "signal": signal})

    from_file = batches._row_group
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_row_group", row_group)
        yield


def in_process(windows: list[Window]) -> Iterator[pa.Table]:
    """What `ray_reader` gives, without Ray."""
    for window in windows:
        yield read_window(pa.Table.from_pylist([as_row(window)]))


def rank_steps(passes: list[Plan], lengths: list[int], rank: int, world_size: int, batch_size: int) -> list[list[str]]:
    stream = RankStream(passes, rank, world_size, batch_size, in_process)
    return [step["record_id"].to_pylist() for length in lengths for step in stream.steps(length)]


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


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 1), (16, 2), (24, 3), (32, 4), (64, 8), (64, 16), (48, 6)])
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
        shares = rank_lanes(rank, world_size, batch_size).values()
        assert sum(end - first for first, end in shares) == batch_size // world_size


@pytest.mark.parametrize(("batch_size", "worlds"), [(8, (1, 2, 4)), (16, (1, 2, 4)), (32, (1, 2, 4)), (24, (1, 3))])
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
        passes.append(epoch_plan(train, seed, epoch, window_rows))
        passes.append(epoch_plan(val, seed, epoch, window_rows, shuffle=False))
    lengths = [sum(group.num_rows for group in part) for part in (train, val)] * 2
    expected = [step for plan in passes for step in steps_of(plan, batch_size)]

    for world_size in worlds:
        ranks = [rank_steps(passes, lengths, rank, world_size, batch_size) for rank in range(world_size)]
        assert {len(steps) for steps in ranks} == {len(expected)}
        assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == expected
        assert all(len(step) <= batch_size // world_size for steps in ranks for step in steps)
    for part, plan in zip((train, val) * 2, passes, strict=True):
        held = Counter(row for step in steps_of(plan, batch_size) for row in step)
        assert held == Counter(row for group in part for row in rows_of(group))


def test_a_rank_may_have_nothing_in_the_last_step() -> None:
    """9 rows and a batch of 8: the second step has one row, and three of four ranks hold none of it."""
    plan = epoch_plan(groups_of([9]), 0, 0, 4)

    ranks = [rank_steps([plan], [9], rank, 4, 8) for rank in range(4)]

    assert [[len(step) for step in steps] for steps in ranks] == [[2, 0], [2, 0], [2, 0], [2, 1]]
    assert sum(sum(ranks, []), []) and Counter(sum(sum(ranks, []), [])) == Counter(rows_of(RowGroup("a", 0, 9)))


def test_a_step_without_rows_keeps_the_columns() -> None:
    stream = RankStream([epoch_plan(groups_of([9]), 0, 0, 4)], 0, 4, 8, in_process)

    steps = list(stream.steps(9))

    assert len(steps[1]) == 0
    assert steps[1].schema == steps[0].schema


def test_a_later_start_goes_on_with_the_same_epochs() -> None:
    groups = groups_of([7, 11, 5, 10])
    passes = [epoch_plan(groups, 4, epoch, 3) for epoch in range(3)]

    whole, resumed = rank_steps(passes, [33] * 3, 0, 2, 16), rank_steps(passes[1:], [33] * 2, 0, 2, 16)

    assert resumed == whole[steps_per_epoch(33, 16) :]


@given(num_rows=st.integers(1, 500), lanes_per_batch=st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_steps_per_epoch_is_what_the_longest_lane_needs(num_rows: int, lanes_per_batch: int) -> None:
    plan = epoch_plan([RowGroup("a", 0, num_rows)], 0, 0, 1000)

    assert steps_per_epoch(num_rows, 8 * lanes_per_batch) == len(steps_of(plan, 8 * lanes_per_batch))


def test_only_what_a_rank_uses_is_read_and_in_the_order_of_use() -> None:
    """A reader that is asked for the next block only when it is needed holds at most a window a lane."""
    asked = []

    def noting(windows: list[Window]) -> Iterator[pa.Table]:
        for window, table in zip(windows, in_process(windows), strict=True):
            asked.append(window)
            yield table

    stream = RankStream([epoch_plan(groups_of([40] * 4), 0, 0, 5)], 1, 4, 16, noting)
    steps = stream.steps(160)
    for _ in range(2):
        next(steps)

    assert {window.lane for window in asked} == {2, 3}
    assert len(asked) == 2


def test_two_ranks_over_three_epochs_on_real_shards(ray_cluster: None, small_dataset) -> None:
    index = [RowGroup(*group) for group in read_row_index(small_dataset, "train")]
    num_rows, batch_size = sum(group.num_rows for group in index), 16
    ids = {(g.file, g.index): read_row_group(g)["record_id"].to_pylist() for g in index}
    passes = [epoch_plan(index, seed=1, epoch=epoch, window_rows=4) for epoch in range(3)]

    def named(row: str) -> str:
        file, group, place = row.rsplit(":", 2)
        return ids[file, int(group)][int(place)]

    expected = [[named(row) for row in step] for plan in passes for step in steps_of(plan, batch_size)]
    streams = [RankStream(passes, rank, 2, batch_size) for rank in range(2)]
    got = []
    for _ in range(3):
        for parts in zip(*(stream.steps(num_rows) for stream in streams), strict=True):
            got.append([row for part in parts for row in part["record_id"].to_pylist()])

    assert len(index) > 4
    assert sum(map(len, expected)) == 3 * num_rows
    assert got == expected
