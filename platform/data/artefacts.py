"""Printed page -> scan or photo of it: what befalls a page, as a recipe of steps, each with a strength.

Steps are taken in the order in which they happen to paper, whatever the recipe's order: on the flat sheet, bending it,
laying it before the lens, light, sensor, file. All that moves pixels is one map, along which the page's truth moves.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .capture import folds, framing, paper, phone, scanner
from .capture.geometry import Warp
from .printing.truth import PageTruth

Image = NDArray[np.uint8]
Photometric = Callable[[Image, np.random.Generator, float], Image]
Drawn = dict[str, tuple[np.random.Generator, float]]
"""The steps that happen to one page: name -> the step's own random numbers, strength above 0."""

PAPER = (
    "yellowing", "bleed-through", "highlighter", "stamps", "handwriting", "hole-punches", "stains", "tears",
)  # fmt: skip
LIGHT = ("moire", "uneven-light", "shadow", "glare", "colour-temperature")
SENSOR = (
    "defocus", "motion-blur", "sensor-noise",
    "contrast", "dust", "scan-lines", "scan-noise", "photocopy", "halftone", "threshold",
)  # fmt: skip
CODING = ("jpeg",)
LENS = "lens"
GEOMETRY = (*folds.STEPS, *framing.TURNS, LENS, *framing.ZOOMS)
ORDER = (*PAPER, *GEOMETRY, *LIGHT, *SENSOR, *CODING)
"""All steps, as they happen."""

_PHOTOMETRIC: dict[str, Photometric] = {**paper.STEPS, **scanner.STEPS, **phone.STEPS}


@dataclass(frozen=True)
class Step:
    """One artefact: happens with `probability`, then with a strength between `low` and `high`, all within 0 to 1.

    Raises UserError for an unknown name and for numbers out of range.
    """

    name: str
    low: float
    high: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ORDER:
            raise UserError(f"artefact {self.name!r} is not one of {', '.join(ORDER)}")
        for field in ("low", "high", "probability"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"{field} of artefact {self.name} must be a number from 0 to 1, not {value!r}")
        if self.low > self.high:
            raise UserError(f"artefact {self.name} has low {self.low:g} above high {self.high:g}; swap them")

    @classmethod
    def from_dict(cls, name: str, values: Any) -> Self:
        """From `{"low": 0.2, "high": 0.6, "probability": 0.5}`; without probability it always happens."""
        expected = {"low", "high", "probability"}
        if not isinstance(values, Mapping) or not {"low", "high"} <= values.keys() <= expected:
            raise UserError(f"artefact {name} needs low, high and perhaps probability, not {values!r}")
        return cls(name, **values)


@dataclass(frozen=True)
class Recipe:
    """What may befall a page. Raises UserError if a step is named twice."""

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if twice := [name for name in ORDER if names.count(name) > 1]:
            raise UserError(
                f"a recipe names each artefact once, but {twice[0]} stands in it {names.count(twice[0])} times"
            )

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """From a mapping of names to what `Step.from_dict` takes, as YAML has it."""
        if not isinstance(values, Mapping):
            raise UserError(f"a recipe maps names of artefacts to low and high, but this is {values!r}")
        return cls(tuple(Step.from_dict(name, step) for name, step in values.items()))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Plain values, from which `from_dict` makes the same recipe."""
        return {step.name: {"low": step.low, "high": step.high, "probability": step.probability} for step in self.steps}

    def scaled(self, factor: float) -> Self:
        """All strengths times a factor, 1 at most: with the same generator the same artefacts, stronger or weaker.

        At 0 a page stays as it is. Raises UserError for a negative factor.
        """
        if not factor >= 0:
            raise UserError(f"strengths can be multiplied by 0 or more, not by {factor:g}")
        return replace(
            self,
            steps=tuple(
                replace(step, low=min(1.0, step.low * factor), high=min(1.0, step.high * factor)) for step in self.steps
            ),
        )

    def drawn(self, rng: np.random.Generator) -> Drawn:
        """What befalls one page. A step's random numbers depend on no other step and on no strength."""
        root = int(rng.integers(1 << 63))
        lots = np.random.default_rng(root).random((len(ORDER), 2))
        drawn: Drawn = {}
        for step in self.steps:
            happens, share = lots[ORDER.index(step.name)].tolist()
            strength = step.low + (step.high - step.low) * share
            if happens < step.probability and strength > 0:
                drawn[step.name] = np.random.default_rng([root, zlib.crc32(step.name.encode())]), strength
        return drawn


def wear_page(
    image: Image, recipe: Recipe, rng: np.random.Generator, truth: PageTruth | None = None
) -> tuple[Image, PageTruth | None]:
    """A scan or photo of a page, uint8 RGB (H, W, 3) of the same size, and the truth moved along; the page stays as is.

    Depends on the page, the recipe and the generator's state alone.
    """
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, f"page is {image.dtype} {image.shape}"
    drawn = recipe.drawn(rng)
    picture = _apply(PAPER, image, drawn)
    picture, truth = _capture(picture, drawn, truth)
    picture = _apply((*LIGHT, *SENSOR, *CODING), picture, drawn)
    return (picture.copy() if picture is image else picture), truth


def _apply(names: Iterable[str], picture: Image, drawn: Drawn) -> Image:
    for name in names:
        if name in drawn:
            own, strength = drawn[name]
            picture = _PHOTOMETRIC[name](picture, own, strength)
    return picture


def _capture(sheet: Image, drawn: Drawn, truth: PageTruth | None) -> tuple[Image, PageTruth | None]:
    """Bend the sheet and look at it through a lens."""
    height_px, width_px = sheet.shape[:2]
    bend = None
    if bending := [name for name in folds.STEPS if name in drawn]:
        lattice = folds.Lattice.of(width_px, height_px)
        relief = reduce(add, (folds.STEPS[name](*drawn[name], lattice) for name in bending))
        own = drawn[bending[0]][0]
        bend = relief.bend(own, width_px)
        sheet = relief.shade(sheet, own)
    barrel = framing.barrel_of(*drawn[LENS]) if LENS in drawn else 0.0
    warp = Warp(width_px, height_px, _view(drawn, (width_px, height_px)), barrel, bend)
    if warp.is_identity:
        return sheet, truth
    kind = next((name for name in framing.GROUNDS if name in drawn), None)
    own = drawn[kind][0] if kind else np.random.default_rng(0)
    ground = framing.GROUNDS[kind or "margins"](own)
    return warp.render(sheet, ground), truth.moved(warp.where, width_px, height_px) if truth else None


def _view(drawn: Drawn, size: framing.Size) -> NDArray[np.float64]:
    """From the flat sheet to the picture of it, without the lens."""
    turned = np.eye(3)
    for name, turn in framing.TURNS.items():
        if name in drawn:
            turned = turn(*drawn[name], size) @ turned
    view = framing.fitted(turned, size) if any(name in drawn for name in framing.TURNS) else turned
    for name, zoom in framing.ZOOMS.items():
        if name in drawn:
            view = zoom(*drawn[name], size) @ view
    return view


def _recipe(**steps: tuple[float, ...]) -> Recipe:
    return Recipe(tuple(Step(name.replace("_", "-"), *numbers) for name, numbers in steps.items()))


_SCANNED = {"rotation": (0.05, 0.5, 0.9), "skew": (0.05, 0.5, 0.4), "margins": (0.05, 0.5, 0.4)}
_SNAPPED = {
    "perspective": (0.2, 0.8),
    "lens": (0.2, 0.8, 0.8),
    "table": (0.02, 0.4),
    "crop": (0.3, 1.0, 0.7),
    "uneven-light": (0.25, 0.7, 0.75),
    "shadow": (0.2, 0.6, 0.35),
    "colour-temperature": (0.1, 0.7, 0.7),
    "defocus": (0.05, 0.35, 0.5),
    "motion-blur": (0.05, 0.25, 0.15),
    "sensor-noise": (0.1, 0.5, 0.6),
    "jpeg": (0.2, 0.7),
}

PRESETS: dict[str, Recipe] = {
    "clean": Recipe(),
    "scan-colour": _recipe(
        **_SCANNED,
        yellowing=(0.05, 0.4, 0.4),
        bleed_through=(0.1, 0.4, 0.15),
        hole_punches=(0.5, 1.0, 0.15),
        contrast=(0.1, 0.6),
        dust=(0.1, 0.5, 0.6),
        scan_lines=(0.1, 0.4, 0.15),
        scan_noise=(0.1, 0.5),
        jpeg=(0.1, 0.5),
    ),
    "scan-bw": _recipe(
        **_SCANNED,
        hole_punches=(0.5, 1.0, 0.15),
        dust=(0.1, 0.6, 0.4),
        scan_lines=(0.1, 0.4, 0.25),
        scan_noise=(0.1, 0.4, 0.7),
        photocopy=(1.0, 1.0),
        threshold=(0.5, 1.0, 0.5),
        jpeg=(0.1, 0.4),
    ),
    "photo-clean": _recipe(**_SNAPPED, wrinkles=(0.1, 0.35, 0.5)),
    "photo-stained": _recipe(
        **_SNAPPED,
        yellowing=(0.2, 0.8, 0.5),
        stains=(0.3, 0.9),
        handwriting=(0.3, 0.8, 0.25),
        stamps=(0.4, 0.9, 0.2),
        highlighter=(0.3, 0.8, 0.2),
        folds=(0.2, 0.7, 0.3),
        wrinkles=(0.2, 0.6, 0.2),
    ),
    "photo-crumpled": _recipe(
        **_SNAPPED,
        yellowing=(0.1, 0.5, 0.2),
        tears=(0.2, 0.6, 0.3),
        folds=(0.3, 0.9, 0.6),
        creases=(0.4, 1.0, 0.4),
        crumple=(0.4, 1.0),
    ),
    "screen-photo": _recipe(
        perspective=(0.1, 0.5),
        lens=(0.1, 0.5, 0.5),
        monitor=(0.02, 0.5),
        crop=(0.2, 0.8, 0.4),
        moire=(0.2, 0.7),
        uneven_light=(0.1, 0.4, 0.4),
        glare=(0.2, 0.7, 0.4),
        colour_temperature=(0.2, 0.7, 0.7),
        defocus=(0.05, 0.3, 0.4),
        sensor_noise=(0.1, 0.4, 0.6),
        jpeg=(0.2, 0.6),
    ),
}
"""The conditions of the George B. Moody PhysioNet Challenge 2024: colour and black-and-white scans, photos of clean,
stained and deteriorated prints and of screens."""
