"""A sheet of A4 to draw on, measured in millimetres from its upper left corner; becomes a PDF.

Matplotlib writes PDFs whose text can be searched and whose pictures keep their own pixels. Text is taken literally:
names from outside are no formulas.
"""

import io
import threading
from bisect import bisect_right
from datetime import datetime
from functools import lru_cache
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

WIDTH_MM, HEIGHT_MM = 210.0, 297.0
_MM_PER_INCH, _MM_PER_POINT = 25.4, 25.4 / 72
_DRAWING = threading.Lock()
"""Matplotlib's caches of fonts and glyphs belong to the whole process."""

Side = Literal["left", "center", "right"]


class Sheet:
    """One page. Sizes of text are in points; `y` of text is its baseline."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(WIDTH_MM / _MM_PER_INCH, HEIGHT_MM / _MM_PER_INCH), frameon=False)
        self._axes = self._figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH_MM), ylim=(HEIGHT_MM, 0))
        self._axes.set_axis_off()

    def text(
        self, x_mm: float, y_mm: float, text: str, size: float, *,
        color: str = "black", bold: bool = False, side: Side = "left", mono: bool = False,
    ) -> None:  # fmt: skip
        """One line; `side` is the one of its ends that lies at `x_mm`."""
        self._axes.text(
            x_mm, y_mm, text, color=color, ha=side, va="baseline", parse_math=False,
            fontproperties=_font(size, bold, mono),
        )  # fmt: skip

    def box(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float, color: str, edge: str = "none") -> None:
        """A filled rectangle from its upper left corner."""
        self._axes.add_patch(
            Rectangle((x_mm, y_mm), width_mm, height_mm, facecolor=color, edgecolor=edge, linewidth=0.6)
        )

    def line(self, xs_mm: list[float], ys_mm: list[float], color: str, width: float = 0.6) -> None:
        """A line through these points; `width` in points."""
        self._axes.add_line(Line2D(xs_mm, ys_mm, color=color, linewidth=width, solid_capstyle="butt"))

    def picture(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float, image: NDArray[np.uint8]) -> None:
        """RGB (h, w, 3), stretched to the rectangle."""
        extent = (x_mm, x_mm + width_mm, y_mm + height_mm, y_mm)
        self._axes.imshow(image, extent=extent, aspect="auto", interpolation="none")
        self._axes.set(xlim=(0, WIDTH_MM), ylim=(HEIGHT_MM, 0))

    def pdf(self, title: str, subject: str, now: datetime) -> bytes:
        """The sheet as a file."""
        file = io.BytesIO()
        facts = {"Title": title, "Subject": subject, "Author": "VizECG", "Creator": "VizECG", "CreationDate": now}
        with _DRAWING:
            self._figure.savefig(file, format="pdf", metadata=facts)
        return file.getvalue()


def width_mm(text: str, size: float, bold: bool = False, mono: bool = False) -> float:
    """Of a line of text."""
    with _DRAWING:
        width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size, bold, mono), ismath=False)
    return width * _MM_PER_POINT


def cut(text: str, most_mm: float, size: float, bold: bool = False, mono: bool = False) -> str:
    """The text, with an ellipsis in place of what would be too long."""
    if width_mm(text, size, bold, mono) <= most_mm:
        return text
    beginnings = [f"{text[:length].rstrip()}…" for length in range(len(text))]
    fitting = bisect_right(beginnings, most_mm, key=lambda beginning: width_mm(beginning, size, bold, mono))
    return beginnings[max(fitting - 1, 0)]


def wrapped(text: str, most_mm: float, size: float) -> list[str]:
    """Lines of whole words; a word that is longer than a line is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_mm(longer, size) <= most_mm or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(line, most_mm, size) for line in lines]


@lru_cache(maxsize=64)
def _font(size: float, bold: bool, mono: bool) -> FontProperties:
    return FontProperties(
        family="DejaVu Sans Mono" if mono else "DejaVu Sans", weight="bold" if bold else "normal", size=size
    )
