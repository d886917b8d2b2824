"""How a page is printed, and where everything on it stands.

Lengths on paper are millimetres from the sheet's top left corner; pixel i covers [i, i + 1), so its centre is i + 0.5.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from .layout import LAYOUTS, Strip, Timing, strips

Rgb = tuple[int, int, int]

MM_PER_INCH = 25.4
SQUARE_MM = 5.0
PULSE_SIDE_MM = 15.0
"""Three large squares for the calibration pulse; the first sample stands on a bold line."""
MOST_PULSE_MM = 10.0
"""Room for 0.2 s at 50 mm/s, or for two steps of 0.2 s at 25."""
BARE_SIDE_MM = 5.0
LONGEST_ROW_MM = 250.0
LINE_PITCH = 1.7
"""Distance of two lines of text over the height of their capitals."""

Grid = Literal["lines", "dots", "none"]
Pulse = Literal["left", "right", "none"]
Separator = Literal["tick", "line", "dashed", "none"]
Font = Literal["bold", "sans", "serif", "mono"]

GRID_COLOURS: dict[str, dict[str, Any]] = {
    "pink": {"paper_rgb": (255, 250, 248), "fine_rgb": (244, 178, 178), "bold_rgb": (230, 128, 130)},
    "orange": {"paper_rgb": (255, 251, 243), "fine_rgb": (248, 203, 165), "bold_rgb": (236, 156, 104)},
    "green": {"paper_rgb": (249, 254, 248), "fine_rgb": (172, 214, 178), "bold_rgb": (98, 168, 112)},
    "blue": {"paper_rgb": (250, 252, 255), "fine_rgb": (176, 200, 232), "bold_rgb": (112, 150, 208)},
    "grey": {"paper_rgb": (255, 255, 255), "fine_rgb": (214, 214, 214), "bold_rgb": (164, 164, 164)},
    "dots": {"paper_rgb": (255, 255, 255), "fine_rgb": (120, 120, 120), "bold_rgb": (120, 120, 120), "grid": "dots"},
    "black": {
        "paper_rgb": (255, 255, 255), "fine_rgb": (170, 170, 170), "bold_rgb": (90, 90, 90), "trace_rgb": (0, 0, 0),
    },
    "none": {"paper_rgb": (255, 255, 255), "grid": "none"},
}  # fmt: skip
"""Fields of PageStyle by the colour of the grid: `black` is a black-and-white print, `dots` marks millimetres only."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": tuple(LAYOUTS),
    "timing": get_args(Timing),
    "grid": get_args(Grid),
    "pulse": get_args(Pulse),
    "separator": get_args(Separator),
    "font": get_args(Font),
}
_LENGTHS = (
    "width_px", "height_px", "dpi", "paper_speed_mm_per_s", "gain_mm_per_mv", "chest_gain_mm_per_mv", "channel_mm",
    "paper_width_mm", "paper_height_mm", "trace_width_mm", "duration_s", "text_height_mm",
)  # fmt: skip


def usual_duration_s(paper_speed_mm_per_s: float) -> float:
    """What recorders print of ten seconds: at 50 mm/s the first half, because a row is no longer than a sheet."""
    return min(10.0, LONGEST_ROW_MM / paper_speed_mm_per_s)


@dataclass(frozen=True, kw_only=True)
class PageStyle:
    """How a page is printed. The paper keeps its aspect: in another shape it is centred and the grid fills the rest.

    Raises ValueError for an unknown layout, sizes that are not positive, paper too small for what it is to show, and
    a speed or gain other than 25 mm/s and 10 mm/mV that neither text nor pulse tells.
    """

    layout: str = "3x4+1"
    page: int = 0
    """Which one of a layout with several pages."""
    timing: Timing = "sequential"
    duration_s: float = 10.0
    """Time from a row's first to its last sample."""
    width_px: int = 512
    height_px: int = 384
    dpi: float | None = None
    """Dots per inch, where millimetres are to be exact; the scale at which the paper fits the picture where None."""
    paper_speed_mm_per_s: float = 25.0
    gain_mm_per_mv: float = 10.0
    chest_gain_mm_per_mv: float | None = None
    """Of V1-V6, where it is another one."""
    channel_mm: float | None = None
    """How far a trace may leave its baseline; beyond it, as beyond the paper's printed area, it runs flat."""
    paper_width_mm: float = 272.0
    paper_height_mm: float = 204.0
    trace_width_mm: float = 0.3
    paper_rgb: Rgb = (255, 250, 248)
    fine_rgb: Rgb = (244, 178, 178)
    bold_rgb: Rgb = (230, 128, 130)
    trace_rgb: Rgb = (22, 22, 30)
    grid: Grid = "lines"
    grid_shift_mm: tuple[float, float] = (0.0, 0.0)
    """Recorders that print on ruled paper do not hit its lines."""
    grid_behind_text: bool = True
    """Whether the grid covers the sheet, or the rows of leads alone."""
    pulse: Pulse = "left"
    separator: Separator = "tick"
    lead_names: bool = True
    name_rise_mm: float = 9.0
    """Of the names above their baseline; below it where negative."""
    font: Font = "bold"
    text_height_mm: float = 3.2
    """Of the capitals of lead names; other text is smaller."""
    header: tuple[tuple[str, ...], ...] = ()
    """Columns of lines."""
    footer: str | None = None
    """Speed and gain where None; no text where empty."""

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"page {name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        for name in _LENGTHS:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"page {name} must be positive, not {value}")
        if not 0 <= self.page < len(LAYOUTS[self.layout]):
            raise ValueError(f"page {self.page} of layout {self.layout}: it has {len(LAYOUTS[self.layout])}")
        self._check_room()
        if not self.tells_scale:
            scale = f"{self.paper_speed_mm_per_s:g} mm/s and {self.gain_mm_per_mv:g} mm/mV"
            raise ValueError(
                f"a page at {scale} must say so: give it a pulse, a footer of None, or the numbers in a text"
            )

    def _check_room(self) -> None:
        needed_mm = self.rows_mm[0] + SQUARE_MM * self.rows + SQUARE_MM
        if self.paper_height_mm < needed_mm:
            raise ValueError(
                f"page layout {self.layout} with its header needs paper_height_mm of at least {needed_mm:g}, "
                f"not {self.paper_height_mm:g}"
            )
        needed_mm = self.left_mm + self.duration_s * self.paper_speed_mm_per_s + self.right_mm
        if self.paper_width_mm < needed_mm - 1e-9:
            raise ValueError(
                f"page layout {self.layout}, {self.duration_s:g} s at {self.paper_speed_mm_per_s:g} mm/s, needs "
                f"paper_width_mm of at least {needed_mm:g}, not {self.paper_width_mm:g}, or a shorter duration_s"
            )

    @classmethod
    def at_dpi(cls, dpi: float, **fields: Any) -> "PageStyle":
        """A whole sheet at exactly `dpi` dots per inch: 279.4 x 215.9 mm at 200 dpi are 2200 x 1700 px."""
        fields.setdefault("paper_width_mm", 279.4)
        fields.setdefault("paper_height_mm", 215.9)
        return cls(**fields).whole_at(dpi)

    def whole_at(self, dpi: float) -> "PageStyle":
        """The same sheet, all of it, at exactly `dpi` dots per inch."""
        sides_px = [max(1, round(side * dpi / MM_PER_INCH)) for side in (self.paper_width_mm, self.paper_height_mm)]
        return replace(self, dpi=dpi, width_px=sides_px[0], height_px=sides_px[1])

    @property
    def is_standard_scale(self) -> bool:
        """25 mm/s and 10 mm/mV in all leads, which readers assume where nothing is written."""
        gains = {self.gain_mm_per_mv, self.chest_gain_mm_per_mv or self.gain_mm_per_mv}
        return self.paper_speed_mm_per_s == 25.0 and gains == {10.0}

    @property
    def tells_scale(self) -> bool:
        """Whether a reader can know speed and gains: usual ones, a pulse of 0.2 s and 1 mV, or text."""
        gains = {self.gain_mm_per_mv, self.chest_gain_mm_per_mv or self.gain_mm_per_mv}
        is_pulse_whole = len(gains) * 0.2 * self.paper_speed_mm_per_s <= MOST_PULSE_MM
        if self.is_standard_scale or self.footer is None or (self.pulse != "none" and is_pulse_whole):
            return True
        text = " ".join([self.footer, *(line for column in self.header for line in column)])
        written = set(re.findall(r"\d+(?:\.\d+)?", text))
        return {f"{number:g}" for number in gains | {self.paper_speed_mm_per_s}} <= {f"{float(n):g}" for n in written}

    @property
    def strips(self) -> tuple[Strip, ...]:
        """What the page shows, row by row."""
        return strips(self.layout, self.page, self.duration_s, self.timing)

    @property
    def rows(self) -> int:
        """Rows of leads."""
        return len(LAYOUTS[self.layout][self.page])

    @property
    def left_mm(self) -> float:
        """Left of the first sample."""
        return PULSE_SIDE_MM if self.pulse == "left" else BARE_SIDE_MM

    @property
    def right_mm(self) -> float:
        """Least width right of the last sample."""
        return PULSE_SIDE_MM if self.pulse == "right" else BARE_SIDE_MM

    @property
    def px_per_mm(self) -> float:
        """Scale of the print, the same in both directions."""
        if self.dpi is not None:
            return self.dpi / MM_PER_INCH
        return min(self.width_px / self.paper_width_mm, self.height_px / self.paper_height_mm)

    def x_px(self, x_mm: float) -> float:
        """Millimetres from the paper's left edge -> pixels from the picture's."""
        return (self.width_px - self.paper_width_mm * self.px_per_mm) / 2 + x_mm * self.px_per_mm

    def y_px(self, y_mm: float) -> float:
        """Millimetres from the paper's top edge -> pixels from the picture's."""
        return (self.height_px - self.paper_height_mm * self.px_per_mm) / 2 + y_mm * self.px_per_mm

    def time_mm(self, time_s: float) -> float:
        """Where a time after a row's begin stands on it."""
        return self.left_mm + time_s * self.paper_speed_mm_per_s

    @property
    def line_mm(self) -> float:
        """Distance of two lines of the header."""
        return 0.8 * self.text_height_mm * LINE_PITCH

    @property
    def rows_mm(self) -> tuple[float, float]:
        """Top and bottom of what traces may use: whole large squares between header and footer."""
        lines = max((len(column) for column in self.header), default=0)
        header_mm = math.ceil((4.0 + lines * self.line_mm) / SQUARE_MM) * SQUARE_MM if lines else 0.0
        return header_mm + 2.0, self.paper_height_mm - 2.0

    def baseline_mm(self, row: int) -> float:
        """Height of a row's 0 mV. Where there is room, rows are whole large squares apart: all lie on bold lines."""
        top_mm = self.rows_mm[0] - 2.0
        room_mm = self.paper_height_mm - top_mm
        pitch_mm = (room_mm - 12.0) / self.rows
        step_mm = SQUARE_MM if pitch_mm >= 4 * SQUARE_MM else 1.0
        pitch_mm = max(step_mm, pitch_mm // step_mm * step_mm)
        first_mm = top_mm + round((room_mm - pitch_mm * (self.rows - 1)) / 2 / SQUARE_MM) * SQUARE_MM
        return first_mm + row * pitch_mm

    def gain_of(self, lead: str) -> float:
        """Millimetres per millivolt of a lead."""
        chest = lead.startswith("V") and self.chest_gain_mm_per_mv is not None
        return self.chest_gain_mm_per_mv or self.gain_mm_per_mv if chest else self.gain_mm_per_mv
