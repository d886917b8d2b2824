"""What wear is made of: smooth fields, grain and ink, and how they are laid over a picture.

Shapes: H x W pixels of a picture, h x w of a coarse field that is stretched over it (`COARSE_PX` on the longer side).
Lengths are shares of the picture's width or diagonal, so that a small and a large picture look alike.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[np.floating]
Points = NDArray[np.floating]
Step = Callable[[Pixels, np.random.Generator, float], Pixels]
"""(image uint8 RGB (H, W, 3), rng, strength in (0, 1]) -> new uint8 RGB (H, W, 3); pure, and nothing moves."""

COARSE_PX = 128
TILE_PX = 160
REFERENCE_DIAGONAL_PX = 640.0
"""512 x 384: where one pixel of grain is one pixel of the picture."""


def pixels(array: NDArray[np.generic]) -> Pixels:
    """For the type checker: what OpenCV returns for uint8 is uint8."""
    return array.astype(np.uint8, copy=False)


def diagonal_px(image: Pixels) -> float:
    """Length of the picture's diagonal."""
    return float(np.hypot(*image.shape[:2]))


def axes(image: Pixels) -> tuple[Field, Field]:
    """Coordinates x (1, w) and y (h, 1) of a coarse field in shares of the picture's width and height, 0 to 1."""
    height, width = image.shape[:2]
    scale = COARSE_PX / max(height, width)
    w, h = max(2, round(width * scale)), max(2, round(height * scale))
    x, y = (np.arange(w, dtype=np.float32) + 0.5) / w, (np.arange(h, dtype=np.float32) + 0.5) / h
    return x[None, :], y[:, None]


def clouds(rng: np.random.Generator, shape: tuple[int, int], hills: float) -> Field:
    """Smooth random field (h, w) of -1 to 1 with about so many hills along its longer side."""
    h, w = shape
    cells = [max(2, round(hills * side / max(h, w)) + 1) for side in (h, w)]
    seeds = rng.uniform(-1.0, 1.0, cells).astype(np.float32)
    return cv2.resize(seeds, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def shade(image: Pixels, factor: Field) -> Pixels:
    """The picture times a coarse field (h, w) or (h, w, 3) of 0 to 1, stretched over it."""
    coarse = np.rint(np.clip(factor, 0.0, 1.0) * 255.0).astype(np.uint8)
    full = cv2.resize(coarse, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    if factor.ndim == 2:
        full = cv2.cvtColor(full, cv2.COLOR_GRAY2RGB)
    return pixels(cv2.multiply(image, full, scale=1 / 255))


def lighten(image: Pixels, light: Field) -> Pixels:
    """The picture with a coarse field of light, 0 to 1, over it, which no shade can darken ("screen")."""
    return pixels(cv2.bitwise_not(shade(pixels(cv2.bitwise_not(image)), 1.0 - light)))


def blend(image: Pixels, other: Pixels, share: float) -> Pixels:
    """So much of the other picture over the first."""
    return pixels(cv2.addWeighted(image, 1.0 - share, other, share, 0.0))


def tinted(amount: Field, rgb: tuple[float, float, float]) -> Field:
    """Factors (h, w, 3) for `shade`: 1 where the amount (h, w) is 0, the colour (of 0 to 1) where it is 1."""
    return 1.0 - amount[..., None] * (1.0 - np.array(rgb, np.float32))


def gray(image: Pixels) -> Pixels:
    """Brightness (H, W)."""
    return pixels(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def levels(image: Pixels, curve: NDArray[np.floating]) -> Pixels:
    """The picture through a curve of 256 values, (256,) or (256, 3), each 0 to 255."""
    table = np.rint(np.clip(curve, 0.0, 255.0)).astype(np.uint8)
    return pixels(cv2.LUT(image, table if table.ndim == 1 else table[None]))


def grain(rng: np.random.Generator, image: Pixels, blur_px: float, chroma: float = 0.0) -> Pixels:
    """Noise (H, W, 3) of mean 128 and deviation about 25, correlated over so many pixels of a 512 x 384 picture.

    One tile is drawn and repeated. `chroma` is the share of coarser noise that the colours do not have in common.
    """
    tile = _noise(rng, blur_px)
    colours = [tile] * 3
    if chroma > 0.0:
        colours = [pixels(cv2.addWeighted(tile, 1.0, _noise(rng, 2.0 * blur_px), chroma, -128 * chroma)) for _ in "RGB"]
    height, width = image.shape[:2]
    side = max(TILE_PX, round(TILE_PX * diagonal_px(image) / REFERENCE_DIAGONAL_PX))
    whole = cv2.resize(cv2.merge(colours), (side, side), interpolation=cv2.INTER_LINEAR)
    repeats = (-(-height // side), -(-width // side), 1)
    return np.ascontiguousarray(np.tile(pixels(whole), repeats)[:height, :width])


def _noise(rng: np.random.Generator, blur_px: float) -> Pixels:
    """A tile of mean 128 and deviation about 25."""
    white = rng.integers(0, 256, (TILE_PX, TILE_PX), dtype=np.uint8)
    soft = cv2.GaussianBlur(white, (0, 0), blur_px)
    # A Gaussian divides the deviation by 2 sqrt(pi) sigma; 74 is that of the bytes.
    gain = 25.0 * max(1.0, 2.0 * np.sqrt(np.pi) * blur_px) / 74.0
    return pixels(cv2.addWeighted(soft, gain, soft, 0.0, 128.0 - 127.5 * gain))


def add_grain(image: Pixels, noise: Pixels, deviation: float) -> Pixels:
    """The picture with noise of `grain` at so many levels of deviation."""
    gain = deviation / 25.0
    return pixels(cv2.addWeighted(image, 1.0, noise, gain, -128.0 * gain))


def ink(image: Pixels, mask: Pixels, rgb: tuple[int, int, int], left: int = 0, top: int = 0) -> None:
    """Multiply ink into the picture, in place, where a mask (h, w) of 0 to 255 is set; the mask may stick out."""
    x, y, w, h = cv2.boundingRect(mask)
    x0, y0 = max(x, -left), max(y, -top)
    x1, y1 = min(x + w, image.shape[1] - left), min(y + h, image.shape[0] - top)
    if x1 <= x0 or y1 <= y0:
        return
    part = mask[y0:y1, x0:x1]
    factor = cv2.merge([cv2.convertScaleAbs(part, alpha=level / 255 - 1, beta=255) for level in rgb])
    under = image[top + y0 : top + y1, left + x0 : left + x1]
    under[...] = cv2.multiply(under, factor, scale=1 / 255)
