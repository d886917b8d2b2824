"""What a scanner, copier or fax does to a page."""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np

from .layers import (
    REFERENCE_DIAGONAL_PX,
    Pixels,
    Step,
    add_grain,
    axes,
    blend,
    clouds,
    diagonal_px,
    grain,
    gray,
    ink,
    levels,
    pixels,
    shade,
)

TRACE_SHARE = 0.993
"""Brightness below its surroundings: all but so many of the pixels have less of it than the trace."""


def contrast(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Washed out, burnt or underexposed: black point, white point and gamma of the scan."""
    value = np.linspace(0.0, 1.0, 256)
    kind = int(rng.integers(3))
    amount = strength * rng.uniform(0.6, 1.0)
    black, white, gamma = ((0.5, 0.0, 0.0), (0.0, 0.35, -0.3), (-0.1, -0.3, 0.5))[kind]
    curve = value ** np.exp(gamma * amount)
    curve = black * amount + curve * (1.0 + white * amount - black * amount)
    return levels(image, curve * 255)


def halftone(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A printer's dots: paper and ink stay whole, what lies between becomes a slanted screen."""
    height, width = image.shape[:2]
    unit_px = diagonal_px(image) / REFERENCE_DIAGONAL_PX
    side = max(8, round(48 * unit_px))
    waves = side / (rng.uniform(2.6, 3.6) * unit_px)
    fan = np.deg2rad(30.0) if rng.random() < 0.6 else 0.0
    angles = rng.uniform(0.0, np.pi / 2) + np.arange(3) * fan
    at = np.arange(side) * (2 * np.pi / side)
    screens = []
    # Whole waves in a tile, so that it repeats without a seam.
    for kx, ky in np.rint(waves * np.stack([np.cos(angles), np.sin(angles)], axis=1)):
        screens.append(np.cos(kx * at[None, :] + ky * at[:, None]) + np.cos(kx * at[:, None] - ky * at[None, :]))
    tile = np.rint(127.5 + 63.0 * np.stack(screens, axis=-1)).astype(np.uint8)
    full = np.ascontiguousarray(np.tile(tile, (-(-height // side), -(-width // side), 1))[:height, :width])
    # Ink where the page is darker than the screen, which reaches from 60 to 235.
    dots = cv2.addWeighted(image, 2.6, full, -1.78, 20.0)
    return blend(image, pixels(dots), 0.75 * strength)


def threshold(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Black and white by a local threshold, as of a fax: the grid drops out or turns into dots, the trace stays.

    Under strength 0.5 it is laid over the page in part; from there on every pixel is 0 or 255.
    """
    bright = gray(image)
    height, width = bright.shape
    small = cv2.resize(bright, (max(2, width // 4), max(2, height // 4)), interpolation=cv2.INTER_AREA)
    window = max(3, round(rng.uniform(0.03, 0.08) * small.shape[1]) | 1)
    local = cv2.resize(cv2.blur(small, (window, window)), (width, height), interpolation=cv2.INTER_LINEAR)
    darker = pixels(cv2.subtract(local, bright))
    counts = np.cumsum(cv2.calcHist([darker], [0], None, [256], [0.0, 256.0]))
    trace = int(np.searchsorted(counts, TRACE_SHARE * counts[-1]))
    uneven = add_grain(darker, grain(rng, image, 0.6)[..., 0], 0.03 * trace)
    limit = max(2.0, trace * rng.uniform(0.2, 0.45))
    _, black = cv2.threshold(uneven, limit, 255.0, cv2.THRESH_BINARY_INV)
    page = pixels(cv2.cvtColor(black, cv2.COLOR_GRAY2RGB))
    return blend(image, page, min(1.0, 2.0 * strength))


def scan_lines(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Streaks along the way of travel, and colours that the sensor reads a little before and behind each other."""
    height, width = image.shape[:2]
    down = rng.random() < 0.5
    count = width if down else height
    streaks = 1.0 - strength * (0.03 + 0.03 * clouds(rng, (1, count), 60.0)[0])
    for at in rng.integers(0, count, int(rng.integers(2, 7))):
        broad = max(1, round(count * rng.uniform(0.001, 0.003)))
        streaks[at : at + broad] -= strength * rng.uniform(0.03, 0.18)
    line = np.rint(255 * np.clip(streaks, 0.0, 1.0)).astype(np.uint8)
    line = line[None, :] if down else line[:, None]
    full = cv2.cvtColor(cv2.resize(line, (width, height), interpolation=cv2.INTER_NEAREST), cv2.COLOR_GRAY2RGB)
    return _misregistered(pixels(cv2.multiply(image, full, scale=1 / 255)), strength, down)


def _misregistered(image: Pixels, strength: float, down: bool) -> Pixels:
    """Red mixed with the line before, blue with the line behind."""
    step = max(1, round(diagonal_px(image) / REFERENCE_DIAGONAL_PX))
    result = image.copy()
    whole, rest = slice(step, -step), slice(None)
    for channel, here in ((0, slice(None, -2 * step)), (2, slice(2 * step, None))):
        inner, other = ((whole, rest), (here, rest)) if down else ((rest, whole), (rest, here))
        plane = cv2.extractChannel(image, channel)
        plane[inner] = cv2.addWeighted(plane[inner], 1 - 0.5 * strength, plane[other], 0.5 * strength, 0.0)
        cv2.insertChannel(plane, result, channel)
    return result


def dust(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Specks and hairs on the glass, most dark, some light."""
    result = image.copy()
    height, width = image.shape[:2]
    unit_px = diagonal_px(image) / REFERENCE_DIAGONAL_PX
    dark: Pixels = np.zeros((height, width), np.uint8)
    many = 90
    places = (rng.random((many, 2)) * (width, height) * 16).astype(int).tolist()
    radii = (rng.gamma(1.6, 0.28, many) * unit_px * 16).astype(int).tolist()
    depths = rng.integers(60, 256, many).tolist()
    for place, radius, depth in list(zip(places, radii, depths, strict=True))[: max(2, round(many * strength))]:
        cv2.circle(dark, place, radius, (depth,), -1, cv2.LINE_AA, 4)
    for start in rng.random((3, 2)) * (width, height):
        turns = np.cumsum(rng.normal(0.0, 0.35, 14)) + rng.uniform(0.0, 6.3)
        path = start + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), axis=0) * rng.uniform(0.8, 2.5) * unit_px
        cv2.polylines(dark, [np.rint(path * 16).astype(np.int32)], False, (150,), max(1, round(unit_px * 0.7)), 16, 4)
    ink(result, pixels(cv2.convertScaleAbs(dark, alpha=min(0.8, 2.5 * strength))), (70, 66, 60))
    return result


def scan_noise(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """The paper's fibres and the sensor's noise."""
    x, y = axes(image)
    fine = add_grain(image, grain(rng, image, 0.5, 0.15), 4.5 * strength)
    return shade(fine, 1.0 - 0.015 * strength * (1.0 + clouds(rng, (y.shape[0], x.shape[1]), 60.0)))


def photocopy(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A copy of a copy: gray, hard, toner dust on the paper, dark where the lid did not close."""
    dark, light = rng.uniform(0.18, 0.3), rng.uniform(0.78, 0.9)
    value = np.clip((np.linspace(0.0, 1.0, 256) - dark) / (light - dark), 0.0, 1.0)
    hard = levels(gray(image), 255 * (0.06 + 0.94 * value * value * (3 - 2 * value)))
    page = pixels(cv2.cvtColor(hard, cv2.COLOR_GRAY2RGB))
    toner = grain(rng, image, 0.6)
    page = pixels(cv2.min(page, cv2.addWeighted(toner, 12.0, toner, 0.0, -12.0 * rng.uniform(48.0, 62.0))))
    x, y = axes(image)
    edge = (x, 1 - x, y, 1 - y)[int(rng.integers(4))] + 0.01 * clouds(rng, (y.shape[0], x.shape[1]), 6.0)
    page = shade(page, 1.0 - rng.uniform(0.3, 0.8) * np.exp(-np.clip(edge, 0, 1) * rng.uniform(50.0, 110.0)))
    return blend(image, page, strength)


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "contrast": contrast,
        "halftone": halftone,
        "threshold": threshold,
        "scan-lines": scan_lines,
        "dust": dust,
        "scan-noise": scan_noise,
        "photocopy": photocopy,
    }
)
