"""Whether a page looks like those that a model learned from: what is measured, and what is told apart by it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from vizecg.platform.config import load_config
from vizecg.platform.data.artefacts import PRESETS, wear_page
from vizecg.platform.data.batches import read_row_group
from vizecg.platform.data.order import RowGroup
from vizecg.platform.data.page import PageStyle, PrintedPage, print_page
from vizecg.platform.data.read_page import PageSpec, Pixels, prepare_image
from vizecg.platform.page_look import LEAST_PAGES, MOST_UNLIKE, NUMBERS, LearnedPages, learned_from, numbers_of
from vizecg.platform.train import pages
from vizecg.platform.train.pages import learned_pages, training_decoder
from vizecg.platform.train.prepare import make_job

SPEC = PageSpec(width_px=320, height_px=240)
GREY_GRID = {"fine_rgb": (190, 190, 190), "bold_rgb": (150, 150, 150)}


def printed(make_ecg, seed: int, width_px: int = 320, **style: object) -> PrintedPage:
    page = PageStyle(width_px=width_px, height_px=width_px * 3 // 4)
    return print_page(make_ecg(seed), 500, replace(page, **style))


def page_of(make_ecg, seed: int, width_px: int = 320, **style: object) -> Pixels:
    return prepare_image(printed(make_ecg, seed, width_px, **style).rgb(), SPEC)


@pytest.fixture(scope="module")
def learned(make_ecg) -> LearnedPages:
    """Clean prints at the model's own size."""
    found = learned_from(page_of(make_ecg, seed) for seed in range(LEAST_PAGES))
    assert found is not None
    return found


def test_the_numbers_are_what_they_say():
    page = np.random.default_rng(0).integers(0, 256, (3, 90, 120), np.uint8)
    grey = cv2.cvtColor(np.ascontiguousarray(page.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY).astype(int)
    framed = np.pad(grey, 1, mode="reflect")
    around = framed[:-2, 1:-1] + framed[2:, 1:-1] + framed[1:-1, :-2] + framed[1:-1, 2:]
    *percentiles, across, down, curvature, colour = numbers_of(page)
    assert len(percentiles) + 4 == len(NUMBERS)
    assert percentiles == pytest.approx(np.quantile(grey, (0.01, 0.05, 0.25, 0.5, 0.95)), abs=1.01)
    assert across == pytest.approx(np.abs(np.diff(grey, axis=1)).sum() / grey.size)
    assert down == pytest.approx(np.abs(np.diff(grey, axis=0)).sum() / grey.size)
    assert curvature == pytest.approx(np.abs(around - 4 * grey).mean())
    assert colour == pytest.approx((page.max(0).astype(int) - page.min(0)).mean())


def test_other_hearts_on_the_same_paper_are_alike(make_ecg, learned: LearnedPages):
    unlike = [learned.unlikeness(page_of(make_ecg, seed)) for seed in range(1000, 1060)]
    assert np.quantile(unlike, 0.9) < 1 and max(unlike) < MOST_UNLIKE


@pytest.mark.parametrize(
    ("width_px", "style"),
    [(1200, {}), (640, {}), (320, GREY_GRID), (320, {"trace_rgb": (150, 150, 160)})],
    ids=["lines of large pages", "of larger ones", "grey grid", "faint ink"],
)
def test_other_prints_are_not(make_ecg, learned: LearnedPages, width_px: int, style: dict[str, object]):
    unlike = [learned.unlikeness(page_of(make_ecg, seed, width_px, **style)) for seed in range(1000, 1010)]
    assert min(unlike) > MOST_UNLIKE


def test_nor_are_photos_unless_they_were_learned_from(make_ecg, learned: LearnedPages):
    def photo(seed: int) -> Pixels:
        page = printed(make_ecg, seed, 640).rgb()
        return prepare_image(wear_page(page, PRESETS["photo-clean"], np.random.default_rng(seed))[0], SPEC)

    assert min(learned.unlikeness(photo(seed)) for seed in range(1000, 1010)) > MOST_UNLIKE
    of_photos = learned_from(photo(seed) for seed in range(LEAST_PAGES))
    assert of_photos is not None
    assert np.median([of_photos.unlikeness(photo(seed)) for seed in range(1000, 1010)]) < 1


def test_pages_that_are_all_the_same_leave_some_slack(make_ecg):
    page = page_of(make_ecg, 0)
    same = learned_from([page] * LEAST_PAGES)
    assert same is not None and same.usual == 1 and same.unlikeness(page) == pytest.approx(0, abs=1e-9)
    assert same.unlikeness(np.where(page > 0, page - 1, page)) < MOST_UNLIKE
    assert learned_from([page] * (LEAST_PAGES - 1)) is None


def test_it_survives_being_written_and_refuses_what_was_edited(make_ecg, learned: LearnedPages):
    page = page_of(make_ecg, 7, 640)
    text = learned.model_dump_json()
    assert LearnedPages.model_validate_json(text).unlikeness(page) == learned.unlikeness(page)
    facts = json.loads(text)
    for wrong in ({"mean": facts["mean"][1:]}, {"covariance": facts["covariance"][1:]}, {"usual": 0}):
        with pytest.raises(ValidationError):
            LearnedPages.model_validate({**facts, **wrong})


def test_a_run_tells_of_pages_as_it_trains_on_them(small_dataset: Path):
    settings = ["model.size=debug", "batch_size=16"]
    job = make_job(small_dataset, load_config(None, settings))
    assert job.num_train < LEAST_PAGES and learned_pages(job) is None
    drawn_too = ["data.page=drawn", 'data.drawn.conditions={"clean": 1, "photo-clean": 1}']
    drawn = learned_pages(make_job(small_dataset, load_config(None, [*settings, *drawn_too])))
    # One epoch after the other, until there are enough.
    assert drawn is not None and drawn.num_pages > 4 * job.num_train
    # Papers of every colour, and photos of them.
    rows = pa.concat_tables([read_row_group(group) for group in job.train])
    stored = np.array([numbers_of(page) for page in training_decoder(job).batch(rows, epoch=0).page.numpy()])
    assert np.trace(np.array(drawn.covariance)) > 5 * np.trace(np.cov(stored.T))


@pytest.mark.parametrize(("num_groups", "rows"), [(1000, 1), (1000, 7), (3, 500), (30, 32)])
def test_pages_come_from_all_over_the_split(monkeypatch: pytest.MonkeyPatch, num_groups: int, rows: int):
    seen: list[tuple[int, int]] = []

    class Decoder:
        def batch(self, table: pa.Table, epoch: int) -> SimpleNamespace:
            seen.append((table["group"][0].as_py(), len(table)))
            return SimpleNamespace(page=torch.zeros(len(table), 3, 64, 64, dtype=torch.uint8))

    monkeypatch.setattr(pages, "training_decoder", lambda job: Decoder())
    monkeypatch.setattr(pages, "read_row_group", lambda group: pa.table({"group": [group.index] * group.num_rows}))
    groups = [RowGroup("file", index, rows) for index in range(num_groups)]
    config = SimpleNamespace(epochs=2, data=SimpleNamespace(page="stored"))
    learned = learned_pages(SimpleNamespace(train=groups, num_train=num_groups * rows, config=config))  # pyrefly: ignore
    assert learned is not None and learned.num_pages == 384
    assert len({group for group, _ in seen}) >= min(24, num_groups) and max(count for _, count in seen) <= 32
    assert max(group for group, _ in seen) > 0.6 * num_groups
