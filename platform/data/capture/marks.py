"""What people put on a page: handwriting, stamps and highlighter.

Letters are points in units of the small letters' height, x to the right and y up from the line of writing.
"""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np

from .layers import Pixels, Points, Step, clouds, ink, pixels

Curves = list[Points]

PENS = ((28, 48, 150), (20, 36, 120), (26, 26, 32), (40, 40, 46), (60, 70, 170))
STAMP_INKS = ((190, 30, 44), (40, 60, 160), (98, 48, 140), (150, 30, 70))
MARKERS = ((255, 246, 70), (255, 242, 90), (150, 255, 130), (255, 150, 205), (255, 196, 90))
STAMP_WORDS = ("RECEIVED", "COPY", "REVIEWED", "CARDIOLOGY", "ARCHIVE", "ECG DEPT", "ENTERED", "FILED", "SEEN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

LETTERS: Mapping[str, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        "e": ((0, 0.3), (0.5, 0.6), (0.45, 1), (0.15, 0.85), (0.1, 0.3), (0.4, 0), (0.8, 0.25)),
        "l": ((0, 0.2), (0.4, 1.3), (0.42, 2.1), (0.2, 1.9), (0.15, 0.5), (0.35, 0), (0.65, 0.2)),
        "n": ((0, 0.2), (0.1, 0.95), (0.12, 0.05), (0.25, 0.7), (0.5, 0.98), (0.6, 0.1), (0.85, 0.15)),
        "m": ((0, 0.9), (0.08, 0), (0.3, 0.95), (0.4, 0.05), (0.62, 0.95), (0.75, 0.05), (1.05, 0.2)),
        "a": ((0.65, 0.85), (0.25, 0.95), (0.05, 0.4), (0.3, 0), (0.6, 0.8), (0.65, 0.05), (0.95, 0.2)),
        "u": ((0.02, 0.9), (0.08, 0.2), (0.3, 0), (0.6, 0.9), (0.64, 0.05), (0.95, 0.2)),
        "g": ((0.6, 0.85), (0.2, 0.95), (0.1, 0.2), (0.55, 0.6), (0.55, -0.7), (0.25, -1), (0.2, -0.5), (0.9, 0.2)),
        "t": ((0.1, 0.3), (0.35, 1.7), (0.3, 0.3), (0.45, 0), (0.8, 0.2)),
        "r": ((0, 0.1), (0.15, 1), (0.4, 0.8), (0.5, 0.4), (0.5, 0), (0.8, 0.15)),
        "s": ((0, 0.1), (0.35, 1), (0.3, 0.7), (0.55, 0.3), (0.3, 0), (0.75, 0.15)),
        "i": ((0, 0.2), (0.2, 0.9), (0.22, 0.1), (0.5, 0.15)),
    }
)


def handwriting(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Words, initials, ticks, circles and arrows in one or two pens; more of them and firmer with strength."""
    result = image.copy()
    height, width = image.shape[:2]
    makers = (_word, _word, _note, _tick, _circle, _arrow, _initials, _calipers)
    pen = PENS[int(rng.integers(len(PENS)))]
    letter_px = rng.uniform(0.008, 0.013) * width
    nib_px = rng.uniform(0.0012, 0.0022) * width * (0.6 + 0.4 * strength)
    mask: Pixels = np.zeros((height, width), np.uint8)
    for number in range(5):
        curves = makers[int(rng.integers(len(makers)))](rng)
        place = rng.uniform((0.02, 0.04), (0.85, 0.96)) * (width, height)
        tilt = rng.normal(0.0, 0.06)
        if number < max(1.0, 5 * strength):
            turn = np.array([[np.cos(tilt), np.sin(tilt)], [np.sin(tilt), -np.cos(tilt)]]) * letter_px
            _write(mask, [curve @ turn.T + place for curve in curves], nib_px, rng)
    ink(result, pixels(cv2.convertScaleAbs(mask, alpha=min(0.95, 2.5 * strength))), pen)
    return result


def _write(mask: Pixels, curves_px: Curves, nib_px: float, rng: np.random.Generator) -> None:
    """Draw smooth curves with a slanted nib, which makes a stroke's width follow its direction."""
    slant = rng.uniform(0.3, 1.2)
    extra_px = max(0.0, nib_px - 1.0)
    thickness = max(1, round(0.55 * nib_px))
    offsets = np.linspace(-0.5, 0.5, 1 + int(np.ceil(extra_px / thickness))) * extra_px
    pressure = int(rng.integers(190, 256))
    smooth = [_spline(curve) for curve in curves_px]
    for offset in offsets:
        nib = offset * np.array([np.cos(slant), -np.sin(slant)])
        fixed = [np.rint((curve + nib) * 16).astype(np.int32) for curve in smooth]
        cv2.polylines(mask, fixed, False, (pressure,), thickness, cv2.LINE_AA, 4)


def _spline(points: Points, steps: int = 6) -> Points:
    """Catmull-Rom curve through points (n, 2): ((n - 1) * steps + 1, 2)."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    curve = p1 + t * ((p2 - p0) / 2 + t * (p0 - 2.5 * p1 + 2 * p2 - p3 / 2 + t * (1.5 * (p1 - p2) + (p3 - p0) / 2)))
    return np.vstack([curve.reshape(-1, 2), points[-1]])


def _letters(rng: np.random.Generator, count: int) -> Curves:
    shapes = list(LETTERS.values())
    return [np.array(shapes[number]) for number in rng.integers(0, len(shapes), count).tolist()]


def _word(rng: np.random.Generator) -> Curves:
    """A word in joined letters that flatten towards its end."""
    letters = _letters(rng, int(rng.integers(3, 9)))
    x, slant, haste = 0.0, rng.uniform(0.1, 0.45), rng.uniform(0.0, 0.12)
    parts: list[Points] = []
    for number, letter in enumerate(letters):
        letter = letter * (rng.uniform(0.8, 1.15), (1.9 if number == 0 else 1.0) * 0.95)
        letter[:, 1] *= max(0.35, 1.0 - haste * number)
        parts.append(letter + np.array([x, 0.0]))
        x += letter[-1, 0]
    points = np.vstack(parts)
    points = points + rng.normal(0.0, 0.06, points.shape)
    points[:, 0] += slant * points[:, 1]
    return [points]


def _note(rng: np.random.Generator) -> Curves:
    """Two lines of two words, perhaps underlined."""
    curves: Curves = []
    for line in range(2):
        first, second = _word(rng)[0], _word(rng)[0]
        down, after = np.array([0.0, 3.2 * line]), np.array([first[:, 0].max() + 1.0, 0.0])
        curves += [first - down, second + after - down]
    if rng.random() < 0.4:
        curves.append(np.array([[0.0, -4.3], [5.0, -4.1], [9.0, -4.4]]))
    return curves


def _tick(rng: np.random.Generator) -> Curves:
    size = rng.uniform(1.5, 3.0)
    return [np.array([[0.0, 0.6], [0.25, 0.2], [0.45, 0.0], [0.9, 1.0], [1.5, 2.1]]) * size]


def _circle(rng: np.random.Generator) -> Curves:
    """Drawn around something: the ends overlap and miss each other."""
    angle = rng.uniform(0.0, 6.3) + np.linspace(0.0, rng.uniform(6.3, 7.6), 14)
    radius = rng.uniform(3.0, 6.0) * np.linspace(0.95, 1.06, 14) * rng.uniform(0.96, 1.04, 14)
    return [np.stack([radius * np.cos(angle) * rng.uniform(1.0, 1.8), radius * np.sin(angle)], axis=1)]


def _arrow(rng: np.random.Generator) -> Curves:
    """A bent shaft, two barbs, and often a word where it begins."""
    angle, length = rng.uniform(0.0, 6.3), rng.uniform(4.0, 9.0)
    way, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    at = np.array([0.0, 0.35, 0.7, 1.0])[:, None]
    shaft = at * length * way + np.sin(3.1 * at) * rng.uniform(-1.0, 1.0) * side
    head = np.array([shaft[-1] - way * 1.3 + side * 0.8, shaft[-1], shaft[-1] - way * 1.2 - side * 0.9])
    curves = [shaft, head[:2], head[1:]]
    return [*curves, _word(rng)[0] - (2.0, 1.0) - 1.6 * way] if rng.random() < 0.5 else curves


def _initials(rng: np.random.Generator) -> Curves:
    """A large first letter that runs out into a flourish."""
    size = rng.uniform(2.0, 3.0)
    parts = [letter * size + (0.7 * size * k, 0.0) for k, letter in enumerate(_letters(rng, 2))]
    tail = parts[-1][-1] + np.array([[1.0, 0.6], [2.4, -0.5], [4.0, 0.5], [6.5, 0.1]]) * rng.uniform(0.5, 1.2)
    points = np.vstack([*parts, tail])
    return [points + rng.normal(0.0, 0.1, points.shape)]


def _calipers(rng: np.random.Generator) -> Curves:
    """Two marks and the line between them, as for an interval that was measured."""
    width = rng.uniform(4.0, 12.0)
    bow = rng.uniform(-0.3, 0.3)
    bars: Curves = [np.array([[x, -0.9], [x + 0.1, 0.0], [x, 0.9]]) for x in (0.0, width)]
    return [*bars, np.array([[0.0, 0.0], [width / 2, bow], [width, 0.0]])]


def stamps(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """One or two rubber stamps, round or rectangular, badly inked."""
    result = image.copy()
    height, width = image.shape[:2]
    for number in range(2):
        rgb = STAMP_INKS[int(rng.integers(len(STAMP_INKS)))]
        side = max(24, round(width * rng.uniform(0.13, 0.2)))
        plate = _round_stamp(rng, side) if rng.random() < 0.5 else _square_stamp(rng, side)
        left, top = rng.uniform(-0.02, 0.98) * width - side / 2, rng.uniform(0.0, 0.98) * height - side / 2
        broad, fine = clouds(rng, plate.shape, 4.0), clouds(rng, plate.shape, side / 3)
        worn = np.clip(0.75 + 0.45 * broad + 0.35 * fine, 0.0, 1.0)
        if number == 0 or strength > 0.6:
            mask = cv2.multiply(plate, (worn * 255).astype(np.uint8), scale=strength * 0.9 / 255)
            ink(result, pixels(mask), rgb, round(left), round(top))
    return result


def _round_stamp(rng: np.random.Generator, side: int) -> Pixels:
    """Two rings with words between them and a date across: mask (side, side)."""
    words = "   ".join(str(word) for word in rng.permutation(STAMP_WORDS)[:3])
    around, depth = round(2.6 * side), side // 2
    strip: Pixels = np.zeros((depth, around), np.uint8)
    _letter(strip, words, (0.03, 0.60), (0.94, 0.22))
    # Rows of the polar picture are angles, its columns radii; letters stand outwards.
    polar = cv2.rotate(cv2.flip(strip, 0), cv2.ROTATE_90_CLOCKWISE)
    middle = (side / 2, side / 2)
    how = cv2.WARP_POLAR_LINEAR | cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS
    plate = cv2.warpPolar(polar, (side, side), middle, 0.5 * side, how)
    thick = max(1, round(side * 0.012))
    for radius in (0.47, 0.28):
        centre = (side * 8, side * 8)
        cv2.circle(plate, centre, round(radius * side * 16), (255,), thick, cv2.LINE_AA, 4)
    date: Pixels = np.zeros((side, side), np.uint8)
    _letter(date, _date(rng), (0.24, 0.44), (0.52, 0.11))
    return pixels(cv2.max(plate, _turned(date, rng)))


def _square_stamp(rng: np.random.Generator, side: int) -> Pixels:
    """A frame with a word and a date: mask (side, side)."""
    plate: Pixels = np.zeros((side, side), np.uint8)
    thick = max(1, round(side * 0.02))
    corner = (round(0.04 * side), round(0.3 * side))
    cv2.rectangle(plate, corner, (side - corner[0], side - corner[1]), (255,), thick, cv2.LINE_AA)
    _letter(plate, str(rng.choice(STAMP_WORDS)), (0.1, 0.35), (0.8, 0.16))
    _letter(plate, _date(rng), (0.2, 0.56), (0.6, 0.09))
    return _turned(plate, rng)


def _turned(plate: Pixels, rng: np.random.Generator) -> Pixels:
    side = plate.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0.0, 12.0), 1.0)
    return pixels(cv2.warpAffine(plate, turn, (side, side)))


def _date(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 29)} {MONTHS[int(rng.integers(12))]} {rng.integers(1994, 2026)}"


def _letter(mask: Pixels, text: str, place: tuple[float, float], size: tuple[float, float]) -> None:
    """Write text that fits a box: its left top corner and its size are shares of the mask's."""
    height, width = mask.shape
    box_px = size[0] * width, size[1] * height
    (text_px, tall_px), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)
    scale = min(box_px[0] / text_px, box_px[1] / tall_px)
    thick = max(1, round(0.12 * scale * tall_px))
    x = place[0] * width + (box_px[0] - text_px * scale) / 2
    y = place[1] * height + (box_px[1] + tall_px * scale) / 2
    cv2.putText(mask, text, (round(x), round(y)), cv2.FONT_HERSHEY_DUPLEX, scale, (255,), thick, cv2.LINE_AA)


def highlighter(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A few strokes of a broad marker, darker where it was set down and where strokes overlap."""
    result = image.copy()
    height, width = image.shape[:2]
    rgb = MARKERS[int(rng.integers(len(MARKERS)))]
    broad_px = rng.uniform(0.014, 0.022) * width
    for number in range(4):
        x, y = rng.uniform(0.0, 0.8) * width, rng.uniform(0.05, 0.95) * height
        length, drift = rng.uniform(0.08, 0.3) * width, rng.normal(0.0, 0.15, 4) * broad_px
        if number > 4 * strength:
            continue
        along = np.linspace(0.0, 1.0, 4)
        path = _spline(np.stack([x + along * length, y + drift], axis=1))
        mask: Pixels = np.zeros((height, width), np.uint8)
        cv2.polylines(mask, [np.rint(path * 16).astype(np.int32)], False, (205,), round(broad_px), cv2.LINE_AA, 4)
        for end in (path[0], path[-1]):
            cv2.circle(mask, (round(end[0]), round(end[1])), round(broad_px * 0.45), (240,), -1, cv2.LINE_AA)
        ink(result, pixels(cv2.convertScaleAbs(mask, alpha=min(1.0, 2.0 * strength))), rgb)
    return result


STEPS: Mapping[str, Step] = MappingProxyType({"handwriting": handwriting, "stamps": stamps, "highlighter": highlighter})
