"""The millimetre grid: measured on drawn pages of known scale and on real prints, and not seen where there is none."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vizecg.platform.data.page import PageStyle, Rgb, draw_page
from vizecg.platform.data.reading.grid import Grid, find_grid

Pixels = np.ndarray
MakeEcg = Callable[..., np.ndarray]

WHITE: Rgb = (255, 255, 255)
INKS: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "pink": ((255, 250, 248), (244, 178, 178), (230, 128, 130)),
    "orange": ((252, 246, 232), (240, 190, 150), (235, 150, 120)),
    "green": ((240, 244, 240), (170, 205, 175), (110, 165, 120)),
    "blue": (WHITE, (180, 195, 225), (120, 150, 205)),
    "grey": (WHITE, (200, 200, 200), (140, 140, 140)),
    "black": (WHITE, (0, 0, 0), (0, 0, 0)),
    "faint": (WHITE, (250, 245, 245), (247, 238, 238)),
    "bold lines only": (WHITE, WHITE, (230, 128, 130)),
    "fine lines only": (WHITE, (230, 128, 130), (230, 128, 130)),
}


def _page(make_ecg: MakeEcg, inks: str, width_px: int, height_px: int) -> tuple[Pixels, PageStyle]:
    paper, fine, bold = INKS[inks]
    style = PageStyle(width_px=width_px, height_px=height_px, paper_rgb=paper, fine_rgb=fine, bold_rgb=bold)
    return draw_page(make_ecg(1), 500, style), style


def _found(image: Pixels) -> Grid:
    grid = find_grid(image)
    assert grid is not None
    return grid


@pytest.mark.parametrize("inks", INKS)
def test_scale_is_exact_whatever_the_ink(inks: str, make_ecg: MakeEcg) -> None:
    image, style = _page(make_ecg, inks, 1100, 850)
    grid = _found(image)
    assert grid.px_per_mm_across == pytest.approx(style.px_per_mm, rel=0.003)
    assert grid.px_per_mm_down == pytest.approx(style.px_per_mm, rel=0.003)
    assert abs(grid.angle_deg) < 0.05


@pytest.mark.parametrize(("width_px", "height_px"), [(512, 384), (800, 600), (900, 675), (1200, 800), (2200, 1700)])
def test_scale_is_exact_whatever_the_size(width_px: int, height_px: int, make_ecg: MakeEcg) -> None:
    image, style = _page(make_ecg, "pink", width_px, height_px)
    assert _found(image).px_per_mm == pytest.approx(style.px_per_mm, rel=0.005)


def test_a_stretched_page_has_two_scales(make_ecg: MakeEcg) -> None:
    image, style = _page(make_ecg, "pink", 1100, 850)
    grid = _found(cv2.resize(image, (1100, 935), interpolation=cv2.INTER_AREA))
    assert grid.px_per_mm_across == pytest.approx(style.px_per_mm, rel=0.005)
    assert grid.px_per_mm_down == pytest.approx(1.1 * style.px_per_mm, rel=0.005)


@pytest.mark.parametrize("turn_deg", [-20.0, -3.0, 0.4, 7.0, 30.0])
def test_angle_is_clockwise_in_degrees(turn_deg: float, make_ecg: MakeEcg) -> None:
    image, _ = _page(make_ecg, "pink", 1100, 850)
    turned = cv2.warpAffine(
        image, cv2.getRotationMatrix2D((550, 425), -turn_deg, 1.0), (1100, 850), borderValue=(90,) * 3
    )
    assert _found(turned).angle_deg == pytest.approx(turn_deg, abs=0.06)


def test_uneven_light_noise_and_jpeg_do_not_matter(make_ecg: MakeEcg) -> None:
    image, style = _page(make_ecg, "pink", 1100, 850)
    light = np.linspace(0.3, 1.0, 1100)[:, None]
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    dim = np.clip(image * light + noise, 0, 255).astype(np.uint8)
    worn = cv2.imdecode(cv2.imencode(".jpg", dim, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    assert worn is not None
    assert _found(worn.astype(np.uint8)).px_per_mm == pytest.approx(style.px_per_mm, rel=0.003)


def test_dots_are_a_grid_too() -> None:
    image = np.full((850, 1100, 3), 255, np.uint8)
    at = np.arange(3, 1100, 4)
    image[np.ix_(at[at < 850], at)] = 200
    image[at[at < 850][:, None], at[::5]] = 120
    image[at[at < 850][::5][:, None], at] = 120
    assert _found(image).px_per_mm == pytest.approx(4.0, rel=0.003)


def test_local_lattices_follow_the_perspective(make_ecg: MakeEcg) -> None:
    image, style = _page(make_ecg, "pink", 1100, 850)
    corners = np.array([(0, 0), (1100, 0), (1100, 850), (0, 850)], np.float32)
    seen = np.array([(90, 40), (1050, 20), (1090, 830), (30, 800)], np.float32)
    away = cv2.getPerspectiveTransform(corners, seen)
    grid = _found(cv2.warpPerspective(image, away, (1100, 850), flags=cv2.INTER_AREA, borderValue=(90,) * 3))
    back = np.linalg.inv(away)
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    for centre, mm_per_px in zip(grid.centres_px, grid.mm_per_px, strict=True):
        points = cv2.perspectiveTransform((centre + steps)[None], back)[0] / style.px_per_mm
        truth = np.stack([points[1] - points[0], points[2] - points[0]], axis=1)
        np.testing.assert_allclose(mm_per_px, truth, atol=0.015 / style.px_per_mm)


def _text_page() -> Pixels:
    rng, image = np.random.default_rng(0), np.full((1200, 900, 3), 250, np.uint8)
    for y_px in range(60, 1150, 26):
        words = ("".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(14))
        cv2.putText(image, " ".join(words)[:75], (50, y_px), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20,) * 3, 1, cv2.LINE_AA)
    return image


def _line_chart() -> Pixels:
    rng, image = np.random.default_rng(0), np.full((600, 1000, 3), 255, np.uint8)
    for x_px in range(100, 1000, 110):
        cv2.line(image, (x_px, 50), (x_px, 550), (200,) * 3, 1)
    for y_px in range(50, 600, 70):
        cv2.line(image, (100, y_px), (980, y_px), (200,) * 3, 1)
    walk = 300 + np.cumsum(rng.normal(0, 3, 880))
    cv2.polylines(image, [np.stack([np.arange(100, 980), walk], 1).astype(np.int32)], False, (31, 119, 180), 2)
    return image


def _table() -> Pixels:
    image = np.full((800, 1200, 3), 255, np.uint8)
    image[20::24] = image[:, 20::90] = 180
    return image


def _photo() -> Pixels:
    rng, image = np.random.default_rng(0), np.zeros((800, 1200, 3))
    for cell_px in (4, 16, 64, 200):
        coarse = rng.normal(size=(800 // cell_px + 2, 1200 // cell_px + 2, 3))
        image += cv2.resize(coarse, (1200, 800), interpolation=cv2.INTER_CUBIC) * cell_px**0.7
    return np.clip(128 + 6 * image, 0, 255).astype(np.uint8)


NO_GRIDS: dict[str, Callable[[], Pixels]] = {
    "white": lambda: np.full((800, 1200, 3), 255, np.uint8),
    "tiny": lambda: np.full((64, 64, 3), 255, np.uint8),
    "noise": lambda: np.random.default_rng(0).integers(0, 256, (800, 1200, 3), np.uint8),
    "gradient": lambda: np.tile(np.linspace(0, 255, 1200).astype(np.uint8)[None, :, None], (800, 1, 3)),
    "stripes": lambda: np.tile(np.where(np.arange(1200) % 9 < 2, 90, 240).astype(np.uint8)[None, :, None], (800, 1, 3)),
    "text": _text_page,
    "line chart": _line_chart,
    "table": _table,
    "photo": _photo,
}


@pytest.mark.parametrize("picture", NO_GRIDS)
def test_no_grid_is_none(picture: str) -> None:
    assert find_grid(NO_GRIDS[picture]()) is None


def test_a_small_piece_of_a_grid_is_none(make_ecg: MakeEcg) -> None:
    image = np.full((1200, 1600, 3), 255, np.uint8)
    image[100:500, 100:600] = _page(make_ecg, "pink", 1100, 850)[0][:400, :500]
    assert find_grid(image) is None


def test_a_page_without_a_grid_is_none(make_ecg: MakeEcg) -> None:
    style = PageStyle(width_px=1100, height_px=850, paper_rgb=WHITE, fine_rgb=WHITE, bold_rgb=WHITE)
    assert find_grid(draw_page(make_ecg(1), 500, style)) is None


def test_real_prints(real_prints: list[Path]) -> None:
    """Known scales: large squares counted on the pages; that of the scans is their signals' timing too."""
    known = {"9": 7.33, "HB": 7.93, "MI": 7.93, "PMI": 7.93, "Normal": 7.93, "ecg00053": 7.875, "ecg00022": 2.695}
    for file in real_prints:
        grid = _found(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
        assert grid.px_per_mm_across == pytest.approx(grid.px_per_mm_down, rel=0.1), file.name
        for start, px_per_mm in known.items():
            if file.name.startswith(start):
                assert grid.px_per_mm == pytest.approx(px_per_mm, rel=0.01), file.name
