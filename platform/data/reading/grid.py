"""The printed millimetre grid of an ECG page: its scale, its angle and how both change across the picture.

Every tile's spectrum offers pairs of peaks at right angles; tiles that offer much the same pair make a lattice, and its
harmonics tell which of them is the distance of the lines, and whether that is 1 mm or 5 mm.

Shapes: t tiles, K = 2 families of lines, and frequencies as in `spectra.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .spectra import TILE_PX, TURNS, WORK_PX, ComplexArray, FloatArray, IntArray, Spectra

LEAST_BINS, MOST_BINS, MOST_BINS_SHRUNK = 4.0, 92.0, 85.0
"""Frequencies searched: harmonics of sharp lines fold back above them, and shrinking a picture folds more."""
MOST_SLOPE = 0.8
ALIKE = (0.17, 12.0)
UNLIKE_COST = 5.0
PEAKS_A_FAMILY, PAIRS_A_TILE = 8, 6
VOTE = (0.12, 6.0)
GROWTH = ((0.1, 6.0), (0.1, 6.0), (0.1, 6.0), (0.1, 6.0), (0.07, 4.0))
"""Tolerances, logarithm of the ratio and degrees, in which tiles join the lattice: perspective changes it across the
page, so those join that are near the plane through those that joined."""
STIFFNESS = 0.03

SUBDIVISIONS = (1, 2, 3, 4, 5, 6, 7, 8, 10)
ABOVE_FLOOR = 0.7
FIFTH_COUNTS, FIFTH_AT_MOST, FIFTH_BOLD = 3.0, 2.5, 0.5
HARMONICS = (6, 12)

FIVE_MM = 5.0
USUAL_LONG_SIDE_MM = 125.0
"""Lines that make the long side shorter than this when they are 1 mm apart are 5 mm apart (pages are 200 to 300 mm)."""
LONG_SIDE_MM = (70.0, 520.0)
LEAST_CONTRAST, LEAST_WEIGHT, UNEVEN = 1.0, 2.0, 0.06
LEAST_CONFIDENCE = 0.4
"""The faintest of 27 real prints has 0.55. Other square lattices, graph paper and tiled walls, are grids too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A millimetre grid. `angle_deg` is how far it is turned clockwise; `confidence`, 0..1, the share of tiles with it.

    The local lattices: around `centres_px` (t, 2), pixels (x, y), one pixel to the right or down is `mm_per_px`
    (t, 2, 2) millimetres: row 0 across the page, row 1 down it. `weights` (t, K) are how clear they are.
    """

    px_per_mm_across: float
    px_per_mm_down: float
    angle_deg: float
    confidence: float
    centres_px: FloatArray
    mm_per_px: FloatArray
    weights: FloatArray

    @property
    def px_per_mm(self) -> float:
        """Scale in the middle of the picture, the geometric mean of both directions."""
        return float(np.sqrt(self.px_per_mm_across * self.px_per_mm_down))


def find_grid(image: NDArray[np.uint8]) -> Grid | None:
    """Measure the millimetre grid of a picture, uint8 RGB (h, w, 3); None where none is sure."""
    spectra = Spectra(image)
    bases = _agreed_bases(spectra)
    if bases is None:
        return None
    frequency, _ = spectra.refine(bases / _subdivision(spectra, bases), HARMONICS)
    frequency, weights = spectra.refine(_second_guess(spectra, frequency), HARMONICS)
    long_periods = max(image.shape[:2]) / spectra.shrink * float(np.median(np.abs(frequency))) / TILE_PX
    period_mm = _period_mm(spectra.profile(frequency, 6), long_periods)
    if not LONG_SIDE_MM[0] < long_periods * period_mm < LONG_SIDE_MM[1]:
        return None
    agree = _even(spectra, frequency, period_mm) & (weights > LEAST_WEIGHT).all(axis=1)
    if agree.sum() < 2 or agree.mean() < LEAST_CONFIDENCE:
        return None
    vectors = frequency[agree] * TURNS * (period_mm / TILE_PX / spectra.shrink)
    mm_per_px = np.stack([vectors.real, vectors.imag], axis=2)
    return _grid(
        spectra.centres_px[agree] * spectra.shrink, mm_per_px, weights[agree], float(agree.mean()), image.shape
    )


def _agreed_bases(spectra: Spectra) -> ComplexArray | None:
    """A frequency of the lattice, not always its lowest, in every tile: (t, K)."""
    owner, pairs, strength = _pairs(spectra)
    if len(owner) == 0:
        return None
    middle = np.log(pairs.mean(axis=1))
    votes = _close(middle[:, None] - middle, *VOTE) @ strength
    expected = np.full(len(spectra.centres_px), middle[votes.argmax()])
    chosen = np.zeros(len(expected), int)
    for tolerance in GROWTH:
        fits = np.where(_close(middle - expected[owner], *tolerance), strength, 0.0)
        chosen = _strongest(owner, fits, len(expected))
        if (chosen >= 0).sum() < 2:
            return None
        expected = _smooth(spectra.centres_px, middle[chosen], chosen >= 0)
    have = chosen >= 0
    # How the families differ is much the same in all tiles.
    differ = np.log(pairs[chosen[have]]) - expected[have][:, None]
    usual = np.median(differ.real, axis=0) + 1j * np.median(differ.imag, axis=0)
    return np.where(have[:, None], pairs[chosen], np.exp(expected[:, None] + usual))


def _pairs(spectra: Spectra) -> tuple[IntArray, ComplexArray, FloatArray]:
    """Peaks of both families that look like one square lattice: whose (m,), frequencies (m, K), strengths (m,)."""
    owner, peaks, strength = spectra.peaks()
    most_bins = MOST_BINS_SHRUNK if spectra.shrink > 1 else MOST_BINS
    families = []
    for turn in TURNS:
        turned = peaks / turn
        turned = np.where(turned.real < 0, -turned, turned)
        fits = (np.abs(turned) >= LEAST_BINS) & (np.abs(turned) <= most_bins)
        fits &= np.abs(turned.imag) < MOST_SLOPE * turned.real
        families.append((owner[fits], turned[fits], strength[fits]))
    found: list[tuple[IntArray, ComplexArray, FloatArray]] = []
    for tile in range(len(spectra.centres_px)):
        (across, sure_across), (down, sure_down) = (_best_of(tile, *family) for family in families)
        differ = np.log(across[:, None] / down)
        both = np.minimum(sure_across[:, None], sure_down) - UNLIKE_COST * np.abs(differ)
        both = np.where(_close(differ, *ALIKE), both, 0.0).ravel()
        best = np.argsort(-both)[:PAIRS_A_TILE]
        best = best[both[best] > 0]
        pairs = np.column_stack([across[best // max(1, len(down))], down[best % max(1, len(down))]])
        found.append((np.full(len(best), tile), pairs, both[best]))
    whose, alike, strengths = zip(*found, strict=True)
    return np.concatenate(whose), np.concatenate(alike), np.concatenate(strengths)


def _best_of(tile: int, owner: IntArray, values: ComplexArray, strength: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """A tile's strongest peaks of one family."""
    mine = np.flatnonzero(owner == tile)
    mine = mine[np.argsort(-strength[mine])[:PEAKS_A_FAMILY]]
    return values[mine], strength[mine]


def _close(difference: ComplexArray, ratio: float, turn_deg: float) -> NDArray[np.bool_]:
    """Whether logarithms of frequencies differ little."""
    return (np.abs(difference.real) < ratio) & (np.abs(difference.imag) < np.radians(turn_deg))


def _strongest(owner: IntArray, strength: FloatArray, tiles: int) -> IntArray:
    """Which of its pairs a tile chooses: (tiles,), -1 where none has any strength."""
    chosen = np.full(tiles, -1)
    order = np.argsort(strength)
    order = order[strength[order] > 0]
    chosen[owner[order]] = order  # the last one written stays
    return chosen


def _smooth(centres_px: FloatArray, values: ComplexArray, have: NDArray[np.bool_]) -> ComplexArray:
    """The plane, or with many tiles the bent surface, through those values (t,) that we have; few tilt it little."""
    x, y = ((centres_px - centres_px[have].mean(axis=0)) / WORK_PX).T
    terms = np.stack([x, y, x * x, x * y, y * y], axis=1)[:, : 5 if have.sum() >= 9 else 2]
    terms -= terms[have].mean(axis=0)
    mean = values[have].mean()
    square = terms[have].T @ terms[have] + STIFFNESS * np.eye(terms.shape[1])
    return mean + terms @ np.linalg.solve(square, terms[have].T @ (values[have] - mean))


def _subdivision(spectra: Spectra, bases: ComplexArray) -> int:
    """Which harmonic of the line distance the bases are: that which explains most peaks and claims no absent ones."""
    profiles = [spectra.profile(bases / k, max(6, int(2.2 * k))) for k in SUBDIVISIONS]
    floor = np.nanquantile(profiles[-1], 0.25) + ABOVE_FLOOR
    scores = [
        np.nansum(heights[: int(2.2 * k)] - floor) + FIFTH_COUNTS * np.clip(_fifth(heights), 0.0, FIFTH_AT_MOST)
        for k, heights in zip(SUBDIVISIONS, profiles, strict=True)
    ]
    return SUBDIVISIONS[int(np.argmax(scores))]


def _fifth(heights: FloatArray) -> float:
    """How far the fifth harmonic stands above its neighbours: 5 mm lines with 1 mm lines between them do that."""
    return 0.0 if np.isnan(heights[4]) else float(heights[4] - np.nanmax(heights[[0, 1, 2, 3, 5]]))


def _period_mm(heights: FloatArray, long_periods: float) -> float:
    """1 mm or 5 mm; without bold lines the size of the page decides."""
    return FIVE_MM if _fifth(heights) > FIFTH_BOLD or long_periods < USUAL_LONG_SIDE_MM else 1.0


def _second_guess(spectra: Spectra, frequency: ComplexArray) -> ComplexArray:
    """Where a tile's lattice does not fit in between the others', what they say."""
    near = _even(spectra, frequency, FIVE_MM)
    if near.sum() < 3:
        return frequency
    logs = np.log(frequency)
    smooth = np.stack([_smooth(spectra.centres_px, logs[:, family], near) for family in (0, 1)], axis=1)
    return np.where(near[:, None], frequency, spectra.refine(np.exp(smooth), (2,))[0])


def _even(spectra: Spectra, frequency: ComplexArray, period_mm: float) -> NDArray[np.bool_]:
    """Tiles whose lattice is clear and fits in between the others': (t,)."""
    clear: NDArray[np.bool_] = np.all(_contrast(spectra, frequency, period_mm) > LEAST_CONTRAST, axis=1)
    near, logs = clear, np.log(frequency)
    for _ in range(4):
        if near.sum() < 2:
            break
        off = np.abs(logs - np.stack([_smooth(spectra.centres_px, logs[:, k], near) for k in (0, 1)], axis=1))
        worst = off.max(axis=1)
        near = np.logical_and(clear, worst < max(UNEVEN, float(np.median(worst[near]))))
        if (worst[near] < UNEVEN).all():
            break
    return near


def _contrast(spectra: Spectra, frequency: ComplexArray, period_mm: float) -> FloatArray:
    """How far a tile's harmonics stand above the places halfway between them: (t, K)."""
    on = spectra.heights(frequency, np.arange(1.0, 9.0))
    between = spectra.heights(frequency, np.arange(0.5, 8.5))
    reached = np.maximum(np.isfinite(on).sum(axis=2), 1)
    between_mean = np.nansum(np.where(np.isfinite(on), between, np.nan), axis=2) / reached
    clear = np.nansum(on, axis=2) / reached - between_mean
    if period_mm < FIVE_MM:
        return clear
    # Strong fine lines and faint bold ones: the fifth harmonic alone, and it has to stand out twice as far.
    return np.fmax(clear, (on[:, :, 4] - between_mean) / 2)


def _grid(
    centres_px: FloatArray, mm_per_px: FloatArray, weights: FloatArray, confidence: float, shape: tuple[int, ...]
) -> Grid:
    """What the tiles' lattices say about the middle of the picture."""
    terms = np.column_stack([np.ones(len(centres_px)), (centres_px - (shape[1] / 2, shape[0] / 2)) / shape[1]])
    terms = terms if len(terms) >= 5 else terms[:, :1]
    clear = weights.min(axis=1)[:, None]
    at_middle = np.linalg.lstsq(terms * clear, mm_per_px.reshape(-1, 4) * clear, rcond=None)[0][0]
    (across_x, down_x), (across_y, down_y) = np.linalg.inv(at_middle.reshape(2, 2)).tolist()
    turn = (np.arctan2(across_y, across_x) + np.arctan2(-down_x, down_y)) / 2
    return Grid(
        px_per_mm_across=float(np.hypot(across_x, across_y)),
        px_per_mm_down=float(np.hypot(down_x, down_y)),
        angle_deg=float(np.degrees(turn)),
        confidence=confidence,
        centres_px=centres_px,
        mm_per_px=mm_per_px,
        weights=weights,
    )
