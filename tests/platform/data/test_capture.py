"""What befalls a page: that every step keeps the promises of a step, and the trace readable."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vizecg.platform.data.capture import paper, phone, scanner
from vizecg.platform.data.capture.phone import jpeg, jpeg_quality

STEPS = {**paper.STEPS, **scanner.STEPS, **phone.STEPS}
WITHOUT_CHANCE = {"jpeg"}
SIZED_IN_PIXELS = {"jpeg", "dust"}
"""Blocks of 8 x 8, and specks that are never smaller than a pixel."""
HIDES_THE_TRACE = {"tears", "hole-punches", "handwriting"}
WIDTH_PX, HEIGHT_PX = 512, 384


def _trace_y_px() -> NDArray[np.floating]:
    """Two rows of a heart-like line, (2, width)."""
    x = np.arange(WIDTH_PX)
    beat = 40 * np.exp(-((((x % 90) - 45) / 4.0) ** 2)) - 8 * np.exp(-((((x % 90) - 70) / 9.0) ** 2))
    return np.stack([130 - beat, 280 - beat])


@pytest.fixture(scope="module")
def page() -> NDArray[np.uint8]:
    """A dark trace on a light red grid; read-only."""
    image = np.full((HEIGHT_PX, WIDTH_PX, 3), (252, 246, 242), np.uint8)
    for pitch, rgb in ((2, (250, 226, 222)), (10, (238, 170, 170))):
        image[::pitch] = rgb
        image[:, ::pitch] = rgb
    for row in _trace_y_px():
        points = np.stack([np.arange(WIDTH_PX), row], axis=1)
        cv2.polylines(image, [np.rint(points * 16).astype(np.int32)], False, (24, 24, 30), 1, cv2.LINE_AA, 4)
    image.setflags(write=False)
    return image


def _worn(name: str, page: NDArray[np.uint8], seed: int, strength: float) -> NDArray[np.uint8]:
    return STEPS[name](page, np.random.default_rng(seed), strength)


def _change(name: str, page: NDArray[np.uint8], strength: float) -> float:
    return float(np.mean([cv2.absdiff(_worn(name, page, seed, strength), page).mean() for seed in range(6)]))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_gives_a_new_picture_of_the_same_kind(name: str, page: NDArray[np.uint8]) -> None:
    before = page.copy()
    worn = _worn(name, page, 3, 1.0)
    assert worn.shape == page.shape and worn.dtype == np.uint8
    assert worn.flags.c_contiguous and worn.flags.writeable and not np.shares_memory(worn, page)
    assert np.array_equal(page, before) and not np.array_equal(worn, page)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", [(64, 64), (450, 120), (97, 701)])
def test_a_picture_may_have_any_shape_and_strength(name: str, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 240, np.uint8)
    for seed in range(4):
        for strength in (1e-6, 0.5, 1.0):
            assert _worn(name, image, seed, strength).shape == image.shape


@pytest.mark.parametrize("name", STEPS)
def test_the_seed_alone_decides(name: str, page: NDArray[np.uint8]) -> None:
    once, again, other = (_worn(name, page, seed, 0.8) for seed in (5, 5, 6))
    assert np.array_equal(once, again)
    assert np.array_equal(once, other) == (name in WITHOUT_CHANCE)


@pytest.mark.parametrize("name", STEPS)
def test_more_strength_changes_more_and_very_little_changes_next_to_nothing(name: str, page: NDArray[np.uint8]) -> None:
    nothing, little, middle, full = (_change(name, page, strength) for strength in (0.01, 0.1, 0.4, 1.0))
    assert little < middle < full or (name == "threshold" and little < middle <= full)
    # Coding alone, at quality 94, changes a grid as fine as this one by a few levels.
    assert nothing < (6.0 if name == "jpeg" else 1.5)


@pytest.mark.parametrize("name", sorted(set(STEPS) - HIDES_THE_TRACE))
@pytest.mark.parametrize("seed", range(4))
def test_the_trace_stays_darker_than_what_surrounds_it(name: str, seed: int, page: NDArray[np.uint8]) -> None:
    bright = cv2.cvtColor(_worn(name, page, seed, 1.0), cv2.COLOR_RGB2GRAY).astype(np.float32)
    around = cv2.blur(bright, (25, 25))
    x = np.arange(WIDTH_PX)
    darker = np.stack([(bright < around)[np.rint(row).astype(int), x] for row in _trace_y_px()])
    assert darker.mean() >= 0.95


@pytest.mark.parametrize("name", sorted(set(STEPS) - SIZED_IN_PIXELS))
def test_a_larger_picture_is_worn_alike(name: str, page: NDArray[np.uint8]) -> None:
    """Lengths are shares of the picture: twice the page, worn and halved, has changed about as much as the page."""
    twice = cv2.resize(page, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    changes = []
    for image in (page, twice):
        worn = [cv2.resize(_worn(name, image, seed, 0.8), (128, 96), interpolation=cv2.INTER_AREA) for seed in range(8)]
        clean = cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA)
        changes.append(np.mean([cv2.absdiff(one, clean).mean() for one in worn]))
    assert 0.6 < (changes[0] + 0.02) / (changes[1] + 0.02) < 1.6, changes


def test_threshold_leaves_black_and_white(page: NDArray[np.uint8]) -> None:
    share: list[float] = []
    for seed in range(8):
        worn = _worn("threshold", page, seed, 0.5)
        assert np.unique(worn).tolist() == [0, 255]
        # The bold grid alone covers a fifth of this page; in some scans it stays, in others it drops out.
        share.append(float((worn == 0).mean()))
    assert min(share) < 0.03 < 0.06 < max(share) < 0.25


def test_jpeg_quality_falls_with_strength(page: NDArray[np.uint8]) -> None:
    assert [jpeg_quality(strength) for strength in (0.0, 0.4, 1.0)] == [95, 69, 30]
    _, coded = cv2.imencode(".jpg", page[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert np.array_equal(jpeg(page, np.random.default_rng(0), 1.0), cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def test_nothing_moves() -> None:
    """The middle of a dark dot stays where it is, to a good half pixel, under blur, coding and misregistration."""
    dot = np.full((601, 801, 3), 240, np.uint8)
    cv2.circle(dot, (400, 300), 24, (20, 20, 20), -1, cv2.LINE_AA)
    for name in ("defocus", "motion-blur", "jpeg", "scan-lines", "sensor-noise"):
        for seed in range(6):
            dark = 240.0 - cv2.cvtColor(_worn(name, dot, seed, 1.0), cv2.COLOR_RGB2GRAY).astype(float)[250:351, 350:451]
            dark[dark < 110] = 0
            y, x = ((dark * axis).sum() / dark.sum() for axis in np.mgrid[250:351, 350:451])
            assert max(abs(x - 400), abs(y - 300)) < 0.6, name
