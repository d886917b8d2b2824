"""A picture's spectra, tile by tile: in them a printed grid stands as peaks at whole multiples of one frequency.

Shapes: t tiles, K = 2 families of lines, those crossed when going across a page (K = 0) and down it (K = 1).
Frequencies are complex, x + iy, in cycles a tile; those of K = 1 are turned by -90 degrees, so that the families of a
square grid have the same.
"""

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]
IntArray = NDArray[np.intp]

WORK_PX = 1024
TILE_PX = 256
TILE_STEP_PX = 200
FLATTEN_PX = 41
CLIP_SPREADS = 3.0
"""Local contrast is cut here, so that traces and text weigh no more than lines."""

SIDE = 10
"""Columns of negative frequency kept beside the half spectrum: peaks near its edge need both flanks."""
NOISE_BINS = 21
LAST_BIN = 0.45 * TILE_PX
PEAK_LOG_SNR = 2.2
LEAST_LOG_SNR = 3.0
"""The largest of nine bins of noise is seldom higher."""

TURNS = np.array([1, 1j])
AROUND = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]).T


class Spectra:
    """Logarithmic signal-to-noise ratios `snr` (t, TILE_PX, SIDE + TILE_PX / 2 + 1) around `centres_px` (t, 2).

    `shrink` is by how much the picture, uint8 RGB (h, w, 3), was made smaller first.
    """

    def __init__(self, image: NDArray[np.uint8]):
        flat, self.shrink = _flatten(image)
        corners = [(x, y) for y in _starts(flat.shape[0]) for x in _starts(flat.shape[1])]
        self.centres_px: FloatArray = np.array(corners) + TILE_PX / 2
        window = np.hanning(TILE_PX).astype(np.float32)
        tiles = np.stack([flat[y : y + TILE_PX, x : x + TILE_PX] for x, y in corners]) * (window[:, None] * window)
        half = 2 * np.log(np.abs(scipy.fft.rfft2(tiles)) + 0.03)
        half = np.roll(half, TILE_PX // 2, axis=1)
        mirrored = np.roll(half[:, ::-1, SIDE:0:-1], 1, axis=1)
        level = np.concatenate([mirrored, half], axis=2)
        self.snr: FloatArray = level - np.stack([cv2.blur(tile, (NOISE_BINS, NOISE_BINS)) for tile in level])
        self.near = _dilated(self.snr)

    def peaks(self) -> tuple[IntArray, ComplexArray, FloatArray]:
        """Bins higher than the 24 around them: whose they are, frequencies (not turned), strengths."""
        high = (self.snr == _dilated(self.near)) & (self.snr > PEAK_LOG_SNR)
        high[:, [0, 1, -2, -1]] = False
        high[:, :, [0, 1, -2, -1]] = False
        owner, rows, columns = np.unravel_index(np.flatnonzero(high), high.shape)  # thrice as fast as np.nonzero
        return owner, self._between_bins(owner, rows, columns), self.snr[owner, rows, columns]

    def heights(self, frequency: ComplexArray, multiples: FloatArray) -> FloatArray:
        """Strength at multiples (n,) of every tile's frequencies (t, K): (t, K, n), NaN beyond the spectrum's edge."""
        rows, columns, inside, _ = _bins(frequency[..., None] * multiples)
        owner = np.arange(len(frequency))[:, None, None]
        return np.where(inside, self.near[owner, rows, columns], np.nan)

    def profile(self, frequency: ComplexArray, harmonics: int) -> FloatArray:
        """Mean strength of the first harmonics; NaN where less than half of the tiles reach them."""
        heights = self.heights(frequency, np.arange(1.0, harmonics + 1)).reshape(-1, harmonics)
        reached = np.isfinite(heights).sum(axis=0)
        enough = reached > 0.5 * np.isfinite(frequency).sum()
        return np.where(enough, np.nansum(heights, axis=0) / np.maximum(reached, 1), np.nan)

    def refine(self, frequency: ComplexArray, reach: tuple[int, ...]) -> tuple[ComplexArray, FloatArray]:
        """Frequencies (t, K) measured again at their harmonics, and how strong these are together (t, K).

        Once for every number of harmonics in `reach`: the places of low ones are surer, high ones are more exact.
        """
        owner = np.arange(len(frequency))[:, None, None]
        weights = np.zeros(frequency.shape)
        for most in reach:
            multiples = np.arange(1.0, most + 1)
            rows, columns, inside, sign = _bins(np.multiply.outer(frequency, multiples))
            around = self.snr[owner[..., None], rows[..., None] + AROUND[0], columns[..., None] + AROUND[1]]
            best = around.argmax(axis=-1)
            peaks = self._between_bins(owner, rows + AROUND[0][best], columns + AROUND[1][best])
            strength = np.where(inside, np.maximum(around.max(axis=-1) - LEAST_LOG_SNR, 0.0), 0.0)
            total = (strength * multiples * peaks * sign / TURNS[:, None]).sum(axis=-1)
            squares = (strength * multiples**2).sum(axis=-1)
            frequency = np.where(squares > 0, total / np.maximum(squares, 1e-9), frequency)
            weights = strength.sum(axis=-1)
        return frequency, weights

    def _between_bins(self, owner: IntArray, rows: IntArray, columns: IntArray) -> ComplexArray:
        """Peaks at whole bins -> frequencies, by a parabola through the logarithms of three bins each way."""
        middle = self.snr[owner, rows, columns]
        offsets = []
        for step_row, step_column in ((0, 1), (1, 0)):
            before = self.snr[owner, rows - step_row, columns - step_column]
            after = self.snr[owner, rows + step_row, columns + step_column]
            bend = np.maximum(2 * middle - before - after, 1e-3)
            offsets.append(np.clip((after - before) / (2 * bend), -0.5, 0.5))
        return columns - SIDE + offsets[0] + 1j * (rows - TILE_PX // 2 + offsets[1])


def _dilated(tiles: FloatArray) -> FloatArray:
    """The highest of every bin and the eight around it."""
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(tile, kernel) for tile in tiles]).astype(np.float32, copy=False)


def _bins(frequency: ComplexArray) -> tuple[IntArray, IntArray, NDArray[np.bool_], IntArray]:
    """Rows and columns of frequencies (t, K, n), whether they are within reach, and the sign that brings them there."""
    plain = frequency * TURNS[:, None]
    inside = np.abs(frequency) < LAST_BIN
    plain = np.where(inside, plain, 3 + 3j)
    sign = np.where(plain.real < 2 - SIDE, -1, 1)
    plain = plain * sign
    return np.rint(plain.imag).astype(int) + TILE_PX // 2, np.rint(plain.real).astype(int) + SIDE, inside, sign


def _starts(length_px: int) -> list[int]:
    """Where tiles begin along one side: evenly spread, the last one at the end."""
    last = length_px - TILE_PX
    return np.linspace(0, last, 1 + -(-last // TILE_STEP_PX)).astype(int).tolist()


def _flatten(image: NDArray[np.uint8]) -> tuple[FloatArray, float]:
    """Even light and contrast, at most WORK_PX and at least one tile large; and by how much it was shrunk."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrink = max(1.0, max(grey.shape) / WORK_PX)
    if shrink > 1.0:
        grey = cv2.resize(grey, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    fine = cv2.subtract(grey, cv2.blur(grey, (FLATTEN_PX, FLATTEN_PX)), dtype=cv2.CV_32F)
    limit = CLIP_SPREADS * max(1.0, float(np.abs(fine[::5, ::5]).mean()))
    fine = np.clip(fine, -limit, limit) / np.float32(limit)
    missing_y, missing_x = (max(0, TILE_PX - side) for side in fine.shape)
    return np.pad(fine, ((0, missing_y), (0, missing_x))), shrink
