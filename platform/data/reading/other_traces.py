"""More pictures that are no ECG pages, the hard ones: curves, scribbles and traces of other things than twelve leads.

Shapes: h x w pixels. Every kind is a function of a random generator and a size, and gives uint8 RGB (h, w, 3).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from .other_pictures import (
    Maker,
    Pixels,
    Rng,
    chart,
    codes,
    colour,
    curve,
    document,
    graph_paper,
    masonry,
    natural,
    paper,
    screen,
    table,
    text_block,
    words,
    write,
)


def _sheet(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """What a recorder prints on: plain or ruled."""
    return (graph_paper if rng.random() < 0.5 else paper)(rng, height_px, width_px)


def other_recording(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Rows of brain waves, muscle bursts or tremors: many traces, none of them a heart's."""
    image, rows = _sheet(rng, height_px, width_px), int(rng.integers(2, 22))
    kind, ink, points = rng.choice(["waves", "bursts", "noise"]), colour(rng, 0, 110), int(rng.integers(300, 1200))
    for row in range(rows):
        noise = np.convolve(rng.normal(size=points + 60), np.hanning(int(rng.integers(2, 30))), "same")[:points]
        if kind == "waves":
            noise += 2 * np.sin(np.linspace(0, rng.uniform(60, 400), points)) * np.abs(curve(rng, points))
        if kind == "bursts":
            noise *= np.convolve(rng.random(points) < 0.01, np.hanning(90), "same") ** 2
        pitch = height_px / (rows + 1)
        ys = (row + 1) * pitch - noise / (np.abs(noise).max() + 1e-9) * pitch * rng.uniform(0.2, 0.9)
        line = np.stack([np.linspace(0.06, 0.98, points) * width_px, ys], axis=1)
        cv2.polylines(image, [line.astype(np.int32)], False, ink, 1, cv2.LINE_AA)
        write(image, words(rng, 3), 3, int((row + 1) * pitch), max(6, pitch / 4), rng, ink)
    if rng.random() < 0.5:
        text_block(image, rng, (width_px // 20, 2, width_px, height_px // 10), max(6, height_px / 50))
    return image


def _beats(rng: Rng, points: int) -> NDArray[np.float64]:
    """A heart's or a pulse's beats (points,), about 1 high."""
    at, period = np.arange(points, dtype=np.float64), points / rng.uniform(4, 14)
    phase = (at / period + rng.uniform(0, 1)) % 1
    if rng.random() < 0.4:
        return np.sin(np.pi * phase**0.6) ** 2
    spike = np.exp(-(((phase - 0.3) / 0.02) ** 2)) - 0.25 * np.exp(-(((phase - 0.35) / 0.02) ** 2))
    return spike + 0.25 * np.exp(-(((phase - 0.6) / 0.06) ** 2)) + 0.1 * np.exp(-(((phase - 0.15) / 0.03) ** 2))


def rhythm_strip(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """One lead alone on ruled paper: an ECG, but no page of twelve leads."""
    height_px = round(height_px * rng.uniform(0.3, 1.0))
    image, points = graph_paper(rng, height_px, width_px), int(rng.integers(300, 900))
    ys = height_px * (rng.uniform(0.4, 0.7) - rng.uniform(0.1, 0.3) * _beats(rng, points))
    line = np.stack([np.linspace(rng.uniform(0, 0.1), 1, points) * width_px, ys], axis=1)
    cv2.polylines(image, [line.astype(np.int32)], False, colour(rng, 0, 80), int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def monitor(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A bedside monitor: two to four coloured waves on black, large numbers beside them."""
    image, rows = np.full((height_px, width_px, 3), colour(rng, 0, 40), np.uint8), int(rng.integers(2, 5))
    for row in range(rows):
        middle, pitch, ink = height_px * (row + 0.6) / rows, height_px / rows, colour(rng, 80, 255)
        ys = middle - 0.5 * pitch * (_beats(rng, 600) if row < 2 else curve(rng, 600))
        line = np.stack([np.linspace(0.02, 0.75, 600) * width_px, ys], axis=1)
        cv2.polylines(image, [line.astype(np.int32)], False, ink, int(rng.integers(1, 3)), cv2.LINE_AA)
        write(image, f"{rng.integers(10, 180)}", round(0.78 * width_px), int(middle), pitch / 2.5, rng, ink)
        write(image, words(rng, 5), round(0.78 * width_px), int(middle - pitch / 2), pitch / 9, rng, ink)
    return image


def handwriting(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Joined-up writing on plain, ruled or squared paper."""
    image, ink = _sheet(rng, height_px, width_px), colour(rng, 0, 120)
    pitch = height_px / rng.uniform(7, 25)
    for y in np.arange(pitch, height_px, pitch):
        steps = int(width_px / pitch * rng.uniform(8, 14))
        drift = np.linspace(0.05, rng.uniform(0.5, 0.95), steps) * width_px
        x = drift + pitch * 0.4 * np.sin(np.linspace(0, steps, steps) * rng.uniform(0.8, 1.4))
        wave = np.convolve(rng.normal(size=steps + 3), [0.3, 0.4, 0.3], "valid")[:steps]
        for part in np.array_split(np.stack([x[: len(wave)], y - pitch * 0.35 * wave], axis=1), max(2, steps // 25)):
            cv2.polylines(image, [part[:-2].astype(np.int32)], False, ink, max(1, round(pitch / 16)), cv2.LINE_AA)
    return image


def plan(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A map or a drawing: roads, outlines, circles, labels."""
    image = paper(rng, height_px, width_px)
    for _ in range(int(rng.integers(8, 60))):
        points = np.cumsum(rng.normal(0, width_px / 15, (int(rng.integers(2, 14)), 2)), axis=0)
        points += rng.uniform(0, 1, 2) * (width_px, height_px)
        if rng.random() < 0.3:
            cv2.fillPoly(image, [points.astype(np.int32)], colour(rng, 150, 255))
        is_closed = bool(rng.random() < 0.3)
        cv2.polylines(image, [points.astype(np.int32)], is_closed, colour(rng, 0, 200), int(rng.integers(1, 6)))
        write(image, words(rng, 8), int(points[0, 0]), int(points[0, 1]), rng.uniform(7, 14), rng, (20, 20, 20))
    return image


def pattern(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Stripes, checks, tiles and noise, upright or slanting."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.02, 1.2))
    if rng.random() < 0.5:
        wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * rng.uniform(0.02, 1.2))
    wave = np.sign(wave) if rng.random() < 0.5 else wave
    share = np.clip(0.5 + 0.5 * wave + rng.normal(0, rng.uniform(0, 0.5), wave.shape), 0, 1)[..., None]
    return (share * np.array(colour(rng)) + (1 - share) * np.array(colour(rng))).astype(np.uint8)


def rows_of_marks(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """Rows of strokes, dots, boxes and syllables along ruled lines: notes, tallies, time tables, rulers."""
    image, rows, ink = paper(rng, height_px, width_px), int(rng.integers(2, 16)), colour(rng, 0, 120)
    pitch, lines, marks = height_px / (rows + 1), int(rng.integers(0, 7)), rng.integers(0, 4, int(rng.integers(1, 4)))
    gap, step = pitch * rng.uniform(0.03, 0.12), pitch * rng.uniform(0.1, 0.8)
    for middle in (np.arange(rows) + 1) * pitch:
        for line in range(lines):
            y = round(middle + (line - lines / 2) * gap)
            cv2.line(image, (width_px // 25, y), (width_px * 24 // 25, y), ink, 1)
        for x in np.cumsum(rng.exponential(step, int(0.9 * width_px / step))).astype(int) + width_px // 20:
            y, size = round(middle + rng.normal(0, 1.5 * gap)), max(1, round(gap * rng.uniform(0.4, 1.2)))
            mark, tip = rng.choice(marks), round(y + pitch * rng.uniform(-0.4, 0.4))
            if mark == 0:
                cv2.line(image, (int(x), y), (int(x), tip), ink, max(1, size // 4))
            elif mark == 1:
                cv2.ellipse(image, (int(x), y), (size, max(1, size * 2 // 3)), -20, 0, 360, ink, -1)
                cv2.line(image, (int(x) + size, y), (int(x) + size, tip), ink, 1)
            elif mark == 2:
                cv2.rectangle(image, (int(x), y), (int(x) + round(step), y + size), ink, int(rng.choice([-1, 1])))
            else:
                write(image, words(rng, 2), int(x), y, max(5.0, 2 * gap), rng, ink)
    return image


def half_empty(rng: Rng, height_px: int, width_px: int) -> Pixels:
    """A sheet with next to nothing on it."""
    image = paper(rng, height_px, width_px)
    for _ in range(int(rng.integers(0, 5))):
        x, y = int(rng.integers(0, width_px)), int(rng.integers(0, height_px))
        write(image, words(rng, int(rng.integers(1, 20))), x, y, rng.uniform(8, 30), rng, colour(rng, 0, 150))
        cv2.line(image, (x, y), (int(rng.integers(0, width_px)), y), colour(rng, 0, 150), 1)
    return image


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        document, table, chart, graph_paper, screen, codes, natural, masonry, other_recording, rhythm_strip, monitor,
        handwriting, plan, pattern, rows_of_marks, half_empty,
    )
}  # fmt: skip
"""By name; no kind of tests/platform/data/other_pictures.py is among them."""
