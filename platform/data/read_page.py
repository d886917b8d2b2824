"""Image bytes -> the model's input; training, evaluation, scoring and serving have no other way in.

Shapes: h x w pixels of a picture as sent, H x W pixels of the model's page.
"""

import io
import re
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PageError

Pixels = NDArray[np.uint8]

MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
MIN_SIDE_PX = 64
MAX_ASPECT = 12.0
"""The widest prints met, one long row of four columns, are 10 : 1."""

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
OPENING_BYTES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF.{4}WEBP", re.DOTALL)


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


def prepare(data: bytes, spec: PageSpec, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a picture and fit it into the model's page: uint8 RGB (3, H, W).

    Reads PNG, JPEG, BMP, TIFF and WebP, known by their content, turned as EXIF says, 16 bit to 8, alpha over white.
    Raises PageError with reason `empty`, `too_large`, `not_an_image`, `too_many_pixels`, `too_small`, `bad_aspect` or
    `truncated`; bytes and pixels are counted before anything is decoded.
    """
    return prepare_image(_decode(data, max_bytes, max_pixels), spec)


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


def _decode(data: bytes, max_bytes: int, max_pixels: int) -> Pixels:
    """Picture as sent, upright: uint8 RGB (h, w, 3)."""
    if not data:
        raise PageError("empty", "the page has no bytes")
    if len(data) > max_bytes:
        raise PageError("too_large", f"the page has {len(data):,} bytes; at most {max_bytes:,} are read")
    if not OPENING_BYTES.match(data):
        raise PageError("not_an_image", "the bytes are not a PNG, JPEG, BMP, TIFF or WebP picture")
    has_alpha = _check_header(data, max_pixels)
    if data.startswith(b"\xff\xd8") and not _jpeg_has_end(data):
        raise PageError("truncated", "the JPEG picture ends early")
    flags = cv2.IMREAD_UNCHANGED if has_alpha else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise PageError("truncated", "the picture is cut short, damaged or of an unusual kind: it cannot be decoded")
    return _over_white(image) if has_alpha else image.astype(np.uint8, copy=False)


def _check_header(data: bytes, max_pixels: int) -> bool:
    """Refuse pictures of a bad size before they are decoded; returns whether the picture has an alpha channel."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width_px, height_px = header.size
            has_alpha = header.mode in ("RGBA", "LA", "PA") or "transparency" in header.info
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PageError("too_many_pixels", f"the page has too many pixels; at most {max_pixels:,} are read") from None
    except Exception:  # Pillow's parsers raise a dozen types on hostile headers.
        raise PageError("truncated", "the picture's header is cut short or damaged") from None
    size = f"the page has {width_px} x {height_px} pixels"
    if width_px * height_px > max_pixels:
        raise PageError("too_many_pixels", f"{size}; at most {max_pixels:,} are read")
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise PageError("too_small", f"{size}; each side needs {MIN_SIDE_PX}")
    if max(width_px, height_px) > MAX_ASPECT * min(width_px, height_px):
        raise PageError("bad_aspect", f"{size}; a side may be at most {MAX_ASPECT:g} times the other")
    return has_alpha


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end marker follows the picture's own scan: OpenCV fills a JPEG that is cut short with grey, silently.

    The segments before the scan are stepped over, because the thumbnail inside EXIF has an end marker too.
    """
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xda":
            return data.find(b"\xff\xd9", at) >= 0
        at += 1 if marker == b"\xff" else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _over_white(image: NDArray[Any]) -> Pixels:
    """Undo transparency: OpenCV's unchanged (h, w), (h, w, 3) or BGRA (h, w, 4) of 8 or 16 bit -> RGB (h, w, 3)."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    colour = image[..., 2::-1]
    if image.shape[2] == 3:
        return np.ascontiguousarray(colour)
    alpha = image[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
