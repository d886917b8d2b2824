"""Pictures that are no ECG pages, of kinds that the page finder was not fitted on. uint8 RGB (h, w, 3)."""

from itertools import pairwise

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

Image = np.ndarray
Rng = np.random.Generator


def _white(height_px: int, width_px: int) -> Image:
    return np.full((height_px, width_px, 3), 255, np.uint8)


def sheet_music(rng: Rng) -> Image:
    """Staves of five lines, heads and stems of notes, bars."""
    image, gap = _white(900, 700), 7
    for top in range(60, 840, 95):
        for line in range(5):
            cv2.line(image, (30, top + line * gap), (670, top + line * gap), (0, 0, 0), 1)
        for x in range(60, 660, int(rng.integers(18, 40))):
            y = top + int(rng.integers(-2, 10)) * gap // 2
            cv2.ellipse(image, (x, y), (5, 4), -20, 0, 360, (0, 0, 0), -1)
            cv2.line(image, (x + 5, y), (x + 5, y - 26), (0, 0, 0), 1)
        for x in range(30, 671, 160):
            cv2.line(image, (x, top), (x, top + 4 * gap), (0, 0, 0), 1)
    return image


def stock_chart(rng: Rng) -> Image:
    """Candles over a grid, volumes below."""
    image = _white(600, 1000)
    for at in range(50, 1000, 95):
        cv2.line(image, (at, 0), (at, 600), (225, 225, 225), 1)
    for at in range(30, 600, 60):
        cv2.line(image, (0, at), (1000, at), (225, 225, 225), 1)
    price = 250 + np.cumsum(rng.normal(0, 7, 120))
    for day, (begin, end) in enumerate(pairwise(price)):
        x, ink = 20 + 8 * day, (40, 150, 60) if end < begin else (200, 50, 40)
        low, high = int(min(begin, end) - rng.exponential(6)), int(max(begin, end) + rng.exponential(6))
        cv2.line(image, (x, low), (x, high), ink, 1)
        cv2.rectangle(image, (x - 2, int(begin)), (x + 2, int(end)), ink, -1)
        cv2.rectangle(image, (x - 2, 595 - int(rng.exponential(30))), (x + 2, 595), ink, -1)
    return image


def seismogram(rng: Rng) -> Image:
    """A drum's turns, hour by hour, with two quakes."""
    image = _white(800, 1000)
    for hour in range(24):
        size = np.full(940, 1.2)
        for start in rng.integers(0, 900, int(rng.random() < 0.2)):
            size[start:] += 25 * np.exp(-np.arange(940 - start) / 60)
        ys = 30 + 31 * hour + size * rng.normal(size=940)
        cv2.polylines(image, [np.stack([np.arange(40, 980), ys], axis=1).astype(np.int32)], False, (20, 30, 120), 1)
        cv2.putText(image, f"{hour:02d}:00", (2, 34 + 31 * hour), 0, 0.35, (0, 0, 0), 1)
    return image


def calendar(rng: Rng) -> Image:
    """A month with appointments."""
    image = _white(700, 900)
    for week in range(6):
        for day in range(7):
            x, y = 20 + 123 * day, 80 + 100 * week
            cv2.rectangle(image, (x, y), (x + 123, y + 100), (120, 120, 120), 1)
            cv2.putText(image, str((7 * week + day) % 31 + 1), (x + 5, y + 22), 0, 0.6, (0, 0, 0), 1)
            if rng.random() < 0.4:
                cv2.rectangle(image, (x + 4, y + 35), (x + 118, y + 60), rng.integers(120, 250, 3).tolist(), -1)
                cv2.putText(image, "meeting", (x + 8, y + 54), 0, 0.5, (20, 20, 20), 1)
    cv2.putText(image, "October", (350, 50), 3, 1.5, (0, 0, 0), 2)
    return image


def audiogram(rng: Rng) -> Image:
    """Hearing thresholds of two ears on a form."""
    image = _white(800, 640)
    for step in range(12):
        cv2.line(image, (80, 100 + 50 * step), (560, 100 + 50 * step), (170, 170, 170), 1)
        cv2.putText(image, str(10 * step), (40, 106 + 50 * step), 0, 0.45, (0, 0, 0), 1)
    for step in range(9):
        cv2.line(image, (80 + 60 * step, 100), (80 + 60 * step, 650), (170, 170, 170), 1)
    for ink in ((200, 30, 30), (30, 30, 200)):
        ys = 150 + np.cumsum(rng.uniform(0, 60, 7))
        points = np.stack([110 + 60 * np.arange(7), ys], axis=1).astype(np.int32)
        cv2.polylines(image, [points], False, ink, 2, cv2.LINE_AA)
        for x, y in points.tolist():
            cv2.circle(image, (x, y), 8, ink, 2)
    return image


def crossword(rng: Rng) -> Image:
    """Squares, black and white, and clues."""
    image = _white(900, 640)
    for row, column in np.ndindex(15, 15):
        fill = (0, 0, 0) if rng.random() < 0.2 else (255, 255, 255)
        x, y = 50 + 36 * column, 40 + 36 * row
        cv2.rectangle(image, (x, y), (x + 36, y + 36), fill, -1)
        cv2.rectangle(image, (x, y), (x + 36, y + 36), (0, 0, 0), 1)
    for line in range(15):
        cv2.putText(image, f"{line + 1} across: a word for it ({line})", (50, 610 + 19 * line), 0, 0.5, (0, 0, 0), 1)
    return image


def spectrogram(rng: Rng) -> Image:
    """Sound as colours."""
    level = np.cumsum(rng.normal(size=(300, 600)), axis=1) - 0.1 * np.arange(300)[:, None]
    level = cv2.resize((level - level.min()) / np.ptp(level), (1200, 600))
    return cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1].copy()


def ultrasound(rng: Rng) -> Image:
    """A fan of speckle on black."""
    y, x = np.mgrid[0:600, 0:800]
    depth, side = np.hypot(x - 400, y + 40), np.arctan2(x - 400, y + 40)
    tissue = cv2.resize(rng.random((40, 50)), (800, 600), interpolation=cv2.INTER_CUBIC)
    inside = (depth > 80) & (depth < 600) & (np.abs(side) < 0.6)
    grey = np.clip(160 * tissue * rng.gamma(2, 0.5, (600, 800)), 0, 255) * inside
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def photo_of_a_temple(rng: Rng) -> Image:
    """A part of scikit-learn's photo of a palace in China (CC BY 2.0)."""
    return _part(np.asarray(load_sample_images().images[0]), rng)


def photo_of_a_flower(rng: Rng) -> Image:
    """A part of scikit-learn's photo of a dahlia (CC BY 2.0)."""
    return _part(np.asarray(load_sample_images().images[1]), rng)


def _part(photo: Image, rng: Rng) -> Image:
    top, left = int(rng.integers(0, 150)), int(rng.integers(0, 200))
    return np.ascontiguousarray(photo[top : top + 277, left : left + 440])


def circuit(rng: Rng) -> Image:
    """Boxes joined by right-angled wires."""
    image = _white(640, 900)
    for _ in range(25):
        x, y = int(rng.integers(20, 800)), int(rng.integers(20, 580))
        cv2.rectangle(image, (x, y), (x + 60, y + 30), (0, 0, 0), 1)
        cv2.putText(image, f"R{rng.integers(99)}", (x + 10, y + 20), 0, 0.5, (0, 0, 0), 1)
        end = (int(rng.integers(20, 880)), int(rng.integers(20, 620)))
        cv2.line(image, (x + 60, y + 15), (end[0], y + 15), (0, 0, 0), 1)
        cv2.line(image, (end[0], y + 15), end, (0, 0, 0), 1)
    return image


def wave_table(rng: Rng) -> Image:
    """Rows of sine waves, as in a school book."""
    image = _white(700, 900)
    for row in range(5):
        xs = np.linspace(60, 860, 800)
        ys = 90 + 130 * row - 45 * np.sin(xs * rng.uniform(0.01, 0.2) + rng.uniform(0, 6))
        cv2.line(image, (60, 90 + 130 * row), (860, 90 + 130 * row), (120, 120, 120), 1)
        cv2.polylines(image, [np.stack([xs, ys], axis=1).astype(np.int32)], False, (0, 0, 160), 2, cv2.LINE_AA)
    return image


KINDS = (
    sheet_music, stock_chart, seismogram, calendar, audiogram, crossword, spectrogram, ultrasound, photo_of_a_temple,
    photo_of_a_flower, circuit, wave_table,
)  # fmt: skip
