"""Wear befalls a page as its recipe says, the same for the same seed, and what it shows is found where it went."""

import cv2
import numpy as np
import pytest
import yaml

from vizecg.platform.data.artefacts import GEOMETRY, ORDER, PRESETS, Recipe, Step, wear_page
from vizecg.platform.data.capture import folds, framing, paper, phone, scanner
from vizecg.platform.data.page import PageStyle, draw_page
from vizecg.platform.data.printing.truth import LeadTrace, PageTruth, outline_of
from vizecg.platform.errors import UserError

WIDTH_PX, HEIGHT_PX = 560, 420
DOT_RADIUS_PX = 4.5
ALL_GEOMETRY = Recipe(tuple(Step(name, 0.7, 1.0) for name in GEOMETRY if name not in ("margins", "monitor")))


@pytest.fixture(scope="module")
def page() -> np.ndarray:
    time_s = np.arange(2000) / 200.0
    signal = np.tile(np.exp(-0.5 * ((time_s % 0.8 - 0.4) / 0.015) ** 2), (12, 1)).astype(np.float32)
    drawn = draw_page(signal, 200.0, PageStyle(width_px=320, height_px=240))
    drawn.setflags(write=False)
    return drawn


@pytest.fixture(scope="module")
def dots() -> tuple[np.ndarray, PageTruth]:
    """Dark dots on white paper, and a trace whose samples they are, with a gap after every eight."""
    x, y = np.meshgrid(np.linspace(45.3, WIDTH_PX - 45.6, 9), np.linspace(40.2, HEIGHT_PX - 40.9, 7))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    sheet = np.full((HEIGHT_PX, WIDTH_PX, 3), 245, np.uint8)
    for centre in np.rint((points - 0.5) * 64).astype(int).tolist():
        cv2.circle(sheet, centre, round(DOT_RADIUS_PX * 64), (20, 20, 25), -1, cv2.LINE_AA, 6)
    sheet.setflags(write=False)
    whole = outline_of(0, 0, WIDTH_PX, HEIGHT_PX)
    polyline = np.insert(points, range(8, len(points), 8), np.nan, axis=0)
    lead = LeadTrace(lead="II", row=0, start_s=0.0, end_s=10.0, gain_mm_per_mv=10.0, outline=whole, polyline=polyline)
    truth = PageTruth(
        layout="3x4+1", page=0, width_px=WIDTH_PX, height_px=HEIGHT_PX, px_per_mm=2.0, paper_speed_mm_per_s=25.0,
        paper=whole, leads=(lead,), names=(), pulses=(),
    )  # fmt: skip
    return sheet, truth


def always(name: str, strength: float = 1.0) -> Recipe:
    return Recipe((Step(name, strength, strength),))


def geometry_of(recipe: Recipe) -> Recipe:
    return Recipe(tuple(step for step in recipe.steps if step.name in GEOMETRY))


def misses_px(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far the dots found near these points are from them, (m, 2); points near the picture's edge are left out."""
    reach = 11
    inside = ((points > reach + 1) & (points < np.array(picture.shape[1::-1]) - reach - 1)).all(axis=1)
    assert inside.sum() >= 0.6 * len(points)
    misses = []
    for point in points[inside]:
        left, top = (np.rint(point).astype(int) - reach).tolist()
        window = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[top : top + 2 * reach, left : left + 2 * reach].astype(float)
        darkness = np.maximum(0.5 * np.median(window) + 0.5 * window.min() - window, 0)
        total = darkness.sum()
        y, x = np.mgrid[: 2 * reach, : 2 * reach] + 0.5
        misses.append(((darkness * x).sum() / total + left - point[0], (darkness * y).sum() / total + top - point[1]))
    return np.array(misses)


def test_all_steps_of_all_parts_have_their_place_in_the_order() -> None:
    parts = [paper.STEPS, scanner.STEPS, phone.STEPS, folds.STEPS, framing.TURNS, framing.ZOOMS, {"lens": None}]
    names = [name for part in parts for name in part]
    assert sorted(names) == sorted(ORDER)
    assert set(framing.GROUNDS) <= set(framing.ZOOMS)


@pytest.mark.parametrize("name", ORDER)
def test_every_step_changes_the_picture_and_not_its_size(name: str, page: np.ndarray) -> None:
    worn, truth = wear_page(page, always(name), np.random.default_rng(1))
    assert (worn.shape, worn.dtype, truth) == (page.shape, np.uint8, None)
    assert np.abs(worn.astype(int) - page).mean() > 0.05
    again, _ = wear_page(page, always(name), np.random.default_rng(1))
    assert np.array_equal(worn, again)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_depend_on_the_seed_alone_and_leave_the_page_as_it_is(name: str, page: np.ndarray) -> None:
    before = page.copy()
    worn, _ = wear_page(page, PRESETS[name], np.random.default_rng(5))
    again, _ = wear_page(page, PRESETS[name], np.random.default_rng(5))
    other, _ = wear_page(page, PRESETS[name], np.random.default_rng(6))
    assert worn.shape == page.shape and worn.dtype == np.uint8
    assert np.array_equal(worn, again) and np.array_equal(page, before)
    assert not np.shares_memory(worn, page)
    assert np.array_equal(worn, page) == np.array_equal(worn, other) == (name == "clean")


@pytest.mark.parametrize("name", PRESETS)
def test_strength_zero_leaves_every_pixel_and_point(name: str, dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    worn, moved = wear_page(sheet, PRESETS[name].scaled(0), np.random.default_rng(5), truth)
    assert np.array_equal(worn, sheet)
    assert moved is truth


@pytest.mark.parametrize("size", [(48, 64), (400, 300), (120, 500)])
def test_pages_of_any_shape_can_be_worn(size: tuple[int, int]) -> None:
    sheet = np.full((*size, 3), 240, np.uint8)
    for seed, recipe in enumerate([*PRESETS.values(), ALL_GEOMETRY]):
        assert wear_page(sheet, recipe, np.random.default_rng(seed))[0].shape == sheet.shape


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [*GEOMETRY, "all"])
def test_dots_are_found_where_the_truth_went(name: str, seed: int, dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    recipe = ALL_GEOMETRY if name == "all" else always(name)
    check_dots(sheet, truth, recipe, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PRESETS)
def test_dots_of_worn_pages_are_found_too(name: str, seed: int, dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    check_dots(sheet, truth, geometry_of(PRESETS[name]), seed)


def check_dots(sheet: np.ndarray, truth: PageTruth, recipe: Recipe, seed: int) -> None:
    picture, moved = wear_page(sheet, recipe, np.random.default_rng(seed), truth)
    assert moved is not None
    polyline = moved.leads[0].polyline
    gaps = np.isnan(truth.leads[0].polyline)
    assert np.array_equal(np.isnan(polyline), gaps)
    misses = misses_px(picture, polyline[~gaps[:, 0]])
    assert np.hypot(*misses.T).max() < 0.5
    assert np.abs(misses.mean(axis=0)).max() < 0.1  # half a pixel lost on the way would be seen here


def test_the_truth_goes_with_the_page_and_the_outline_bends_with_it(dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    _, moved = wear_page(sheet, always("margins"), np.random.default_rng(3), truth)
    assert moved is not None
    shrunk = np.ptp(moved.paper, axis=0) / (WIDTH_PX, HEIGHT_PX)
    assert moved.px_per_mm == pytest.approx(truth.px_per_mm * shrunk[0])
    assert (moved.width_px, moved.height_px) == (WIDTH_PX, HEIGHT_PX)
    assert moved.paper.min() > 0

    _, seen = wear_page(sheet, always("lens"), np.random.default_rng(3), truth)
    assert seen is not None
    corner, middle, _ = seen.paper[:3] - truth.paper[:3]
    assert abs(corner[1]) > 1.5 * abs(middle[1])


def test_upside_down_is_exactly_that(page: np.ndarray) -> None:
    turned, _ = wear_page(page, always("upside-down", 0.1), np.random.default_rng(0))
    assert np.abs(turned.astype(int) - page[::-1, ::-1])[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize("name", PRESETS)
def test_most_of_the_sheet_stays_in_the_picture(name: str, dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    for seed in range(10):
        _, moved = wear_page(sheet, geometry_of(PRESETS[name]), np.random.default_rng(seed), truth)
        assert moved is not None
        low, high = moved.paper.min(axis=0), moved.paper.max(axis=0)
        assert (low > -0.08 * np.array((WIDTH_PX, HEIGHT_PX))).all()
        assert (high < 1.08 * np.array((WIDTH_PX, HEIGHT_PX))).all()
        assert (high - low > 0.6 * np.array((WIDTH_PX, HEIGHT_PX))).all()


def test_the_order_of_the_recipe_and_other_steps_do_not_matter(dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    recipe = PRESETS["photo-stained"]
    one, moved = wear_page(sheet, recipe, np.random.default_rng(2), truth)
    other, _ = wear_page(sheet, Recipe(recipe.steps[::-1]), np.random.default_rng(2))
    assert np.array_equal(one, other)

    _, alone = wear_page(sheet, geometry_of(recipe), np.random.default_rng(2), truth)
    assert moved is not None and alone is not None
    assert np.array_equal(moved.paper, alone.paper)


def test_a_scaled_recipe_does_less_of_the_same(dots: tuple[np.ndarray, PageTruth]) -> None:
    sheet, truth = dots
    shifts = []
    for factor in (0.25, 0.5, 1.0):
        _, moved = wear_page(sheet, always("rotation").scaled(factor), np.random.default_rng(2), truth)
        assert moved is not None
        shifts.append(moved.paper[2, 1] - moved.paper[0, 1])
    assert shifts[1] / shifts[0] == pytest.approx(2.0, rel=0.1)
    assert shifts[2] / shifts[0] == pytest.approx(4.0, rel=0.1)


def test_a_step_happens_as_often_as_it_should(page: np.ndarray) -> None:
    recipe = Recipe((Step("contrast", 0.5, 0.5, 0.3),))
    happened = sum("contrast" in recipe.drawn(np.random.default_rng(seed)) for seed in range(400))
    assert 90 < happened < 150


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_survive_yaml(name: str) -> None:
    recipe = PRESETS[name]
    read = Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict(), sort_keys=False)))
    assert read == recipe and hash(read) == hash(recipe)
    assert recipe.scaled(1) == recipe


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"coffee": {"low": 0.1, "high": 0.2}}, ["'coffee'", "stains", "perspective"]),
        ({"stains": {"low": 0.1, "high": 1.2}}, ["stains", "1.2", "from 0 to 1"]),
        ({"stains": {"low": -0.1, "high": 0.2}}, ["stains", "-0.1"]),
        ({"stains": {"low": float("nan"), "high": 0.2}}, ["stains", "nan"]),
        ({"stains": {"low": "much", "high": 0.2}}, ["stains", "'much'"]),
        ({"stains": {"low": True, "high": 1}}, ["stains", "True"]),
        ({"stains": {"low": 0.5, "high": 0.2}}, ["stains", "0.5", "0.2"]),
        ({"stains": {"low": 0.1, "high": 0.2, "probability": 2}}, ["stains", "probability", "2"]),
        ({"stains": {"low": 0.1}}, ["stains", "high"]),
        ({"stains": {"low": 0.1, "high": 0.2, "often": 1}}, ["stains", "often"]),
        ({"stains": 0.5}, ["stains", "0.5"]),
        (["stains"], ["stains"]),
    ],
)
def test_bad_recipes_are_refused_in_one_sentence(values: object, said: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        Recipe.from_dict(values)
    message = str(refused.value)
    assert all(word in message for word in said) and "\n" not in message


def test_twice_named_steps_and_negative_factors_are_refused() -> None:
    with pytest.raises(UserError, match="stains"):
        Recipe((Step("stains", 0.1, 0.2), Step("stains", 0.3, 0.4)))
    with pytest.raises(UserError, match="-1"):
        PRESETS["scan-bw"].scaled(-1)
    with pytest.raises(UserError, match="nan"):
        PRESETS["scan-bw"].scaled(float("nan"))
