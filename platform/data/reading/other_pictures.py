"""Pictures that are no ECG pages, drawn to order: what people send by mistake, for fitting the page finder.

Shapes: h x w pixels. Every kind is a function of a random generator and a size, and gives uint8 RGB (h, w, 3).
"""

import string
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Maker = Callable[[Rng, int, int], Pixels]

_FONTS = (0, 1, 2, 3, 4, 5, 6, 7)
"""OpenCV's Hershey fonts."""


def paper(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """An empty sheet: most are nearly white."""
    shade = 255 - rng.integers(0, 12, 3) - int(rng.integers(0, 90)) * (rng.random() < 0.15)
    return np.broadcast_to(shade.astype(np.uint8), (height_px, width_px, 3)).copy()


def colour(rng: Rng, darkest: int = 0, brightest: int = 255) -> tuple[int, int, int]:
    """Any one between two greys."""
    red, green, blue = rng.integers(darkest, brightest + 1, 3).tolist()
    return red, green, blue


def words(rng: Rng, length: int) -> str:
    """Letters, digits and blanks."""
    letters = list(string.ascii_letters + string.digits * 2 + " " * 12 + ".,:-")
    return "".join(rng.choice(letters, length))


def write(image: Pixels, text: str, x: int, y: int, size_px: float, rng: Rng, ink: tuple[int, int, int]) -> None:
    """A line of text with its baseline at (x, y)."""
    font = int(rng.choice(_FONTS))
    cv2.putText(image, text, (x, y), font, size_px / 22, ink, max(1, round(size_px / 12)), cv2.LINE_AA)


def text_block(image: Pixels, rng: Rng, box: tuple[int, int, int, int], size_px: float) -> None:
    """Fill left, top, right, bottom with lines of text of one height, ragged on the right."""
    left, top, right, bottom = box
    ink = colour(rng, 0, 90)
    for y in range(top + round(size_px), bottom, max(4, round(1.7 * size_px))):
        letters = int((right - left) / (0.8 * size_px) * rng.uniform(0.5, 1.0))
        if letters > 1 and rng.random() < 0.92:
            write(image, words(rng, letters), left, y, size_px, rng, ink)


def document(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A letter or an article in one to three columns, some with a picture."""
    image, columns = paper(rng, height_px, width_px), int(rng.integers(1, 4))
    size_px = min(height_px, width_px) / rng.uniform(25, 70)
    margin, pitch = width_px // 12, (width_px - width_px // 6) // columns
    write(image, words(rng, 20), margin, height_px // 12, 2 * size_px, rng, colour(rng, 0, 90))
    for column in range(columns):
        left = margin + column * pitch
        text_block(image, rng, (left, height_px // 8, left + pitch - margin // 3, height_px * 11 // 12), size_px)
    if rng.random() < 0.4:
        x, y = int(rng.integers(0, width_px // 2)), int(rng.integers(0, height_px // 2))
        part = natural(rng, height_px // 3, width_px // 3)
        image[y : y + part.shape[0], x : x + part.shape[1]] = part
    return image


def table(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A spreadsheet, a form or a timetable: ruled cells, some of them filled."""
    image, ink = paper(rng, height_px, width_px), colour(rng, 0, 200)
    rows, columns = int(rng.integers(5, 45)), int(rng.integers(2, 16))
    xs = np.unique(np.rint(np.linspace(0.04, 0.96, columns + 1) * width_px + rng.normal(0, 4, columns + 1)).astype(int))
    ys = np.rint(np.linspace(rng.uniform(0.03, 0.3), 0.97, rows + 1) * height_px).astype(int)
    pitch, is_ruled = ys[1] - ys[0], rng.random(2) < 0.8
    for y in ys if is_ruled[0] else ys[:2]:
        cv2.line(image, (int(xs[0]), int(y)), (int(xs[-1]), int(y)), ink, 1)
    for x in xs if is_ruled[1] else xs[:1]:
        cv2.line(image, (int(x), int(ys[0])), (int(x), int(ys[-1])), ink, 1)
    for y in ys[1:]:
        for x in xs[:-1]:
            if rng.random() < 0.6:
                write(image, words(rng, int(rng.integers(1, 9))), int(x) + 3, int(y) - 2, pitch / 2, rng, (30, 30, 30))
    return image


def axes(image: Pixels, rng: Rng, box: tuple[int, int, int, int]) -> None:
    """A chart's frame, often with a grid and numbers."""
    left, top, right, bottom = box
    xs, ys = np.linspace(left, right, int(rng.integers(3, 14))), np.linspace(top, bottom, int(rng.integers(3, 10)))
    if rng.random() < 0.6:
        grid = colour(rng, 140, 230)
        for x in xs:
            cv2.line(image, (int(x), top), (int(x), bottom), grid, 1)
        for y in ys:
            cv2.line(image, (left, int(y)), (right, int(y)), grid, 1)
    cv2.rectangle(image, (left, top), (right, bottom), (40, 40, 40), 1)
    size_px = max(6.0, (bottom - top) / 30)
    for x in xs:
        write(image, f"{rng.integers(0, 2000)}", int(x) - 8, bottom + round(1.6 * size_px), size_px, rng, (40, 40, 40))
    for y in ys:
        write(image, f"{rng.uniform(0, 9):.1f}", left - round(3 * size_px), int(y), size_px, rng, (40, 40, 40))


def curve(rng: Rng, points: int) -> NDArray[np.float64]:
    """A random walk, a smooth trend, waves or a decay (points,), between 0 and 1."""
    at = np.linspace(0, 1, points)
    steps = rng.normal(size=points)
    kinds = (
        np.cumsum(steps),
        np.convolve(np.cumsum(steps), np.ones(max(1, points // 5)) / points, "same"),
        np.sin(at * rng.uniform(5, 60) + rng.uniform(0, 6)) + 0.1 * steps,
        np.exp(-at * rng.uniform(1, 9)) + 0.03 * steps,
        steps,
    )
    values = kinds[int(rng.integers(len(kinds)))]
    return (values - values.min()) / (np.ptp(values) + 1e-9)


def chart(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Lines, bars or points in one to four frames."""
    image = paper(rng, height_px, width_px)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    for row in range(rows):
        for column in range(columns):
            left, right = (round(width_px * (column + share) / columns) for share in (0.14, 0.95))
            top, bottom = (round(height_px * (row + share) / rows) for share in (0.1, 0.85))
            axes(image, rng, (left, top, right, bottom))
            _fill_chart(image, rng, (left, top, right, bottom))
    return image


def _fill_chart(image: Pixels, rng: Rng, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    kind, ink = rng.choice(["lines", "bars", "points"]), colour(rng, 0, 170)
    for _ in range(int(rng.integers(1, 5)) if kind == "lines" else 1):
        xs = np.linspace(left, right, int(rng.integers(10, 300)) if kind == "lines" else int(rng.integers(4, 25)))
        ys = bottom - (bottom - top) * (0.05 + rng.uniform(0.3, 0.9) * curve(rng, len(xs)))
        points = np.stack([xs, ys], axis=1).astype(np.int32)
        if kind == "lines":
            cv2.polylines(image, [points], False, colour(rng, 0, 170), int(rng.integers(1, 4)), cv2.LINE_AA)
        for x, y in points.tolist() if kind != "lines" else ():
            if kind == "bars":
                cv2.rectangle(image, (x, y), (x + (right - left) // len(xs) // 2, bottom), ink, -1)
            else:
                cv2.circle(image, (int(rng.integers(left, right)), y), int(rng.integers(1, 6)), ink, -1)


def graph_paper(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Ruled paper, millimetre paper and ECG paper with nothing on it but perhaps a few words."""
    image, fine_px = paper(rng, height_px, width_px), rng.uniform(2, 14)
    tint = np.array(colour(rng, 60, 220))
    for pitch_px, rgb in ((fine_px, (tint + 3 * 255) // 4), (5 * fine_px, tint)):
        for across in (True, False) if rng.random() < 0.9 else (True,):
            length = height_px if across else width_px
            for at in np.arange(rng.uniform(0, pitch_px), length, pitch_px).astype(int):
                line = image[at] if across else image[:, at]
                line[:] = rgb
    if rng.random() < 0.5:
        text_block(image, rng, (width_px // 10, 4, width_px * 2 // 3, height_px // 6), max(7, height_px / 40))
    return image


def screen(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A program's windows: panels, buttons, lists, text."""
    image = np.full((height_px, width_px, 3), colour(rng, 20, 250), np.uint8)
    for _ in range(int(rng.integers(4, 16))):
        x, y = int(rng.integers(-20, width_px - 40)), int(rng.integers(-20, height_px - 30))
        right, bottom = x + int(rng.integers(40, width_px)), y + int(rng.integers(16, height_px // 2))
        cv2.rectangle(image, (x, y), (right, bottom), colour(rng, 150, 255), -1)
        cv2.rectangle(image, (x, y), (right, bottom), colour(rng, 60, 200), 1)
        text_block(image, rng, (x + 6, y + 4, min(right, width_px), bottom), rng.uniform(8, 16))
    return image


def codes(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Two-dimensional codes, bar codes and labels."""
    image = paper(rng, height_px, width_px)
    for _ in range(int(rng.integers(1, 5))):
        side = int(rng.integers(15, 45))
        cells = rng.integers(0, 2, (side, side)).astype(np.uint8)
        if rng.random() < 0.5:
            cells = np.repeat(cells[:1], side // 2, axis=0)
        scale = int(rng.integers(2, 9))
        block = np.kron(cells, np.full((scale, scale), 255, np.uint8))[: height_px - 1, : width_px - 1]
        y, x = int(rng.integers(0, height_px - block.shape[0])), int(rng.integers(0, width_px - block.shape[1]))
        image[y : y + block.shape[0], x : x + block.shape[1]] = block[..., None]
        text_block(image, rng, (x, y + block.shape[0], width_px, min(height_px, y + block.shape[0] + 60)), 12)
    return image


def fractal(rng: Rng, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Clouds (h, w) between 0 and 1, from smooth to rough."""
    total, weight, roughness = np.zeros((height_px, width_px), np.float32), 1.0, rng.uniform(0.3, 0.8)
    for octave in range(1, 8):
        cells = rng.normal(size=(2**octave, 2**octave)).astype(np.float32)
        total += weight * cv2.resize(cells, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
        weight *= roughness
    return (total - total.min()) / (np.ptp(total) + 1e-9)


def natural(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A view of things: lit bodies before clouds, as a photo has them; some as grey as an x-ray."""
    view = _view(rng, max(16, height_px // 2), max(16, width_px // 2))
    view = cv2.resize(view, (width_px, height_px)) + rng.standard_normal((height_px, width_px, 3), np.float32) * 6
    return np.clip(view, 0, 255).astype(np.uint8)


def _view(rng: Rng, height_px: int, width_px: int) -> NDArray[np.floating]:
    mix = fractal(rng, height_px, width_px)[..., None]
    image = mix * np.array(colour(rng), np.float32) + (1 - mix) * np.array(colour(rng), np.float32)
    for _ in range(int(rng.integers(0, 25))):
        mask = np.zeros((height_px, width_px), np.uint8)
        middle = (int(rng.integers(0, width_px)), int(rng.integers(0, height_px)))
        half = (int(rng.integers(3, width_px // 3)), int(rng.integers(3, height_px // 3)))
        if rng.random() < 0.5:
            cv2.ellipse(mask, middle, half, float(rng.uniform(0, 180)), 0, 360, (255, 255, 255), -1)
        else:
            box = cv2.boxPoints((middle, half, float(rng.uniform(0, 180))))
            cv2.fillPoly(mask, [box.astype(np.int32)], (255, 255, 255))
        soft = cv2.blur(mask, (int(rng.integers(1, 20)),) * 2)[..., None] / np.float32(255)
        lit = np.array(colour(rng), np.float32) * (0.5 + 0.5 * np.roll(mix, int(rng.integers(0, width_px)), axis=1))
        image = image * (1 - soft) + lit * soft
    if rng.random() < 0.3:
        image = _with_branches(image, rng)
    if rng.random() < 0.25:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    return image


def _with_branches(image: NDArray[np.floating], rng: Rng) -> NDArray[np.floating]:
    """Twigs, cables, cracks or hairs across the view."""
    height_px, width_px = image.shape[:2]
    image = np.ascontiguousarray(image)
    for _ in range(int(rng.integers(1, 25))):
        steps = np.cumsum(rng.normal(rng.normal(0, 1, 2), 0.7, (40, 2)), axis=0) * width_px / 80
        points = (steps + rng.uniform(0, 1, 2) * (width_px, height_px)).astype(np.int32)
        cv2.polylines(image, [points], False, colour(rng, 0, 140), int(rng.integers(1, 7)), cv2.LINE_AA)
    return image


def masonry(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Bricks, windows, books, slats: oblongs in rows, each in its own light."""
    joint = np.array(colour(rng), np.float32)
    image = np.broadcast_to(joint, (height_px, width_px, 3)).copy()
    tint, spread = np.array(colour(rng), np.float32), rng.uniform(3, 50)
    high, wide = height_px / rng.uniform(2, 22), width_px / rng.uniform(1, 30)
    gap, stagger = max(1.0, min(high, wide) * rng.uniform(0.03, 0.3)), float(rng.choice([0, 0.5]))
    for row in range(int(height_px / high) + 1):
        for column in range(-1, int(width_px / wide) + 1):
            x, y = (column + stagger * (row % 2)) * wide, row * high
            shade = np.clip(tint + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 0, 255).tolist()
            end = (round(x + wide - gap + rng.normal(0, gap / 4)), round(y + high - gap + rng.normal(0, gap / 4)))
            cv2.rectangle(image, (round(x), round(y)), end, shade, -1)
    rough = fractal(rng, height_px, width_px)[..., None] * rng.uniform(0, 0.8)
    image = image * (1 - rough) + rng.normal(0, rng.uniform(0, 15), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)
