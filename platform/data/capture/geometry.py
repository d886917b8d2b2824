"""Where every point of a sheet lies in the picture taken of it, and that picture.

A picture keeps the size of its sheet: H x W pixels. Points are (m, 2) of (x, y) in pixels; pixel i covers [i, i + 1),
so OpenCV's coordinates, which count from a pixel's centre, are half a pixel less than ours.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..printing.truth import Points
from .layers import pixels

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Field = NDArray[np.floating]

NODES_ACROSS = 96
"""Nodes of the lattice on which a map is computed before it is enlarged; between them it is linear."""
FIXED_POINT_STEPS = 20
FIXED_POINT_PX = 0.05
POINTS_A_SIDE = 24
SHADOW_ALPHA = 0.45
SHADOW_CELLS = 7
"""Of the background's own pixels."""


class Warp:
    """A plane view of a sheet, `homography` (3, 3) from sheet to picture, seen through a lens, of a sheet that bends.

    `barrel`: by how much of its distance to the middle a corner is drawn in; negative draws it out.
    `bend` (rows, cols, 2): how far in pixels the paper now seen at a place of the flat sheet comes from; any lattice
    that covers the sheet, its first node in the middle of the first cell.
    """

    def __init__(
        self, width_px: int, height_px: int, homography: Matrix, barrel: float = 0.0, bend: Field | None = None
    ) -> None:
        self.width_px, self.height_px = width_px, height_px
        self.homography = homography / homography[2, 2]
        self._back = np.linalg.inv(self.homography)
        self._cell_px = max(2, round(width_px / NODES_ACROSS))
        self._lattice: Field | None = None
        if barrel or bend is not None:
            self._lattice, self._excess = self._sources(barrel, bend)

    @property
    def is_identity(self) -> bool:
        """Whether the picture is the sheet itself."""
        return self._lattice is None and np.array_equal(self.homography, np.eye(3))

    def where(self, points: Points) -> Points:
        """Points (m, 2) of the sheet -> of the picture, to 0.1 px; those that are not finite stay so."""
        moved = apply(self.homography, points)
        for _ in range(FIXED_POINT_STEPS if self._lattice is not None else 0):
            before, moved = moved, apply(self.homography, points - self._excess_at(moved))
            if not np.any(np.abs(moved - before) > FIXED_POINT_PX):
                break
        return moved

    def render(self, sheet: Image, background: Image) -> Image:
        """The picture of a sheet, uint8 RGB (H, W, 3), on a background of any size, which is stretched and shaded."""
        size = (self.width_px, self.height_px)
        if self._lattice is None:
            half = np.array([(1, 0, 0.5), (0, 1, 0.5), (0, 0, 1)])
            matrix = np.linalg.inv(half) @ self.homography @ half
            picture = cv2.warpPerspective(sheet, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        else:
            cell, (rows, columns) = self._cell_px, self._lattice.shape[:2]
            fine = cv2.resize(self._lattice - np.float32(0.5), (columns * cell, rows * cell))
            fine = fine[cell : cell + self.height_px, cell : cell + self.width_px]
            picture = cv2.remap(sheet, fine, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyrefly: ignore
        return self._lay(pixels(picture), background)

    def _lay(self, picture: Image, background: Image) -> Image:
        """Cut the sheet out of a picture that continues beyond it, and lay it on the background with its shadow."""
        size = (self.width_px, self.height_px)
        outline = self.where(_edges(*size))
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(mask, [np.rint((outline - 0.5) * 64).astype(np.int32)], (255,), cv2.LINE_AA, 6)
        if mask.min() == 255:
            return picture
        soft = cv2.resize(mask, background.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        soft = cv2.blur(soft, (SHADOW_CELLS, SHADOW_CELLS), borderType=cv2.BORDER_REPLICATE)
        lit = cv2.convertScaleAbs(soft, alpha=-SHADOW_ALPHA, beta=255)
        around = cv2.multiply(background, cv2.merge([lit] * 3), scale=1 / 255)
        for left, top, right, bottom in _border(outline, size):
            part = picture[top:bottom, left:right]
            x, y = around.shape[1] / size[0], around.shape[0] / size[1]
            under = around[int(top * y) : math.ceil(bottom * y), int(left * x) : math.ceil(right * x)]
            under = cv2.resize(under, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            share = cv2.merge([mask[top:bottom, left:right]] * 3)
            cv2.multiply(under, cv2.bitwise_not(share), under, 1 / 255)
            cv2.add(cv2.multiply(part, share, scale=1 / 255), under, part)
        return picture

    def _sources(self, barrel: float, bend: Field | None) -> tuple[Field, Field]:
        """Which point of the sheet every node (rows, columns, 2) shows, and by how much the plane view's differs."""
        cell, middle_x, middle_y = self._cell_px, self.width_px / 2, self.height_px / 2
        # A cell more than the picture on every side: its nodes stand in the middle of cells, and the picture ends.
        x = ((np.arange(-(-self.width_px // cell) + 2) - 0.5) * cell)[None, :]
        y = ((np.arange(-(-self.height_px // cell) + 2) - 0.5) * cell)[:, None]
        plane = _mapped(self._back, x, y)
        sources = plane
        if barrel:
            grown = barrel * ((x - middle_x) ** 2 + (y - middle_y) ** 2) / (middle_x**2 + middle_y**2)
            sources = _mapped(self._back, x + (x - middle_x) * grown, y + (y - middle_y) * grown)
        if bend is not None:
            rows, columns = bend.shape[:2]
            at = sources * np.array((columns / self.width_px, rows / self.height_px), np.float32) - np.float32(0.5)
            sources = sources + cv2.remap(bend, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyrefly: ignore
        return sources, sources - plane

    def _excess_at(self, points: Points) -> Points:
        """By how much the sources of points (m, 2) of the picture differ from the plane view's."""
        rows, columns = self._excess.shape[:2]
        at = np.clip(np.nan_to_num(points) / self._cell_px + 0.5, 0, (columns - 1.001, rows - 1.001))
        low = at.astype(np.intp)
        (x, y), (share_x, share_y) = low.T, (at - low).T[..., None]
        top = self._excess[y, x] * (1 - share_x) + self._excess[y, x + 1] * share_x
        bottom = self._excess[y + 1, x] * (1 - share_x) + self._excess[y + 1, x + 1] * share_x
        return top * (1 - share_y) + bottom * share_y


def apply(homography: Matrix, points: Points) -> Points:
    """A homography (3, 3) on points (m, 2)."""
    moved = points @ homography[:, :2].T + homography[:, 2]
    return moved[:, :2] / moved[:, 2:]


def _mapped(homography: Matrix, x: Field, y: Field) -> Field:
    """A homography on coordinates that broadcast to a lattice: (rows, columns, 2)."""
    (xx, xy, x0), (yx, yy, y0), (wx, wy, w0) = homography.tolist()
    depth = 1 / (wx * x + wy * y + w0)
    across, down = (xx * x + xy * y + x0) * depth, (yx * x + yy * y + y0) * depth
    return np.stack([across, down], axis=2, dtype=np.float32)


def _edges(width_px: int, height_px: int) -> Points:
    """Points along a sheet's four sides with both their ends, clockwise, so that they follow what bends."""
    share = np.linspace(0, 1, POINTS_A_SIDE)[:, None]
    corners = np.array([(0, 0), (width_px, 0), (width_px, height_px), (0, height_px)], np.float64)
    return np.concatenate([a + (b - a) * share for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])


def _border(outline: Points, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of the parts of a picture around a box that lies wholly on the sheet.

    Only there is something to blend.
    """
    sides = outline.reshape(4, POINTS_A_SIDE, 2)
    means = sides.mean(axis=1)
    bounds = []
    for axis in (0, 1):
        low = math.ceil(sides[means[:, axis].argmin(), :, axis].max()) + 1
        high = math.floor(sides[means[:, axis].argmax(), :, axis].min()) - 1
        low = min(max(low, 0), size[axis])
        bounds.append((low, min(max(high, low), size[axis])))
    (left, right), (top, bottom) = bounds
    width, height = size
    parts = [
        (0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom),
    ]  # fmt: skip
    return [part for part in parts if part[0] < part[2] and part[1] < part[3]]
