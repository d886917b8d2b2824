"""Drawn pages show the record's signal, another way in every epoch, whoever draws them."""

from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vizecg.platform.config import Condition, DrawnSection, Layout
from vizecg.platform.data.artefacts import PRESETS
from vizecg.platform.data.batches import RankStream, read_on_threads, read_row_group
from vizecg.platform.data.dataset_info import read_row_index
from vizecg.platform.data.decode import BatchDecoder
from vizecg.platform.data.drawn import STYLES_PER_EPOCH, DrawnPages
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.order import Pass, RowGroup, epoch_plan
from vizecg.platform.data.page import PageStyle
from vizecg.platform.data.printing.measurements import random_measurements
from vizecg.platform.data.printing.styles import ONE_PAGE_LAYOUTS
from vizecg.platform.data.read_page import PageSpec, prepare

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = PageSpec(width_px=160, height_px=120)
RATE_HZ = 50.0
ALL_LEADS = np.ones(12, dtype=bool)


@pytest.fixture(scope="module")
def groups(small_dataset) -> list[RowGroup]:
    return [RowGroup(*group) for group in read_row_index(small_dataset, "train")]


def decoder_of(drawn: DrawnPages | None, num_threads: int = 2) -> BatchDecoder:
    return BatchDecoder(load_label_space("practice"), SPEC, num_threads, num_samples=500, drawn=drawn)


def pages_by_record(groups: list[RowGroup], epoch: int, world_size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The pages that all workers of a run draw in an epoch."""
    num_rows = sum(group.num_rows for group in groups)
    found = {}
    for rank in range(world_size):
        decoder = decoder_of(DrawnPages(RATE_HZ, seed), num_threads=1 + rank)
        plan = epoch_plan(groups, 0, epoch, 16)
        for rows in RankStream([Pass(plan, num_rows)], rank, world_size, 8, read_on_threads).next_pass():
            batch = decoder.batch(rows, epoch)
            found |= dict(zip(batch.record_id, batch.page, strict=True))
    return {record_id: page for record_id, page in found.items() if record_id}


def test_pages_do_not_depend_on_the_number_of_workers_but_on_epoch_and_seed(groups) -> None:
    one, three = pages_by_record(groups, 0, 1), pages_by_record(groups, 0, 3)
    later, other = pages_by_record(groups, 1, 1), pages_by_record(groups, 0, 1, seed=1)

    assert one.keys() == three.keys() == later.keys()
    assert len(one) == sum(group.num_rows for group in groups)
    for record_id, page in one.items():
        assert page.shape == (3, 120, 160)
        assert torch.equal(page, three[record_id])
        assert not torch.equal(page, later[record_id])
        assert not torch.equal(page, other[record_id])


def test_validation_and_records_without_signals_keep_the_stored_page(groups) -> None:
    rows = read_row_group(groups[0])
    signal_known = [False] + [True] * (len(rows) - 1)
    rows = rows.set_column(rows.schema.get_field_index("signal_known"), "signal_known", [signal_known])
    decoder = decoder_of(DrawnPages(RATE_HZ, 0))
    stored = [torch.from_numpy(prepare(page, SPEC)) for page in rows["page"].to_pylist()]

    training, validation = decoder.batch(rows, 0).page, decoder.batch(rows).page

    assert all(torch.equal(page, expected) for page, expected in zip(validation, stored, strict=True))
    assert [torch.equal(page, expected) for page, expected in zip(training, stored, strict=True)] == [
        not known for known in signal_known
    ]


def test_absent_leads_and_padding_are_not_drawn(monkeypatch) -> None:
    plain = PageStyle(width_px=160, height_px=120)
    monkeypatch.setattr("vizecg.platform.data.drawn.page_style", lambda *_: plain)
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 500)).astype(np.float32)
    drawn, without_v6 = DrawnPages(RATE_HZ, 0), ALL_LEADS.copy()
    without_v6[11] = False

    whole = drawn.draw(signal, ALL_LEADS, "a", 0, SPEC)
    gap = drawn.draw(signal, without_v6, "a", 0, SPEC)
    short = drawn.draw(signal[:, :250], ALL_LEADS, "a", 0, SPEC)

    for less, (left, top) in ((gap, (0.7, 0.5)), (short, (0.45, 0.0))):
        changed = (whole != less).any(axis=0)
        assert changed.any()
        assert not changed[:, : int(left * 160)].any()
        assert not changed[: int(top * 120)].any()


def test_a_batch_draws_what_was_recorded(groups, monkeypatch) -> None:
    rows = read_row_group(groups[0]).slice(0, 2)
    present = [[lead != 4 for lead in range(12)]] * 2
    rows = rows.set_column(rows.schema.get_field_index("valid_samples"), "valid_samples", [[300, 500]])
    rows = rows.set_column(rows.schema.get_field_index("lead_present"), "lead_present", [present])
    seen = {}

    def draw(self, signal_mv, lead_present, record_id, epoch, spec):
        seen[record_id] = (signal_mv.copy(), lead_present.tolist(), epoch)
        return np.zeros((3, spec.height_px, spec.width_px), np.uint8)

    monkeypatch.setattr(DrawnPages, "draw", draw)
    batch = decoder_of(DrawnPages(RATE_HZ, 0)).batch(rows, 7)

    for number, length in enumerate((300, 500)):
        signal_mv, leads, epoch = seen[batch.record_id[number]]
        np.testing.assert_array_equal(signal_mv, batch.signal[number, :, :length].numpy())
        assert (leads, epoch) == (present[number], 7)


def test_styles_vary_and_repeat_within_an_epoch() -> None:
    blank, drawn = np.zeros((12, 500), np.float32), DrawnPages(RATE_HZ, 0)
    pages = [{drawn.draw(blank, ALL_LEADS, f"r{n}", epoch, SPEC).tobytes() for n in range(300)} for epoch in (0, 1)]
    assert [len(of_epoch) for of_epoch in pages] == [STYLES_PER_EPOCH] * 2
    assert not pages[0] & pages[1]


def drawn_as(**section) -> np.ndarray:
    """Twenty pages of one signal under other names."""
    signal = np.random.default_rng(0).normal(0, 0.2, (12, 500)).astype(np.float32)
    drawn = DrawnPages(RATE_HZ, 0, DrawnSection(**section))
    return np.stack(
        [drawn.draw(signal, ALL_LEADS, f"r{n}", 0, PageSpec(width_px=256, height_px=192)) for n in range(20)]
    )


def test_conditions_befall_the_pages_as_often_as_asked() -> None:
    clean = drawn_as()
    photos = drawn_as(conditions={"photo-stained": 1})
    half = drawn_as(conditions={"clean": 1, "photo-stained": 1})
    assert (photos == drawn_as(conditions={"photo-stained": 3, "clean": 0})).all()
    assert (photos != clean).any(axis=(1, 2, 3)).all()
    assert 3 <= sum((page == other).all() for page, other in zip(half, clean, strict=True)) <= 17
    assert (drawn_as(conditions={"photo-stained": 1}, artefact_strength=0) == clean).all()
    mild = drawn_as(conditions={"photo-stained": 1}, artefact_strength=0.2)
    assert np.abs(mild.astype(int) - clean).mean() < np.abs(photos.astype(int) - clean).mean()


def test_layouts_are_those_asked_for(monkeypatch) -> None:
    asked = []

    def page_style(_rng, width_px, height_px, layouts):
        asked.append(layouts)
        return PageStyle(width_px=width_px, height_px=height_px)

    monkeypatch.setattr("vizecg.platform.data.drawn.page_style", page_style)
    drawn_as(layouts=("6x2", "12x1"))
    drawn_as()
    assert set(asked) == {("6x2", "12x1"), ONE_PAGE_LAYOUTS}


def test_printed_measurements_are_of_the_record_or_random(monkeypatch) -> None:
    seen = []

    def printed_measurements(rng, *signal):
        seen.append(signal)
        return random_measurements(rng)

    monkeypatch.setattr("vizecg.platform.data.drawn.printed_measurements", printed_measurements)
    with_numbers = drawn_as(measurements=True)
    assert len(seen) == 20 and seen[0][1] == RATE_HZ
    assert (with_numbers != drawn_as()).any(axis=(1, 2, 3)).all()
    assert len(seen) == 20, "off unless asked for, because they tell what is to be learnt"


def test_config_knows_all_conditions_and_layouts() -> None:
    assert set(get_args(Condition)) == set(PRESETS)
    assert set(get_args(Layout)) == set(ONE_PAGE_LAYOUTS)
    for wrong in ({"conditions": {"clean": 0}}, {"conditions": {"wet": 1}}, {"layouts": ["4x4"]}, {"layouts": []}):
        with pytest.raises(ValidationError):
            DrawnSection(**wrong)
