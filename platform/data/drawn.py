"""`page: drawn`: in training, a fresh print of the signal in every epoch in place of the stored page.

Shapes: L = 12 leads, T samples, H x W pixels of the model's page.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..config import DrawnSection
from .artefacts import PRESETS, Recipe, wear_page
from .page import PageStyle, PrintedPage, print_page
from .printing.measurements import printed_measurements
from .printing.paper import KEPT_PAPERS
from .printing.styles import ONE_PAGE_LAYOUTS, page_style, with_text
from .read_page import PageSpec, Pixels, prepare_image

STYLES_PER_EPOCH = KEPT_PAPERS
"""Other ones in every epoch. At 512 x 384 pixels a page without its signal takes 3 ms, its signal 0.4 ms, what befalls
it up to 8 ms; decoding a stored page takes 0.6 ms (one thread of an EPYC)."""


@dataclass(frozen=True)
class DrawnPages:
    """Pages as pure functions of the seed, the epoch and the record, whoever draws them."""

    sampling_rate_hz: float
    seed: int
    section: DrawnSection = field(default_factory=DrawnSection)

    def draw(
        self,
        signal_mv: NDArray[np.float32],
        lead_present: NDArray[np.bool_],
        record_id: str,
        epoch: int,
        spec: PageSpec,
    ) -> Pixels:
        """A page of the recorded samples (L, n) at the model's size: uint8 RGB (3, H, W)."""
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(record_id.encode())])
        style = self._style(epoch, int(rng.integers(STYLES_PER_EPOCH)), spec)
        if self.section.measurements:
            style = with_text(style, rng, printed_measurements(rng, signal_mv, self.sampling_rate_hz))
        page = print_page(signal_mv, self.sampling_rate_hz, style, lead_present)
        return worn_page(page, self._recipe(rng), rng, spec)

    def _style(self, epoch: int, number: int, spec: PageSpec) -> PageStyle:
        # Beyond 32 bits, where no record's checksum is.
        rng = np.random.default_rng([self.seed, epoch, (1 << 32) + number])
        return page_style(rng, spec.width_px, spec.height_px, self.section.layouts or ONE_PAGE_LAYOUTS)

    def _recipe(self, rng: np.random.Generator) -> Recipe:
        names = list(self.section.conditions)
        weights = np.array([self.section.conditions[name] for name in names])
        recipe = PRESETS[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        return recipe if self.section.artefact_strength == 1 else recipe.scaled(self.section.artefact_strength)


def worn_page(page: PrintedPage, recipe: Recipe, rng: np.random.Generator, spec: PageSpec) -> Pixels:
    """A print as its recipe leaves it, at the model's size: uint8 RGB (3, H, W)."""
    if not recipe.steps:
        return page.planes()
    worn, _ = wear_page(page.rgb(), recipe, rng)
    return prepare_image(worn, spec)
