"""Image bytes -> the model's input; training, evaluation, scoring and serving have no other way in.

Shapes: h x w pixels of a picture as sent, H x W pixels of the model's page.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np

from ..errors import PageError
from .reading.finder import PageFinding, find_page, set_upright
from .reading.formats import MAX_BYTES, MAX_PIXELS, MIN_SIDE_PX, Pixels, kind_of, read_header
from .reading.pictures import decode_picture
from .reading.quality import PageQuality, page_quality

LOOKED_AT_PX = 512
"""No picture is shrunk below it while it is decoded, so that a page is the same whether or not it is looked at."""
RECTIFIED_PX = 1600
"""Nor below this where its grid is looked for: at 5 pixels a millimetre it can be measured."""


@dataclass(frozen=True, kw_only=True)
class PageSpec:
    """What a model expects a page to be. Raises ValueError for sizes under `MIN_SIDE_PX`."""

    width_px: int = 512
    height_px: int = 384

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < MIN_SIDE_PX:
            raise ValueError(f"a page of {self.width_px} x {self.height_px} px is too small; use {MIN_SIDE_PX} or more")

    def to_dict(self) -> dict[str, int]:
        """As a bundle stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PageSpec":
        """Inverse of `to_dict`; raises ValueError for fields it does not know."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown page field {unknown[0]!r}; known are {', '.join(cls.__dataclass_fields__)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is done with a picture from outside before it is fitted into the model's page."""

    check: bool = True
    """Refuse what is no page of a 12-lead ECG."""
    upright: bool = True
    """Turn it by quarters until it stands upright."""
    rectify: bool = False
    """Undo rotation, skew and perspective, by the millimetre grid or the outline of the sheet."""
    quality: bool = False
    """Look for the page's layout and for what makes its reading less sure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadPage:
    """A picture from outside as the model sees it, and what was found out about it."""

    pixels: Pixels
    """uint8 RGB (3, H, W)."""
    finding: PageFinding | None
    """None where nobody looked."""
    note: str | None
    """What was rectified; None where nothing was to be."""
    quality: PageQuality | None = None
    """None where nobody looked."""
    sent_size_px: tuple[int, int] | None = None
    """(width, height) of the picture as it came; known where `quality` was asked for, None of a PDF."""


def read_page(
    data: bytes, spec: PageSpec, reading: Reading, *, page: int = 0,
    max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS,
) -> ReadPage:  # fmt: skip
    """Decode a picture that nobody has looked at, set it upright and fit it into the model's page.

    `page` counts from 0 in files that have several. Raises PageError as `prepare`, and `not_an_ecg`.
    """
    wanted_px = _wanted_px(spec, RECTIFIED_PX if reading.rectify else LOOKED_AT_PX)
    image = decode_picture(data, max_bytes=max_bytes, max_pixels=max_pixels, wanted_px=wanted_px, page=page)
    read = read_image(image, spec, reading)
    return replace(read, sent_size_px=_sent_size_px(data, page, max_bytes)) if reading.quality else read


def read_image(image: Pixels, spec: PageSpec, reading: Reading) -> ReadPage:
    """`read_page` for a picture that is decoded already: uint8 RGB (h, w, 3). Raises PageError `not_an_ecg`."""
    finding, note = None, None
    if reading.check or reading.upright:
        finding = find_page(image)
        if reading.check and not finding.accepted:
            raise PageError(finding.reason or "not_an_ecg", finding.message or "the picture shows no ECG")
        if reading.upright and finding.accepted:
            image = set_upright(image, finding)
    quality = page_quality(image, finding) if reading.quality else None
    if reading.rectify:
        from .reading.rectify import rectify  # SciPy's optimiser takes half a second to import.

        image, _, note = rectify(image)
    return ReadPage(pixels=prepare_image(image, spec), finding=finding, note=note, quality=quality)


def _sent_size_px(data: bytes, page: int, max_bytes: int) -> tuple[int, int] | None:
    """(width, height), upright as EXIF says."""
    kind = kind_of(data, max_bytes)
    return None if kind == "PDF" else read_header(data, kind, page).upright_size_px


def prepare(data: bytes, spec: PageSpec, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a page that is known to be one and upright, such as those of shards: uint8 RGB (3, H, W).

    Reads what reading/pictures.py reads, known by its content: PNG, JPEG, BMP, TIFF, WebP, GIF and PDF, of several
    pages the first. Raises PageError with the reasons named there; bytes and pixels are counted before anything is
    decoded.
    """
    wanted_px = _wanted_px(spec, LOOKED_AT_PX)
    return prepare_image(decode_picture(data, max_bytes=max_bytes, max_pixels=max_pixels, wanted_px=wanted_px), spec)


def _wanted_px(spec: PageSpec, least_px: int) -> tuple[int, int]:
    """A square, because nobody knows before decoding which way is up."""
    side_px = max(spec.width_px, spec.height_px, least_px)
    return side_px, side_px


def prepare_image(image: Pixels, spec: PageSpec) -> Pixels:
    """The same for a picture already in memory, such as a page just drawn: uint8 RGB (h, w, 3) -> (3, H, W)."""
    fitted = letterbox(image, spec)
    planes = np.empty((3, spec.height_px, spec.width_px), np.uint8)
    cv2.split(fitted, list(planes))
    return planes


def letterbox(image: Pixels, spec: PageSpec) -> Pixels:
    """Scale RGB (h, w, 3) to fit (H, W, 3), aspect kept, centred on the colour of its own edge."""
    height_px, width_px = image.shape[:2]
    if (width_px, height_px) == (spec.width_px, spec.height_px):
        return image
    scale = min(spec.width_px / width_px, spec.height_px / height_px)
    new_width_px, new_height_px = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if scale != 1:
        image = cv2.resize(image, (new_width_px, new_height_px), interpolation=how).astype(np.uint8, copy=False)
    left, top = (spec.width_px - new_width_px) // 2, (spec.height_px - new_height_px) // 2
    right, bottom = spec.width_px - new_width_px - left, spec.height_px - new_height_px - top
    if left == right == top == bottom == 0:
        return image
    edge_rgb = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0).tolist()
    padded = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=edge_rgb)
    return padded.astype(np.uint8, copy=False)
