"""Everything that decides what `vizecg draw` draws, checked."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import PageError, UserError
from .artefacts import PRESETS
from .page import GRID_COLOURS, LAYOUTS, PageStyle
from .printing.style import usual_duration_s
from .printing.styles import page_style
from .reading.formats import MAX_PIXELS, check_size

Format = Literal["png", "jpeg", "pdf"]

VARIED = "varied"
DPI = 200.0


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """Everything that decides what is drawn, apart from the archive. Raises UserError where it makes no sense."""

    records: int | Literal["all"] = 20
    seed: int = 0
    layout: str = "3x4+1"
    """`varied`: another way of printing for every record, from layout to lettering."""
    condition: str = "clean"
    """One of artefacts.PRESETS; `varied`: another one for every record."""
    dpi: float | None = None
    """Exact millimetres; 200 where neither this nor a size is given."""
    width_px: int | None = None
    height_px: int | None = None
    paper_speed_mm_per_s: float | None = None
    """25 where None, as `gain_mm_per_mv` is 10 and `grid` pink."""
    gain_mm_per_mv: float | None = None
    grid: str | None = None
    format: Format | None = None
    """PNG for clean pages and black-and-white scans where None, JPEG for all others."""
    truth: bool = False
    allow_missing_leads: bool = False

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UserError(f"{name} {value!r} is not one of {', '.join(known)}")
        if self.records != "all" and (not isinstance(self.records, int) or self.records < 1):
            raise UserError(f"records must be 1 or more, or all, not {self.records}")
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more, not {self.seed}")
        for name in _SIZES:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} must be positive, not {value}")
        self._check_together()
        try:
            style = self.style(np.random.default_rng(0))
            check_size(style.width_px, style.height_px, MAX_PIXELS)
        except (ValueError, PageError) as error:
            raise UserError(str(error)) from None

    def _check_together(self) -> None:
        if (self.width_px is None) != (self.height_px is None):
            raise UserError("a size in pixels needs both, width and height; give the other one too")
        if self.width_px is not None and self.dpi is not None:
            raise UserError("a page has either a size in pixels or a resolution; leave out dpi, or width and height")
        by_lot = (self.paper_speed_mm_per_s, self.gain_mm_per_mv, self.grid)
        if self.layout == VARIED and by_lot != (None, None, None):
            raise UserError("layout varied draws speed, gain and grid by lot; leave them out, or name a layout")

    def style(self, rng: np.random.Generator) -> PageStyle:
        """How one record is printed, at the layout's first page."""
        if self.layout == VARIED:
            style = page_style(rng, self.width_px or 1, self.height_px or 1)
            return style if self.width_px else style.whole_at(self.dpi or DPI)
        speed_mm_per_s = self.paper_speed_mm_per_s or 25.0
        fields: dict[str, Any] = GRID_COLOURS[self.grid or "pink"] | {
            "layout": self.layout,
            "duration_s": usual_duration_s(speed_mm_per_s),
            "paper_speed_mm_per_s": speed_mm_per_s,
            "gain_mm_per_mv": self.gain_mm_per_mv or 10.0,
        }
        if self.width_px is not None and self.height_px is not None:
            return PageStyle(width_px=self.width_px, height_px=self.height_px, **fields)
        return PageStyle.at_dpi(self.dpi or DPI, **fields)

    def condition_of(self, rng: np.random.Generator) -> str:
        """What befalls one record's pages."""
        return str(rng.choice(list(PRESETS))) if self.condition == VARIED else self.condition


_SIZES = ("dpi", "width_px", "height_px", "paper_speed_mm_per_s", "gain_mm_per_mv")
_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": (*LAYOUTS, VARIED),
    "condition": (*PRESETS, VARIED),
    "grid": tuple(GRID_COLOURS),
    "format": get_args(Format),
}
