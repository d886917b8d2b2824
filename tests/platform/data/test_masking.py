"""Text on a page is covered wherever it stands, traces stay, and what is no page of an ECG cannot be read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.masking import blurred, cells_to_cover, mask_text, text_on
from vizecg.platform.data.page import GRID_COLOURS, PageStyle, draw_page, page_truth
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.reading import fit_text
from vizecg.platform.data.reading.fit_pages import Recording
from vizecg.platform.data.reading.other_pictures import document, table
from vizecg.platform.data.reading.text_look import cell_logits, ink_of
from vizecg.platform.data.reading.text_pages import drawn_page, stroked, text_page, typeset

SIZE = {"width_px": 480, "height_px": 360}
FONTS = {"serif": "DejaVuSerif", "heavy": "cmb10", "script": 7, "strokes": 3}
"""Types that the finder of text was not fitted to."""
PLACES = {
    "header": (0.01, 0.05),
    "corner": (0.015, 0.6),
    "between": (0.33, 0.2),
    "trace": (0.5, 0.45),
    "foot": (0.94, 0.3),
}


def signal_mv(number: int) -> np.ndarray:
    return draw_signal(plan_record(3, number), Recorder.of(250, 10.0)).T / 1000.0


def styled(grid: str, layout: str = "3x4+1") -> PageStyle:
    return PageStyle(layout=layout, footer="", **SIZE, **GRID_COLOURS[grid])


def written(image: np.ndarray, text: str, place: str, font: str, capital_px: float) -> np.ndarray:
    """Write onto the image; the ink of the text (h, w)."""
    kind = FONTS[font]
    layer = stroked(text, capital_px, kind) if isinstance(kind, int) else typeset(text, capital_px, kind)
    top, left = (round(share * side) for share, side in zip(PLACES[place], image.shape[:2], strict=True))
    layer = layer[: image.shape[0] - top, : image.shape[1] - left]
    part = image[top : top + layer.shape[0], left : left + layer.shape[1]]
    part[:] = np.rint(part * (1 - layer[..., None]) + 25 * layer[..., None])
    ink = np.zeros(image.shape[:2], bool)
    ink[top : top + layer.shape[0], left : left + layer.shape[1]] = layer > 0.25
    return ink


@pytest.mark.parametrize(("grid", "font"), list(zip(("pink", "green", "black", "none"), FONTS, strict=True)))
def test_names_are_covered_wherever_they_stand(grid: str, font: str):
    legible = []
    for number, place in enumerate(PLACES):
        image = draw_page(signal_mv(number), 250, styled(grid))
        ink = written(image, "Erika Mustermann 12.03.1951", place, font, (5, 9)[number % 2])
        legible.append((ink & ~text_on(image)).sum() / ink.sum())
    assert max(legible) < 0.2, np.round(legible, 2)


def test_doubtful_cells_count_where_they_make_a_word():
    scores = np.zeros((60, 80), np.float32)
    scores[30, 10], scores[30, 30], scores[30, 50:55] = 0.9, 0.3, 0.3
    covered = cells_to_cover(scores).astype(bool)
    assert covered[29:32, 9:12].all() and covered[29:32, 49:56].all()
    assert covered.sum() == 3 * 3 + 3 * 7


def test_between_two_words_of_a_header_all_is_covered():
    scores = np.zeros((60, 80), np.float32)
    for row in (5, 30, 57):
        scores[row, 20:25] = scores[row, 50:55] = 0.9
    covered = cells_to_cover(scores).astype(bool)
    assert [covered[row, 19:56].mean() == 1 for row in (5, 30, 57)] == [True, False, True]


@pytest.mark.parametrize("layout", ["3x4+1", "6x2", "12x1", "3x4+3"])
def test_traces_and_names_of_leads_stay(layout: str):
    lost, names_lost = [], []
    for number in range(4):
        style = styled(("pink", "blue", "black", "none")[number], layout)
        covered = text_on(draw_page(signal_mv(number), 250, style))
        truth = page_truth(signal_mv(number), 250, style)
        ink = np.zeros(covered.shape, np.uint8)
        for lead in truth.leads:
            path = lead.polyline[np.isfinite(lead.polyline).all(axis=1)]
            cv2.polylines(ink, [np.rint(path).astype(np.int32)], False, 1)
        lost.append(covered[ink > 0].mean())
        middles = [each.outline.mean(axis=0).astype(int).tolist() for each in truth.names]
        names_lost += [covered[y, x] for x, y in middles]
    assert np.mean(lost) < 0.1, np.round(lost, 3)
    assert np.mean(names_lost) < 0.25


def test_a_covered_page_is_a_copy_that_shows_what_was_covered():
    image = draw_page(signal_mv(1), 250, styled("pink"))
    ink = written(image, "Mustermann 12.03.1951", "header", "serif", 9)
    before = image.copy()
    masked = mask_text(image)
    assert (image == before).all() and masked.shape == image.shape and masked.dtype == np.uint8
    covered = text_on(image)
    assert (masked[~covered] == image[~covered]).all()
    patch = masked[ink]
    assert np.unique(patch[covered[ink]], axis=0).shape == (1, 3)
    paper = np.median(image.reshape(-1, 3), axis=0)
    assert (patch[0] < paper).all() and patch[0].min() > 120


@pytest.mark.parametrize("make", [document, table])
def test_letters_and_forms_are_blurred_as_a_whole(make: object):
    for seed in range(3):
        image = make(np.random.default_rng(seed), 480, 360)
        masked = mask_text(image)
        assert _detail(image) > 8
        assert _detail(masked) < 1.5


def _detail(image: np.ndarray) -> float:
    """Contrast of what is finer than a letter of a headline."""
    grey = image.mean(axis=2).astype(np.float32)
    return float((grey - cv2.GaussianBlur(grey, (0, 0), 4)).std())


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 5), (60, 80), (1000, 300)])
def test_any_shape_is_masked(shape: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    assert mask_text(image).shape == image.shape
    assert blurred(image).std() < image.std() or shape == (1, 1)


def test_numpy_computes_what_torch_has_learnt():
    torch.manual_seed(0)
    network = fit_text.Network()
    with torch.no_grad():
        for layer in network.layers.values():
            layer[0].weight *= 2
            layer[1].running_mean.uniform_(-0.3, 0.3)
            layer[1].running_var.uniform_(0.5, 2)
    network.eval()
    ink = ink_of(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    expected = network(torch.from_numpy(ink.transpose(2, 0, 1)[None])).detach().numpy()[0]
    weights = {name: value.astype(np.float32) for name, value in network.folded().items()}
    assert np.abs(cell_logits(ink, weights) - expected).max() < 0.02 * np.std(expected)


def test_pages_to_learn_from_say_where_their_text_is():
    rng = np.random.default_rng(2)
    recordings = [Recording(signal_mv(0).astype(np.float32), 250.0)]
    pages = [text_page(recordings, [], rng) for _ in range(4)]
    assert any(page.text.any() for page in pages)
    for page in pages:
        assert page.image.shape[:2] == page.text.shape and not any(side % 8 for side in page.text.shape)
        cells = fit_text.cells_of(page)
        assert set(np.unique(cells)) <= {-1, 0, 1}
        blocks = page.text.reshape(cells.shape[0], 4, cells.shape[1], 4)
        assert not blocks.any(axis=(1, 3))[cells == 0].any()
    bare = drawn_page(recordings, np.random.default_rng(4))
    assert bare.text.mean() < 0.1


def test_real_pages_lose_their_header_and_keep_their_traces(real_data: Path):
    for name in ("HB(96)", "MI(129)", "PMI(117)"):
        path = real_data / "printed-pages" / "khan_cardiac_images" / f"{name}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        image = np.asarray(cv2.resize(image, (480, 341), interpolation=cv2.INTER_AREA), np.uint8)
        covered = text_on(image)
        dark = image.max(axis=2) < 140
        header, traces = slice(0, 27), slice(62, 320)  # A rule between them is no text.
        assert covered[header][dark[header]].mean() > 0.99
        assert covered[traces][dark[traces]].mean() < 0.1
