"""Letters on a page: four kinds of type, as devices print it."""

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .style import Font
from .traces import FULL_INK
from .truth import Points, outline_of

_FILES: dict[str, str] = {"sans": "DejaVuSans.ttf", "serif": "STIXGeneral.ttf", "mono": "DejaVuSansMono.ttf"}
"""All of them come with matplotlib."""
_CAPITAL_SHARE: dict[str, float] = {"sans": 0.73, "serif": 0.66, "mono": 0.73}
"""Height of a capital over the size of the type."""
_LEAST_CAPITAL_PX = 1.0
_BOLD_CAPITAL_PX = 21.0
"""Of OpenCV's own type at scale 1."""


class Lettering:
    """Writes onto an ink layer, uint8 (H, W) of 0-15, in one type at one size."""

    def __init__(self, ink: NDArray[np.uint8], font: Font, capital_px: float):
        self._ink = ink
        self._font = font
        self._capital_px = capital_px

    def write(self, text: str, x_px: float, y_px: float, room_px: float = math.inf) -> Points:
        """Write a line whose baseline begins at (x_px, y_px), smaller where it has no room; returns its outline."""
        if not text:
            return outline_of(x_px, y_px, x_px, y_px)
        capital_px = self._capital_px
        layer, left, top = self._lettered(text, capital_px)
        while layer.shape[1] > room_px and capital_px > _LEAST_CAPITAL_PX:
            capital_px *= min(0.95, room_px / layer.shape[1])
            layer, left, top = self._lettered(text, capital_px)
        x, y = round(x_px) + left, round(y_px) + top
        height, width = layer.shape
        rows, columns = slice(max(0, y), max(0, y + height)), slice(max(0, x), max(0, x + width))
        seen = self._ink[rows, columns]
        part = layer[max(0, -y) : max(0, -y) + seen.shape[0], max(0, -x) : max(0, -x) + seen.shape[1]]
        np.maximum(seen, (part.astype(np.uint16) * FULL_INK + 127) // 255, out=seen, casting="unsafe")
        left_px, top_px, across_px, down_px = cv2.boundingRect((layer > 64).astype(np.uint8))
        return outline_of(x + left_px, y + top_px, x + left_px + across_px, y + top_px + down_px)

    def _lettered(self, text: str, capital_px: float) -> tuple[NDArray[np.uint8], int, int]:
        """The text's own ink, and where its corner lies from the beginning of its baseline."""
        return self._drawn(text, capital_px) if self._font == "bold" else self._typeset(text, capital_px)

    def _drawn(self, text: str, capital_px: float) -> tuple[NDArray[np.uint8], int, int]:
        scale, thickness = capital_px / _BOLD_CAPITAL_PX, max(1, round(capital_px / 9))
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        edge = thickness + 2
        layer = np.zeros((height + below + 2 * edge, width + 2 * edge), np.uint8)
        where = (edge, height + edge)
        cv2.putText(layer, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
        return layer, -edge, -height - edge

    def _typeset(self, text: str, capital_px: float) -> tuple[NDArray[np.uint8], int, int]:
        font = _type(self._font, max(1, int(capital_px / _CAPITAL_SHARE[self._font])))
        left, top, right, bottom = (round(side) for side in font.getbbox(text, anchor="ls"))
        image = Image.new("L", (max(1, right - left + 2), max(1, bottom - top + 2)))
        ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=font, anchor="ls")
        return np.array(image), left - 1, top - 1


@lru_cache(maxsize=64)
def _type(font: Font, size_px: int) -> ImageFont.FreeTypeFont:
    # Found without importing matplotlib, which takes a quarter of a second.
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency"
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / _FILES[font]
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)
