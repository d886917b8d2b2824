"""Rectification: pages drawn, then turned, skewed or seen from aside, are set square to a part of a millimetre."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vizecg.platform.data.page import PageStyle, draw_page
from vizecg.platform.data.reading.grid import find_grid
from vizecg.platform.data.reading.rectify import MOST_ENLARGED, project, rectify
from vizecg.platform.data.reading.sheet import find_sheet

WIDTH_PX, HEIGHT_PX = 1100, 850
CORNERS = np.array([(0, 0), (WIDTH_PX, 0), (WIDTH_PX, HEIGHT_PX), (0, HEIGHT_PX)], np.float32)
STYLE = PageStyle(width_px=WIDTH_PX, height_px=HEIGHT_PX)
TABLE_RGB = (90, 70, 60)
WHITE = (255, 255, 255)

Pixels = np.ndarray
MakeEcg = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def page(make_ecg: MakeEcg) -> Pixels:
    return draw_page(make_ecg(2), 500, STYLE)


def _seen(page: Pixels, corners: np.ndarray) -> tuple[Pixels, np.ndarray]:
    """The page with its corners elsewhere, on a table; and the homography that did it."""
    away = cv2.getPerspectiveTransform(CORNERS, corners.astype(np.float32))
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = np.linalg.inv(half) @ away @ half
    size = (WIDTH_PX, HEIGHT_PX)
    return cv2.warpPerspective(page, matrix, size, flags=cv2.INTER_AREA, borderValue=TABLE_RGB), away


def _turned(turn_deg: float) -> np.ndarray:
    turn = np.exp(1j * np.radians(turn_deg))
    moved = 0.85 * turn * (CORNERS - CORNERS.mean(axis=0)).astype(float) @ np.array([1, 1j])
    return np.stack([moved.real, moved.imag], axis=1) + CORNERS.mean(axis=0)


def _corner_error_mm(whole: np.ndarray) -> tuple[float, float]:
    """How far a map of the page is from turning, moving and scaling alone, at the corners; and by what it turns."""
    before, after = (points.astype(float) @ np.array([1, 1j]) for points in (CORNERS, project(whole, CORNERS)))
    before, after = before - before.mean(), after - after.mean()
    back = np.vdot(after, before) / np.vdot(after, after)
    return float(np.abs(back * after - before).max()) / STYLE.px_per_mm, float(np.degrees(np.angle(back)))


@pytest.mark.parametrize("seed", range(6))
def test_perspective_is_undone(seed: int, page: Pixels) -> None:
    jitter = np.random.default_rng(seed).uniform(-0.05, 0.05, (4, 2)) * (WIDTH_PX, HEIGHT_PX)
    image, away = _seen(page, 0.88 * CORNERS + 0.06 * CORNERS[2] + jitter)
    square = rectify(image)
    assert square.note == "perspective by grid"
    error_mm, turn_deg = _corner_error_mm(square.homography @ away)
    assert error_mm < 0.6
    assert abs(turn_deg) < 0.1
    grid = find_grid(square.image)
    assert grid is not None
    assert grid.px_per_mm_across == pytest.approx(grid.px_per_mm_down, rel=0.003)


@pytest.mark.parametrize("turn_deg", [-12.0, 1.5, 5.0])
def test_a_turned_page_is_only_turned(turn_deg: float, page: Pixels) -> None:
    image, away = _seen(page, _turned(turn_deg))
    square = rectify(image)
    assert square.note == "rotation by grid"
    error_mm, left_deg = _corner_error_mm(square.homography @ away)
    assert error_mm < 1e-3
    assert abs(left_deg) < 0.1


def test_rotation_only_never_skews(page: Pixels) -> None:
    image, _ = _seen(page, CORNERS + np.array([(60, 30), (-20, 10), (-5, -40), (20, -5)]))
    matrix = rectify(image, rotation_only=True).homography
    assert np.allclose(matrix[2], (0, 0, 1))
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])
    assert matrix[0, 1] == pytest.approx(-matrix[1, 0])


def test_a_stretched_page_gets_equal_scales(page: Pixels) -> None:
    square = rectify(cv2.resize(page, (WIDTH_PX, 1000), interpolation=cv2.INTER_AREA))
    grid = find_grid(square.image)
    assert grid is not None
    assert grid.px_per_mm_across == pytest.approx(grid.px_per_mm_down, rel=0.003)


def test_a_straight_page_is_the_same_object(page: Pixels) -> None:
    square = rectify(page)
    assert square.image is page
    assert square.note == "straight"
    np.testing.assert_array_equal(square.homography, np.eye(3))


def test_homography_tells_where_pixels_went(page: Pixels) -> None:
    image, _ = _seen(page, _turned(6.0))
    marked = image.copy()
    spots = np.array([(300, 300), (800, 250), (500, 600)])
    for spot in spots:
        cv2.circle(marked, spot.tolist(), 4, (0, 0, 255), -1)
    square = rectify(marked)
    for x_px, y_px in project(square.homography, spots + 0.5):
        around = square.image[int(y_px) - 8 : int(y_px) + 9, int(x_px) - 8 : int(x_px) + 9].astype(int)
        rows, columns = np.nonzero((around[..., 2] > 200) & (around[..., 0] < 60))
        assert columns.mean() + int(x_px) - 8 + 0.5 == pytest.approx(x_px, abs=0.4)
        assert rows.mean() + int(y_px) - 8 + 0.5 == pytest.approx(y_px, abs=0.4)


def test_all_of_the_picture_is_kept_and_little_enlarged(page: Pixels) -> None:
    image, _ = _seen(page, CORNERS + np.array([(120, 60), (-20, 10), (-5, -80), (20, -5)]))
    square = rectify(image)
    corners = project(square.homography, CORNERS)
    assert (corners >= -0.01).all()
    assert (corners <= np.array(square.image.shape[1::-1]) + 0.01).all()
    sides = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T) / np.hypot(*(CORNERS - np.roll(CORNERS, 1, axis=0)).T)
    assert sides.max() <= MOST_ENLARGED


def test_a_sheet_without_grid_is_found_by_its_outline(make_ecg: MakeEcg) -> None:
    plain = PageStyle(width_px=WIDTH_PX, height_px=HEIGHT_PX, paper_rgb=WHITE, fine_rgb=WHITE, bold_rgb=WHITE)
    corners = np.array([(130, 90), (1000, 60), (1040, 800), (70, 760)], float)
    image, away = _seen(draw_page(make_ecg(2), 500, plain), corners)
    found = find_sheet(image)
    assert found is not None
    np.testing.assert_allclose(found, corners, atol=5)
    square = rectify(image)
    assert square.note == "perspective by sheet"
    whole = square.homography @ away
    np.testing.assert_allclose(project(whole, CORNERS)[0], (0, 0), atol=6)
    np.testing.assert_allclose(project(whole, CORNERS)[2], square.image.shape[1::-1], atol=6)
    assert rectify(image, rotation_only=True).image is image


@pytest.mark.parametrize("kind", ["white", "disc", "noise"])
def test_what_is_no_page_is_left_alone(kind: str) -> None:
    image = np.full((600, 800, 3), 255, np.uint8)
    if kind == "disc":
        image[:] = 40
        cv2.circle(image, (400, 300), 250, (240, 240, 240), -1)
    if kind == "noise":
        image = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    square = rectify(image)
    assert square.image is image
    assert square.note == "no grid and no sheet found"


def test_real_prints_come_out_square(real_prints: list[Path]) -> None:
    for file in real_prints:
        square = rectify(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
        grid = find_grid(square.image)
        assert grid is not None, file.name
        assert abs(grid.angle_deg) < 0.35, file.name
        assert grid.px_per_mm_across == pytest.approx(grid.px_per_mm_down, rel=0.015), file.name
