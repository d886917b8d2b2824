"""Pages on which backends are compared: prints of a few practice records, the same every time."""

import numpy as np
from numpy.typing import NDArray

from ..data.heart import Recorder
from ..data.page import PageStyle, draw_page
from ..data.patients import plan_record
from ..data.practice import draw_signal
from ..data.read_page import PageSpec, prepare_image

_NUM_PAGES = 32
_SAMPLING_RATE_HZ = 250
_LAYOUTS = ("3x4+1", "3x4", "6x2", "12x1")


def probe_pages(spec: PageSpec) -> NDArray[np.uint8]:
    """uint8 RGB (B, 3, H, W): pages of as many records, in several layouts."""
    recorder = Recorder.of(_SAMPLING_RATE_HZ, 10.0)
    pages = []
    for index in range(_NUM_PAGES):
        signal_mv = draw_signal(plan_record(0, index), recorder).T / 1000
        style = PageStyle(layout=_LAYOUTS[index % len(_LAYOUTS)], width_px=1024, height_px=768)
        pages.append(prepare_image(draw_page(signal_mv, _SAMPLING_RATE_HZ, style), spec))
    return np.stack(pages)
