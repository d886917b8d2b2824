"""Undo rotation, skew and perspective of a page, by its millimetre grid or else by the outline of its sheet.

The grid's lattices say everywhere how many millimetres a pixel is; the homography from pixels to millimetres is fitted
to them, no richer than they support. Points are (x, y) pixels; pixel i covers [i, i + 1), so its centre is i + 0.5.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from .grid import FloatArray, Grid, find_grid
from .sheet import find_sheet, sheet_sides_px

Pixels = NDArray[np.uint8]

MOST_ENLARGED = 1.5
MOST_PIXELS = 2.0
"""A result with this many times the picture's pixels comes from a wrong fit."""
POOR_FIT = 0.015
STRAY, MOST_STRAYS = 0.05, 0.2
"""Relative errors of the lattices: folded paper stays below, lattices that do not agree do not."""
SPREAD_OF_MEDIAN = 1.48
USUAL_ERROR = 0.003
RICHER_IF = 0.7
"""A richer model has to leave less than this share of a simpler one's error."""
STRAIGHT_MM = 0.25
"""Corners that would move less than this are left where they are."""


class Rectified(NamedTuple):
    """`homography` (3, 3) takes points of the picture as given to points of `image`; `note` says what was done."""

    image: Pixels
    homography: NDArray[np.float64]
    note: str


@dataclass(frozen=True)
class _Fit:
    """A map from pixels around `centre_px` to millimetres: linear (2, 2) over 1 + slope (2,) * point."""

    name: str
    centre_px: FloatArray
    linear: FloatArray
    slope: FloatArray
    error: float
    strays: float

    @property
    def is_poor(self) -> bool:
        """Whether lattices contradict the map, as they do on curled paper."""
        return self.error > POOR_FIT or self.strays > MOST_STRAYS

    @property
    def homography(self) -> NDArray[np.float64]:
        """Pixels -> millimetres, (3, 3)."""
        matrix = np.eye(3)
        matrix[:2, :2], matrix[2, :2] = self.linear, self.slope
        return matrix @ _shift(-self.centre_px)

    def mm_per_px(self, points_px: FloatArray) -> FloatArray:
        """The map's derivative at points (m, 2): (m, 2, 2)."""
        return _derivative(self.linear, self.slope, points_px - self.centre_px)


def rectify(image: Pixels, grid: Grid | None = None, *, rotation_only: bool = False) -> Rectified:
    """Set a page square, uint8 RGB (h, w, 3), or give it back as it is with a note that says why.

    A page with a grid, `grid` if it was already measured, gets equal px/mm in both directions. All that the picture
    shows is kept; nothing is enlarged by more than `MOST_ENLARGED`. With `rotation_only` it is only turned.
    """
    grid = grid or find_grid(image)
    if grid is not None:
        fit = _fit_grid(grid, image.shape, rotation_only)
        if fit.is_poor:
            fit = _fit_grid(grid, image.shape, rotation_only=True)  # curled paper: its mean direction is still true
        return _by_grid(image, grid, fit)
    sheet_px = None if rotation_only else find_sheet(image)
    if sheet_px is None:
        return _untouched(image, "no grid and no sheet found")
    return _by_sheet(image, sheet_px)


def _untouched(image: Pixels, note: str) -> Rectified:
    return Rectified(image, np.eye(3), note)


def _by_grid(image: Pixels, grid: Grid, fit: _Fit) -> Rectified:
    height_px, width_px = image.shape[:2]
    outline_px = _outline(width_px, height_px)
    to_mm = fit.homography
    if (1 + (outline_px - fit.centre_px) @ fit.slope).min() < 0.3:
        return _untouched(image, "perspective too strong to rectify")
    corners_mm = project(to_mm, outline_px)
    moved_mm = corners_mm - corners_mm.mean(axis=0) - (outline_px - outline_px.mean(axis=0)) / grid.px_per_mm
    if np.hypot(*moved_mm.T).max() < STRAIGHT_MM:
        return _untouched(image, "straight")
    most_mm_per_px = np.linalg.norm(fit.mm_per_px(outline_px), ord=2, axis=(1, 2)).max()
    px_per_mm = min(grid.px_per_mm, MOST_ENLARGED / most_mm_per_px)
    matrix = np.diag([px_per_mm, px_per_mm, 1.0]) @ to_mm
    corners_px = project(matrix, outline_px)
    return _warped(image, _shift(-corners_px.min(axis=0)) @ matrix, np.ptp(corners_px, axis=0), f"{fit.name} by grid")


def _by_sheet(image: Pixels, sheet_px: FloatArray) -> Rectified:
    width_px, height_px = sheet_sides_px(sheet_px)
    square = np.array([(0, 0), (width_px, 0), (width_px, height_px), (0, height_px)])
    matrix = np.asarray(cv2.getPerspectiveTransform(sheet_px.astype(np.float32), square.astype(np.float32)), np.float64)
    return _warped(image, matrix, np.array([width_px, height_px]), "perspective by sheet")


def _warped(image: Pixels, matrix: FloatArray, size_px: FloatArray, note: str) -> Rectified:
    width_px, height_px = (int(np.ceil(side - 1e-6)) for side in size_px)
    if width_px * height_px > MOST_PIXELS * image.shape[0] * image.shape[1]:
        return _untouched(image, "too distorted to rectify")
    edge_rgb = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0).tolist()
    half = np.array([0.5, 0.5])
    warped = cv2.warpPerspective(
        image,
        _shift(-half) @ matrix @ _shift(half),  # OpenCV counts from the middle of the first pixel.
        (width_px, height_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=edge_rgb,
    )
    return Rectified(warped.astype(np.uint8, copy=False), np.asarray(matrix / matrix[2, 2], np.float64), note)


def _fit_grid(grid: Grid, shape: tuple[int, ...], rotation_only: bool) -> _Fit:
    """The simplest of rotation, skew and perspective that the lattices do not contradict."""
    centre_px = np.array([shape[1] / 2, shape[0] / 2])
    points = (grid.centres_px - centre_px) / shape[1]
    observed = grid.mm_per_px * grid.px_per_mm  # about 1 throughout, so that errors are relative ones
    weights = np.sqrt(grid.weights / grid.weights.mean())[..., None]
    turn = np.radians(grid.angle_deg)
    start = np.array([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn), 0.0, 0.0])

    def errors(linear: FloatArray, slope: FloatArray) -> FloatArray:
        return ((_derivative(linear, slope, points) - observed) * weights).ravel()

    def unpack(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        if len(values) == 2:
            return np.array([[values[0], values[1]], [-values[1], values[0]]]), np.zeros(2)
        return values[:4].reshape(2, 2), np.append(values[4:], [0.0, 0.0])[:2]

    best: _Fit | None = None
    for name, count in (("rotation", 2), ("skew", 4), ("perspective", 6)):
        if best is not None and (rotation_only or len(points) < count):
            break
        found = least_squares(
            lambda values: errors(*unpack(values)), start[:count], loss="soft_l1", f_scale=USUAL_ERROR
        )
        linear, slope = unpack(found.x)
        error = (
            SPREAD_OF_MEDIAN * float(np.median(np.abs(found.fun))) * np.sqrt(found.fun.size / (found.fun.size - count))
        )
        misfit = np.abs(errors(linear, slope)).reshape(len(points), -1).max(axis=1)
        if best is None or error < RICHER_IF * best.error:
            best = _Fit(
                name, centre_px, linear / grid.px_per_mm, slope / shape[1], error, float((misfit > STRAY).mean())
            )
    assert best is not None
    return best


def _derivative(linear: FloatArray, slope: FloatArray, points: FloatArray) -> FloatArray:
    """Of linear @ p / (1 + slope . p) at points (m, 2): (m, 2, 2)."""
    depth = (1 + points @ slope)[:, None, None]
    return linear / depth - (points @ linear.T)[:, :, None] * slope / depth**2


def project(homography: FloatArray, points: FloatArray) -> FloatArray:
    """Points (m, 2) through a homography (3, 3)."""
    moved = points @ homography[:, :2].T + homography[:, 2]
    return moved[:, :2] / moved[:, 2:]


def _shift(by: FloatArray) -> FloatArray:
    matrix = np.eye(3)
    matrix[:2, 2] = by
    return matrix


def _outline(width_px: float, height_px: float) -> FloatArray:
    return np.array([(0.0, 0.0), (width_px, 0.0), (width_px, height_px), (0.0, height_px)])
