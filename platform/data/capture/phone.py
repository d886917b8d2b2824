"""What a phone's camera, the light in the room and a screen do to a page."""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from .layers import (
    REFERENCE_DIAGONAL_PX,
    Field,
    Pixels,
    Step,
    axes,
    clouds,
    diagonal_px,
    grain,
    levels,
    lighten,
    pixels,
    shade,
    tinted,
)


def uneven_light(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A lamp at one side, broad patches of light, and the lens's vignette."""
    x, y = axes(image)
    angle = rng.uniform(0.0, 2 * np.pi)
    slope = (x - 0.5) * np.float32(np.cos(angle)) + (y - 0.5) * np.float32(np.sin(angle))
    patches = clouds(rng, slope.shape, rng.uniform(1.0, 2.2))
    vignette = (x - 0.5) ** 2 + (y - 0.5) ** 2
    dark = 0.16 + rng.uniform(0.15, 0.45) * slope + 0.08 * patches + rng.uniform(0.1, 0.5) * vignette
    warm = rng.uniform(-0.06, 0.06)
    return shade(image, tinted(np.clip(strength * dark, 0.0, 0.7), (0.05 + warm, 0.05, 0.05 - warm)))


def shadow(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """The soft edge of whoever holds the phone, or of the phone, across the page."""
    x, y = axes(image)
    h, w = y.shape[0], x.shape[1]
    cover: Pixels = np.zeros((h, w), np.uint8)
    angle, reach = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.3, 0.8)
    way, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([w, h]) / 2 + way * w * 0.62 + side * w * rng.uniform(-0.3, 0.3)
    if rng.random() < 0.5:
        corners = [(-reach, -0.22), (-reach, 0.22), (1.0, 0.32), (1.0, -0.32)]
        outline = np.array([middle + (a * way + b * side) * w for a, b in corners])
        cv2.fillPoly(cover, [np.rint(outline).astype(np.int32)], (255,))
    else:
        axes_px = (round(reach * w), round(rng.uniform(0.18, 0.4) * w))
        cv2.ellipse(cover, np.rint(middle).astype(int).tolist(), axes_px, np.rad2deg(angle), 0.0, 360.0, (255,), -1)
    soft = cv2.GaussianBlur(cover, (0, 0), rng.uniform(2.0, 8.0)).astype(np.float32) / 255
    depth = strength * rng.uniform(0.35, 0.55)
    return shade(image, tinted(depth * soft, (0.0, 0.03, 0.1)))


def defocus(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Out of focus. A wide blur is done on a smaller picture, which is blurred by that already."""
    height, width = image.shape[:2]
    sigma_px = 0.0021 * strength * rng.uniform(0.75, 1.0) * diagonal_px(image)
    shrink = max(1, int(sigma_px / 1.3))
    if shrink == 1:
        return pixels(cv2.GaussianBlur(image, (0, 0), max(0.05, sigma_px)))
    small = cv2.resize(image, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    rest_px = np.sqrt(max(0.01, sigma_px**2 / shrink**2 - 0.25))
    soft = cv2.GaussianBlur(small, (0, 0), rest_px)
    return pixels(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR))


def motion_blur(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A straight shake. The mean of two pictures half the way apart halves the way that is left."""
    angle = rng.uniform(0.0, np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    length_px = 0.006 * strength * rng.uniform(0.7, 1.0) * diagonal_px(image)
    height, width = image.shape[:2]
    odd = 0
    while length_px > 2.0:
        dx, dy = (int(shift) for shift in np.rint(way * length_px / 2))
        up, left = abs(dy), abs(dx)
        # An odd way cannot be halved: the half pixel goes to one side, and the next time to the other.
        odd = 1 - odd
        top, side = (up + odd) // 2, (left + odd) // 2
        wide = cv2.copyMakeBorder(image, top, up - top, side, left - side, cv2.BORDER_REPLICATE)
        first = wide[:height, :width] if dx >= 0 else wide[:height, left:]
        second = wide[up:, left:] if dx >= 0 else wide[up:, :width]
        image = pixels(cv2.addWeighted(first, 0.5, second, 0.5, 0.0))
        length_px /= 2
    return pixels(cv2.filter2D(image, -1, _line_kernel(way * length_px), borderType=cv2.BORDER_REPLICATE))


def _line_kernel(way_px: NDArray[np.floating]) -> Field:
    """Mean along a line of at most two pixels through the middle, (3, 3)."""
    at = np.linspace(-0.5, 0.5, 9)[:, None] * way_px
    weights = np.maximum(0.0, 1.0 - np.abs(at[:, :, None] - np.array([-1.0, 0.0, 1.0])))
    kernel = np.einsum("nx,ny->yx", weights[:, 0], weights[:, 1])
    return (kernel / kernel.sum()).astype(np.float32)


def sensor_noise(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Noise as a phone's processing leaves it: blotchy, a little coloured, and more of it where the picture is dark."""
    noise = grain(rng, image, rng.uniform(0.5, 0.8), 0.22)
    steady = strength * rng.uniform(3.5, 7.0) / 25.0
    dark = cv2.bitwise_not(image)
    gain = 0.9 * steady / 128
    tuned = cv2.addWeighted(noise, 128 * gain, noise, 0.0, 128.0 - 128 * 128 * gain)
    dark = cv2.multiply(dark, tuned, scale=1 / 128)
    return pixels(cv2.bitwise_not(cv2.addWeighted(dark, 1.0, noise, steady, -128 * steady)))


def colour_temperature(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """White balance: yellow as under a lamp, blue as in the shade, or greenish as under a tube."""
    warm = rng.uniform(-0.5, 1.0)
    green = rng.normal(0.0, 0.02)
    exposure = 1.0 - 0.18 * strength * rng.random()
    lamp, shade_of_day = max(warm, 0.0), max(-warm, 0.0)
    logs = np.array([-0.16 * shade_of_day, green - 0.13 * lamp - 0.03 * shade_of_day, -0.5 * lamp])
    gains = exposure * np.exp(strength * logs)
    return levels(image, np.arange(256.0)[:, None] * gains)


def jpeg_quality(strength: float) -> int:
    """95 at strength 0, 30 at 1."""
    return round(95 - 65 * strength)


def jpeg(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Coded and decoded, as phones and messengers do."""
    how = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality(strength)]
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return pixels(decoded)


def moire(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Photo of a screen: its raster against the sensor's as curved coloured fringes, a backlight that lifts black."""
    x, y = axes(image)
    h, w = y.shape[0], x.shape[1]
    bend = clouds(rng, (h, w), 1.5)
    fringes = np.zeros((h, w, 3), np.float32)
    for _ in range(2):
        angle, waves = rng.uniform(0.0, np.pi), rng.uniform(8.0, 30.0)
        phase = waves * (x * np.float32(np.cos(angle)) + y * h / w * np.float32(np.sin(angle))) + 1.2 * bend
        # Red, green and blue stripes of a screen lie a third of its pixel apart.
        thirds = np.array([0.0, 1 / 3, 2 / 3], np.float32) * np.float32(rng.uniform(0.2, 1.0))
        fringes += np.cos(np.float32(2 * np.pi) * (phase[..., None] + thirds))
    depth = 0.02 + 0.03 * rng.random()
    glow = 1.0 - 0.05 * (clouds(rng, (h, w), 2.0) + 1)
    white = np.array([0.95, 0.97, 1.0], np.float32) * glow[..., None]
    shaded = shade(image, 1.0 - strength * (1.0 - white * (1.0 - depth * (1.0 + fringes / 2))))
    lift = strength * rng.uniform(0.05, 0.16)
    return pixels(cv2.convertScaleAbs(_raster(shaded, rng, strength), alpha=1.0 - lift, beta=255 * lift))


def _raster(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """The screen's own rows and columns, faint."""
    height, width = image.shape[:2]
    period_px = rng.uniform(2.2, 3.4) * diagonal_px(image) / REFERENCE_DIAGONAL_PX
    depth = 0.07 * strength
    waves = [np.cos(np.float32(2 * np.pi / period_px) * np.arange(n, dtype=np.float32)) for n in (height, width)]
    down, across = (1 - np.float32(depth / 2) * (1 + wave) for wave in waves)
    grid = pixels(cv2.convertScaleAbs(down[:, None] * across, alpha=255))
    return pixels(cv2.multiply(image, cv2.cvtColor(grid, cv2.COLOR_GRAY2RGB), scale=1 / 255))


def glare(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """The reflection of a lamp or of a window on glossy paper or a screen."""
    x, y = axes(image)
    angle = rng.uniform(0.0, np.pi)
    u, v = x - rng.uniform(0.1, 0.9), (y - rng.uniform(0.1, 0.9)) * (y.shape[0] / x.shape[1])
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    length, breadth = rng.uniform(0.12, 0.35), rng.uniform(0.04, 0.14)
    if rng.random() < 0.5:
        spot = np.exp(-((along / length) ** 2) - (across / breadth) ** 2)
    else:
        soft = rng.uniform(0.01, 0.03)
        inside = np.minimum(length - np.abs(along), breadth - np.abs(across))
        spot = 1.0 / (1.0 + np.exp(-inside / soft))
    haze = 0.15 * np.exp(-((along / (3 * length)) ** 2) - (across / (4 * breadth)) ** 2)
    light = strength * np.clip(rng.uniform(0.45, 0.7) * spot + haze, 0.0, 0.75)
    return lighten(image, light.astype(np.float32))


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "uneven-light": uneven_light,
        "shadow": shadow,
        "defocus": defocus,
        "motion-blur": motion_blur,
        "sensor-noise": sensor_noise,
        "colour-temperature": colour_temperature,
        "jpeg": jpeg,
        "moire": moire,
        "glare": glare,
    }
)
