"""The page finder: ECG pages are accepted and set upright, other pictures refused, whether drawn or real."""

import runpy
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vizecg.platform.data.artefacts import PRESETS, wear_page
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import GRID_COLOURS, LAYOUTS, PageStyle, draw_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.reading.evidence import trace_rows
from vizecg.platform.data.reading.finder import find_page, set_upright
from vizecg.platform.data.reading.fit import HELD_APART, Network
from vizecg.platform.data.reading.look import LOOK_PX, judge, look_of

TURNS_DEG = (0, 90, 180, 270)
OTHER_KINDS = runpy.run_path(str(Path(__file__).with_name("other_pictures.py")))["KINDS"]


def sent(image: np.ndarray, turn_deg: int) -> np.ndarray:
    """An upright picture as somebody sends it who ought to have turned it clockwise by `turn_deg`."""
    return np.ascontiguousarray(np.rot90(image, turn_deg // 90))


def drawn(number: int, **fields: object) -> np.ndarray:
    signal_uv = draw_signal(plan_record(3, number), Recorder.of(250, 10.0))
    return draw_page(signal_uv.T / 1000.0, 250, PageStyle(**fields))


def wrong(images: list[np.ndarray]) -> list[tuple[int, int, str]]:
    """Number, turn and what was found, of the upright images that are refused or set wrongly from any turn."""
    found = []
    for number, image in enumerate(images):
        for turn_deg in TURNS_DEG:
            finding = find_page(sent(image, turn_deg))
            if not finding.accepted or finding.turned_deg != turn_deg:
                found.append((number, turn_deg, str(finding)))
    return found


@pytest.mark.parametrize("turn_deg", TURNS_DEG)
def test_a_page_is_set_upright(turn_deg: int):
    page = drawn(0, width_px=800, height_px=600)
    turned = sent(page, turn_deg)
    finding = find_page(turned)
    assert finding.accepted and finding.reason is None and finding.is_turn_clear
    assert (set_upright(turned, finding) == page).all()


def test_every_layout_and_grid_is_accepted_and_set_upright():
    colours = list(GRID_COLOURS.values())
    styles = [(layout, page) for layout, pages in LAYOUTS.items() for page in range(len(pages))]
    pages = [
        drawn(number, layout=layout, page=page, width_px=900, height_px=675, **colours[number % len(colours)])
        for number, (layout, page) in enumerate(styles)
    ]
    assert wrong(pages) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_what_befalls_a_page_hides_neither_it_nor_which_way_is_up(preset: str):
    pages = [
        wear_page(drawn(number, width_px=800, height_px=600), PRESETS[preset], np.random.default_rng(number))[0]
        for number in range(3)
    ]
    assert wrong(pages) == []


def test_pages_of_a_models_size_are_accepted():
    pages = [drawn(number, width_px=160, height_px=120) for number in range(20)]
    assert sum(not find_page(page).accepted for page in pages) == 0


@pytest.mark.parametrize("kind", OTHER_KINDS, ids=lambda kind: kind.__name__)
def test_other_pictures_are_refused_with_a_reason(kind):
    for seed in range(3):
        finding = find_page(kind(np.random.default_rng(seed)))
        assert not finding.accepted and finding.reason == "not_an_ecg", finding
        assert finding.message is not None and "score" in finding.message


def test_paper_without_traces_is_refused():
    for number, colours in enumerate(GRID_COLOURS.values()):
        style = PageStyle(width_px=800, height_px=600, pulse="none", lead_names=False, separator="none", **colours)
        blank = draw_page(np.full((12, 1000), np.nan), 100, style)
        finding = find_page(blank)
        assert not finding.accepted and finding.trace_rows <= 1, (number, finding)


def test_a_picture_without_an_upright_is_left_as_it_is():
    flat = np.full((300, 400, 3), 128, np.uint8)
    finding = find_page(flat)
    assert not finding.accepted and not finding.is_turn_clear and finding.turned_deg == 0
    assert set_upright(flat, finding) is flat


@pytest.mark.parametrize("shape", [(64, 64), (64, 760), (760, 64)])
def test_pictures_of_any_shape_are_judged(shape: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert not find_page(image).accepted


def test_evidence_counts_the_rows_of_traces():
    for layout, rows in (("3x4", 3), ("3x4+1", 4), ("6x2", 6)):
        counts = [trace_rows(look_of(drawn(number, layout=layout, separator="none"))) for number in range(5)]
        assert abs(np.median(counts) - rows) <= 1, (layout, counts)
    assert trace_rows(np.zeros((LOOK_PX, LOOK_PX), np.float32)) == 0


def test_light_hardly_changes_what_is_seen():
    page = drawn(1, width_px=640, height_px=480)
    darker = np.clip(page * np.linspace(0.4, 0.9, 640)[None, :, None], 0, 255).astype(np.uint8)
    look, darker_look = look_of(page), look_of(darker)
    assert np.corrcoef(look.ravel(), darker_look.ravel())[0, 1] > 0.98


def test_judging_is_the_network_that_was_fitted():
    torch.manual_seed(1)
    network = Network()
    looks = torch.randn(8, LOOK_PX, LOOK_PX)
    for _ in range(3):
        network(looks)  # Fills the batch norms.
    network.eval()
    weights = {name: array.astype(np.float32) for name, array in network.folded().items()}
    with torch.inference_mode():
        expected = network(looks).numpy()
    assert np.abs(judge(looks.numpy(), weights) - expected).max() < 0.02 * np.abs(expected).max() + 0.01


def test_a_finding_takes_milliseconds_and_is_always_the_same():
    page = drawn(2)
    first = find_page(page)
    start_s = time.perf_counter()
    assert all(find_page(page) == first for _ in range(10))
    assert (time.perf_counter() - start_s) / 10 < 0.1


def test_real_pages_are_accepted_and_set_upright(real_data: Path):
    paths = [path for path in (real_data / "printed-pages").rglob("*") if path.suffix in (".png", ".jpg", ".bmp")]
    images = {path.stem: cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in sorted(paths)}
    assert len(images) == 27 and images.keys() >= HELD_APART
    findings = {stem: [find_page(sent(image, turn)) for turn in TURNS_DEG] for stem, image in images.items()}
    assert [stem for stem, found in findings.items() if not all(each.accepted for each in found)] == []
    # Whoever sends a page upright gets it back so.
    assert [stem for stem, found in findings.items() if found[0].turned_deg] == []
    missed = {stem for stem, found in findings.items() if [each.turned_deg for each in found] != list(TURNS_DEG)}
    # A tight crop, kept apart from fitting, of which the finder is unsure.
    assert missed <= {"ecg00015"}
