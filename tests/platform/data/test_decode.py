"""Rows become batches: targets resolved, empty steps stood in for, pages moved as the seed says, threads that end."""

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.data.batches import no_rows
from vizecg.platform.data.decode import BatchDecoder, moved, prefetched
from vizecg.platform.data.labels import LabelSpace
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.errors import PageError

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = LabelSpace.model_validate(
    {
        "name": "two",
        "labels": [
            {"key": "AF", "name": "Atrial fibrillation", "codes": ["snomed:1", "scp:AFIB"]},
            {"key": "SB", "name": "Sinus bradycardia", "codes": ["snomed:2"]},
        ],
    }
)
PAGE = PageSpec(width_px=80, height_px=64)
SAMPLES = 5


def page_of(number: int) -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def rows(*records: dict) -> pa.Table:
    """Rows as `read_window` gives them; `codes` and `code_set` as wanted."""
    signal = np.arange(len(records) * 12 * SAMPLES, dtype=np.int16) - 100
    return pa.table(
        {
            "record_id": [f"r{n}" for n in range(len(records))],
            "page": pa.array([page_of(n) for n in range(len(records))], pa.binary()),
            "signal": pa.FixedSizeListArray.from_arrays(pa.array(signal), 12 * SAMPLES),
            "signal_known": [record.get("signal_known", True) for record in records],
            "lead_present": pa.array([[n != 3 for n in range(12)]] * len(records), pa.list_(pa.bool_(), 12)),
            "valid_samples": pa.array([record.get("valid", SAMPLES) for record in records], pa.int32()),
            "codes": pa.array([record.get("codes", []) for record in records], pa.list_(pa.string())),
            "code_set": pa.array([record.get("code_set", []) for record in records], pa.list_(pa.string())),
        }
    )


THREE = (
    {"codes": ["snomed:1"], "code_set": ["snomed:1", "snomed:2"]},
    {"codes": [], "code_set": ["scp:AFIB"], "signal_known": False, "valid": 2},
    {"codes": ["snomed:2", "snomed:99"], "code_set": []},
)


def test_records_become_tensors() -> None:
    table = rows(*THREE)

    batch = BatchDecoder(LABELS, PAGE).batch(table)

    assert batch.target.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert batch.target_known.tolist() == [[True, True], [True, False], [False, True]]
    assert batch.record_id == ["r0", "r1", "r2"]
    assert batch.signal_known.tolist() == [True, False, True]
    assert batch.valid_samples.tolist() == [5, 2, 5]
    assert batch.lead_present.tolist() == [[n != 3 for n in range(12)]] * 3
    assert batch.weight.tolist() == [1, 1, 1]
    assert batch.signal.shape == (3, 12, SAMPLES)
    expected_mv = (np.arange(3 * 12 * SAMPLES).reshape(3, 12, SAMPLES) - 100) / 1000
    np.testing.assert_allclose(batch.signal.numpy(), expected_mv, atol=1e-7)
    for n in range(3):
        assert np.array_equal(batch.page[n].numpy(), prepare(page_of(n), PAGE))
    kinds = {name: value.dtype for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    assert kinds == {
        "page": torch.uint8, "signal": torch.float32, "signal_known": torch.bool, "lead_present": torch.bool,
        "valid_samples": torch.int64, "target": torch.float32, "target_known": torch.bool, "weight": torch.float32,
    }  # fmt: skip


def test_columns_in_several_pieces_and_slices() -> None:
    whole = rows(*THREE)
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])

    one, two = BatchDecoder(LABELS, PAGE).batch(whole), BatchDecoder(LABELS, PAGE).batch(pieces)
    tail = BatchDecoder(LABELS, PAGE).batch(whole.slice(1, 2))

    assert torch.equal(one.signal, two.signal)
    assert torch.equal(one.page, two.page)
    assert torch.equal(tail.signal, one.signal[1:])
    assert torch.equal(tail.page, one.page[1:])
    assert tail.target.tolist() == one.target[1:].tolist()


@pytest.mark.parametrize("nothing", [no_rows(), rows(*THREE).slice(0, 0)])
def test_no_rows_are_one_empty_record_without_weight(nothing: pa.Table) -> None:
    decoder = BatchDecoder(LABELS, PAGE, num_samples=SAMPLES)

    batch, usual = decoder.batch(nothing, epoch=1), decoder.batch(rows(THREE[0]))

    assert batch.record_id == [""]
    assert not batch.signal_known.any() and not batch.target_known.any() and not batch.weight.any()
    assert not batch.signal.any() and (batch.page == 255).all()
    tensors = {name: value for name, value in vars(usual).items() if isinstance(value, torch.Tensor)}
    for name, value in tensors.items():
        assert (getattr(batch, name).shape, getattr(batch, name).dtype) == (value.shape, value.dtype), name


def test_a_page_that_cannot_be_read_is_an_error() -> None:
    table = rows(THREE[0])
    table = table.set_column(1, "page", pa.array([b"no picture"], pa.binary()))

    with pytest.raises(PageError):
        BatchDecoder(LABELS, PAGE).batch(table)


def test_pages_move_by_seed_epoch_and_record() -> None:
    table = rows(*[{}] * 6)

    def pages(seed: int, epoch: int | None, shift_px: int = 4, order: list[int] | None = None) -> torch.Tensor:
        taken = table.take(order or list(range(6)))
        return BatchDecoder(LABELS, PAGE, 1, shift_px, seed).batch(taken, epoch).page

    still = pages(0, None)
    assert torch.equal(pages(0, 3, shift_px=0), still)
    assert not torch.equal(pages(0, 3), still)
    assert torch.equal(pages(0, 3), pages(0, 3))
    assert not torch.equal(pages(0, 3), pages(0, 4))
    assert not torch.equal(pages(0, 3), pages(1, 3))
    # Neither the place in the batch nor the neighbours matter: workers may share a batch as they like.
    assert torch.equal(pages(0, 3, order=[5, 4, 3, 2, 1, 0]), pages(0, 3).flip(0))
    np.testing.assert_array_equal(still[0].numpy(), prepare(page_of(0), PAGE))


def test_shifts_stay_within_their_limit_and_use_it() -> None:
    decoder = BatchDecoder(LABELS, PAGE, 1, shift_px=2, seed=0)

    shifts = {decoder._shift(f"r{n}", 0) for n in range(400)}

    assert shifts == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


@given(down=st.integers(-9, 9), right=st.integers(-9, 9))
@settings(max_examples=40, deadline=None)
def test_a_page_moves_with_its_border_repeated(down: int, right: int) -> None:
    page = np.random.default_rng(0).integers(0, 256, (3, 6, 8), dtype=np.uint8)

    got = moved(page, down, right)

    for row in range(6):
        for column in range(8):
            source = page[:, min(max(row - down, 0), 5), min(max(column - right, 0), 7)]
            assert np.array_equal(got[:, row, column], source)


def test_prefetched_keeps_items_and_order() -> None:
    assert list(prefetched(iter(range(100)), depth=3)) == list(range(100))
    assert list(prefetched([])) == []
    assert list(prefetched([None, 0, False])) == [None, 0, False]


def test_prefetched_works_ahead_but_not_further_than_its_depth() -> None:
    made = []
    items = prefetched((made.append(n) for n in range(100)), depth=2)

    next(items)
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)

    assert len(made) == 4  # One used, two waiting, one in the hand of the thread.
    items.close()


def test_prefetched_passes_errors_on_after_what_came_before() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise PageError("truncated", "half a page")

    seen = []
    with pytest.raises(PageError, match="half a page"):
        for item in prefetched(failing()):
            seen.append(item)

    assert seen == [1, 2]


@pytest.mark.parametrize("stop", ["close", "error", "forget"])
@pytest.mark.parametrize("used", [1, 3])
def test_prefetched_leaves_no_thread_behind(stop: str, used: int) -> None:
    before = set(threading.enumerate())
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = prefetched(endless(), depth=2)
    for _ in range(used):
        next(items)
    time.sleep(0.05)  # Until the thread waits for room.
    (worker,) = set(threading.enumerate()) - before
    if stop == "close":
        items.close()
    elif stop == "error":
        with pytest.raises(KeyError):
            items.throw(KeyError)
    del items

    worker.join(5)
    assert not worker.is_alive()
    assert closed.wait(5)


def test_a_finished_prefetch_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())

    list(prefetched(range(5)))

    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) == before
