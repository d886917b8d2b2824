"""`page: drawn`: in training, a fresh print of the signal in every epoch in place of the stored page.

Shapes: L = 12 leads, T samples, H x W pixels of the model's page.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .page import PageStyle, Rgb, draw_page
from .read_page import PageSpec, Pixels, prepare_image

STYLES_PER_EPOCH = 8
"""Other ones in every epoch. The page without its signal takes 11 ms and draw_page keeps eight of them; with the signal
a page then takes 1.2 ms, against 0.8 ms for decoding a stored one (512 x 384 pixels, one thread of a Xeon)."""

_PAPERS: tuple[Rgb, ...] = ((255, 250, 248), (255, 255, 255), (252, 246, 232), (247, 240, 240), (240, 244, 240))
_GRIDS: tuple[Rgb, ...] = ((226, 110, 115), (235, 150, 120), (205, 130, 160), (110, 165, 120), (120, 150, 205))
_TRACES: tuple[Rgb, ...] = ((22, 22, 30), (10, 10, 10), (30, 36, 90), (60, 50, 50))
_GAINS_MM_PER_MV = (10.0, 5.0, 20.0)
_GAIN_SHARES = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class DrawnPages:
    """Pages as pure functions of the seed, the epoch and the record, whoever draws them."""

    sampling_rate_hz: float
    seed: int

    def draw(
        self,
        signal_mv: NDArray[np.float32],
        lead_present: NDArray[np.bool_],
        record_id: str,
        epoch: int,
        spec: PageSpec,
    ) -> Pixels:
        """A page of the recorded samples (L, n) at the model's size: uint8 RGB (3, H, W)."""
        number = np.random.default_rng([self.seed, epoch, zlib.crc32(record_id.encode())]).integers(STYLES_PER_EPOCH)
        # Beyond 32 bits, where no record's checksum is.
        rng = np.random.default_rng([self.seed, epoch, (1 << 32) + int(number)])
        style = page_style(rng, spec.width_px, spec.height_px)
        return prepare_image(draw_page(signal_mv, self.sampling_rate_hz, style, lead_present), spec)


def page_style(rng: np.random.Generator, width_px: int, height_px: int) -> PageStyle:
    """Some way in which a page may be printed: paper, inks, trace width, gain and margins."""
    paper, grid, trace = (np.array(colours[rng.integers(len(colours))]) for colours in (_PAPERS, _GRIDS, _TRACES))
    bold = grid + rng.integers(-12, 13, 3)
    fineness = rng.uniform(0.3, 0.7)
    return PageStyle(
        width_px=width_px,
        height_px=height_px,
        gain_mm_per_mv=float(rng.choice(_GAINS_MM_PER_MV, p=_GAIN_SHARES)),
        paper_width_mm=float(rng.uniform(270, 290)),
        paper_height_mm=float(rng.uniform(195, 215)),
        trace_width_mm=float(rng.uniform(0.2, 0.5)),
        paper_rgb=_rgb(paper - rng.integers(0, 6, 3)),
        fine_rgb=_rgb(bold + (paper - bold) * fineness),
        bold_rgb=_rgb(bold),
        trace_rgb=_rgb(trace + rng.integers(-10, 11, 3)),
    )


def _rgb(colour: NDArray[np.number]) -> Rgb:
    red, green, blue = np.clip(np.rint(colour), 0, 255).astype(int).tolist()
    return red, green, blue
