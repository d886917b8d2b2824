"""What is said of a page before a model reads it: layouts that are told are right, warnings come when they should."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vizecg.platform.data.artefacts import PRESETS, wear_page
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.printing.layout import LAYOUTS
from vizecg.platform.data.printing.styles import page_style
from vizecg.platform.data.read_page import PageSpec, Reading, read_page
from vizecg.platform.data.reading.finder import PageFinding, find_page
from vizecg.platform.data.reading.fit_layout import Network, cut, label_of
from vizecg.platform.data.reading.layout import (
    LOOK_HEIGHT_PX,
    LOOK_WIDTH_PX,
    NAMES,
    layout_logits,
    look_of_layout,
)
from vizecg.platform.data.reading.quality import TEXTS, edges_of, page_quality, tilt_of

Pixels = np.ndarray

REAL_LAYOUTS = {
    "ptbxl_printed_scans": "3x4+1", "khan_cardiac_images": "3x4+1",
    "ecg00013": "3x4", "ecg00015": "3x4", "ecg00016": "3x4", "ecg00022": "3x4", "ecg00023": "3x4", "ecg00053": "3x4+3",
    "ecg_image_kit_samples": "3x4+1",
}  # fmt: skip
"""By file or else folder, as they were seen by eye."""


def drawn(number: int, layout: str | None = None, width_px: int = 1024) -> tuple[Pixels, PageStyle]:
    """A page of a practice record in some style; of a layout of several pages, some page."""
    rng = np.random.default_rng([7, number])
    style = page_style(rng, width_px, round(width_px * 0.77), list(LAYOUTS) if layout is None else [layout])
    style = replace(style, page=int(rng.integers(len(LAYOUTS[style.layout]))))
    signal_uv = draw_signal(plan_record(7, number), Recorder.of(250, 10.0))
    return draw_page(signal_uv.T / 1000.0, 250, style), style


def name_of(style: PageStyle) -> str:
    return style.layout.split(",")[style.page]


def codes(image: Pixels, finding: PageFinding | None = None) -> set[str]:
    return {code for code, _ in page_quality(image, finding).warnings}


def turned(image: Pixels, clockwise_deg: float) -> Pixels:
    height_px, width_px = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), -clockwise_deg, 0.95)
    return np.asarray(cv2.warpAffine(image, matrix, (width_px, height_px), borderMode=cv2.BORDER_REPLICATE), np.uint8)


@pytest.fixture(scope="module")
def pages() -> list[tuple[Pixels, PageStyle]]:
    """Eight of every layout, of several sizes."""
    sizes_px = (512, 800, 1024, 1600)
    return [
        drawn(8 * place + number, layout, sizes_px[number % 4])
        for place, layout in enumerate(LAYOUTS)
        for number in range(8)
    ]


def test_clean_pages_have_no_warnings(pages: list[tuple[Pixels, PageStyle]]):
    warned = [(name_of(style), codes(page, find_page(page)) - {"leads_missing"}) for page, style in pages]
    assert sum(bool(found) for _, found in warned) <= 0.02 * len(pages), [each for each in warned if each[1]]


def test_told_layouts_are_right(pages: list[tuple[Pixels, PageStyle]]):
    found = [(page_quality(page).layout, name_of(style)) for page, style in pages]
    told = [(said, true) for said, true in found if said is not None]
    assert len(told) >= 0.7 * len(found)
    assert sum(said != true for said, true in told) <= 0.03 * len(told), found


@pytest.mark.parametrize("preset", PRESETS)
def test_told_layouts_are_right_whatever_befalls_a_page(preset: str, pages: list[tuple[Pixels, PageStyle]]):
    wrong = told = 0
    for number, (page, style) in enumerate(pages[::2]):
        said = page_quality(wear_page(page, PRESETS[preset], np.random.default_rng(number))[0]).layout
        told += said is not None
        wrong += said not in (None, name_of(style))
    assert told >= 0.4 * len(pages[::2]) and wrong <= 0.03 * told + 0.5


def test_layouts_that_no_device_prints_are_seldom_named(pages: list[tuple[Pixels, PageStyle]]):
    rng = np.random.default_rng(1)
    left = [cut(page, style, rng) for page, style in pages]
    nameless = [np.ascontiguousarray(page) for page, shape in left if label_of(shape) == len(NAMES)]
    assert len(nameless) > 20
    assert sum(page_quality(page).layout is not None for page in nameless) <= 0.2 * len(nameless)


def test_half_a_record_is_warned_of(pages: list[tuple[Pixels, PageStyle]]):
    for page, _ in pages:
        quality = page_quality(page)
        assert ("leads_missing" in dict(quality.warnings)) == (quality.layout in ("6x1", "3x2+1"))


BLURS_MM = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0)
FADES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1)
TILTS_DEG = (0.0, 0.7, 1.4, 2.1, 3.5, 4.2, 5.0, 6.5, 8.0)


@pytest.mark.parametrize(
    ("code", "strengths", "spoilt", "surely"),
    [
        ("blurred", BLURS_MM, lambda page, mm: cv2.GaussianBlur(page, (0, 0), mm * page.shape[1] / 280), 0.8),
        ("low_contrast", FADES, lambda page, share: (page * share + 240 * (1 - share)).astype(np.uint8), 0.2),
        ("tilted", TILTS_DEG, turned, 3.5),
        ("tilted", tuple(-tilt for tilt in TILTS_DEG), turned, -3.5),
    ],
    ids=["blurred", "low_contrast", "tilted clockwise", "tilted anticlockwise"],
)
def test_what_grows_worse_is_warned_of_and_stays_so(
    code: str, strengths: tuple[float, ...], spoilt: Callable[[Pixels, float], Pixels], surely: float
):
    for number in range(6):
        page, _ = drawn(100 + number)
        warned = [code in codes(spoilt(page, strength) if strength != strengths[0] else page) for strength in strengths]
        first = warned.index(True)
        assert all(warned[first:]) and 0 < first <= strengths.index(surely), (number, warned)


def test_small_pictures_are_warned_of():
    for width_px, is_small in ((300, True), (400, True), (440, False), (512, False), (2000, False)):
        assert ("low_resolution" in codes(drawn(3, "3x4+1", width_px)[0])) == is_small
    text = dict(page_quality(drawn(3, "3x4+1", 300)[0]).warnings)["low_resolution"]
    assert "300 pixels" in text


@pytest.mark.parametrize("tilt_deg", [-6.0, -2.5, 0.0, 1.0, 4.0, 9.0])
@pytest.mark.parametrize("shape", [(600, 1000), (800, 1000), (1000, 900)])
def test_the_tilt_is_measured_whatever_the_pictures_shape(tilt_deg: float, shape: tuple[int, int]):
    page = cv2.resize(drawn(5, "3x4+1")[0], shape[::-1])
    grey = np.asarray(cv2.cvtColor(turned(page, tilt_deg), cv2.COLOR_RGB2GRAY), np.uint8)
    assert tilt_of(look_of_layout(grey), grey.shape) == pytest.approx(tilt_deg, abs=1.2)


def test_the_width_of_edges_is_that_of_the_blur():
    lines = np.full((800, 1000), 250, np.uint8)
    for y_px in range(40, 800, 60):
        cv2.line(lines, (0, y_px), (999, y_px + 20), 10, 1)
    for sigma_px in (2.0, 3.0, 4.0):
        width_px, _ = edges_of(cv2.GaussianBlur(lines, (0, 0), sigma_px))
        assert width_px == pytest.approx(1.65 * sigma_px, rel=0.15)


def test_what_the_finder_was_unsure_of_is_warned_of():
    page, _ = drawn(1, "3x4+1")
    sure = find_page(page)
    assert codes(page, sure) == codes(page) == set()
    assert codes(page, replace(sure, turn_score=0.6)) == {"turn_unclear"}
    assert codes(page, replace(sure, ecg_score=0.3)) == {"strange_page"}


@pytest.mark.parametrize("shape", [(64, 64), (64, 760), (760, 64), (3000, 400)])
def test_pictures_of_any_shape_are_judged(shape: tuple[int, int]):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for image in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        quality = page_quality(image, find_page(image))
        assert quality.layout is None and "strange_page" in dict(quality.warnings)
        assert all(code in TEXTS and text for code, text in quality.warnings)


def test_the_network_is_the_one_that_was_fitted():
    torch.manual_seed(1)
    network = Network()
    looks = torch.randn(4, LOOK_HEIGHT_PX, LOOK_WIDTH_PX)
    for _ in range(3):
        network(looks)  # Fills the batch norms.
    network.eval()
    weights = {name: array.astype(np.float32) for name, array in network.folded().items()}
    with torch.inference_mode():
        expected = network(looks).numpy()
    assert np.abs(layout_logits(looks.numpy(), weights) - expected).max() < 0.02 * np.abs(expected).max() + 0.01


def test_reading_a_page_tells_its_quality_only_where_asked():
    page, style = drawn(2, "3x4+1")
    upside_down = encode_page(np.ascontiguousarray(page[::-1, ::-1]))
    spec = PageSpec(width_px=256, height_px=192)
    plain, told = (read_page(upside_down, spec, Reading(quality=asked)) for asked in (False, True))
    assert plain.quality is None and plain.sent_size_px is None
    assert (plain.pixels == told.pixels).all() and told.sent_size_px == (style.width_px, style.height_px)
    assert told.quality == page_quality(page, told.finding) and told.quality.layout == "3x4+1"


def test_layouts_told_of_real_prints_are_true(real_prints: list[Path]):
    told: dict[str, str] = {}
    for path in real_prints:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        quality = page_quality(image, find_page(image))
        assert {code for code, _ in quality.warnings} <= {"tilted", "turn_unclear", "strange_page"}, path
        if quality.layout is not None:
            told[path.stem] = quality.layout
            assert quality.layout == REAL_LAYOUTS.get(path.stem, REAL_LAYOUTS[path.parent.name]), path
    assert len(told) >= 12
