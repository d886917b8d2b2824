"""What a picture's first bytes say, read and judged before any decoder sees it: kind, size, turn, pages.

Decoders trust what they are told and take memory for it, so everything that costs is counted here first. The numbers
are read with `struct`, because opening a picture in Pillow already unpacks texts, lists tiles or takes memory.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import PageError
from .tiff import DamagedError, TiffPage, exif_orientation, tiff_pages

Pixels = NDArray[np.uint8]
Kind = Literal["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PDF"]

MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
MIN_SIDE_PX = 64
MAX_ASPECT = 12.0
"""The widest prints met, one long row of four columns, are 10 : 1."""
MAX_PARTS = 10_000
"""Chunks or segments of a picture; a 32 MiB PNG written 8 KiB at a time has 4,000."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Each scan of a progressive JPEG goes over all pixels; ordinary ones have ten scans. About a second's work."""

OPENINGS: dict[Kind, re.Pattern[bytes]] = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "BMP": re.compile(rb"BM.{4}\0{4}", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "PDF": re.compile(rb"(\xef\xbb\xbf)?\s{0,16}%PDF-"),
}
PNG_CHANNELS = {2: 3, 4: 2, 6: 4}
PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


@dataclass(frozen=True, kw_only=True)
class Header:
    """What has to be known of a picture before it is decoded."""

    kind: Kind
    data: bytes
    """For the decoder: of a PNG only the chunks that make pixels, since texts and profiles may be zip bombs."""
    width_px: int
    height_px: int
    """As stored, before `orientation` is applied."""
    orientation: int = 1
    """As in EXIF, 1 to 8."""
    plain: bool = False
    """8 bit grey or RGB, opaque: OpenCV reads it."""
    alpha: bool = False
    coefficient_bytes_per_px: float = 0.0
    """Of a JPEG of several scans, whose coefficients all lie in memory at once."""
    packed_bytes: int = 0
    """Of a PNG's pixels."""

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """(width, height) after `orientation` is applied."""
        return (self.height_px, self.width_px) if self.orientation > 4 else (self.width_px, self.height_px)


def kind_of(data: bytes, max_bytes: int = MAX_BYTES) -> Kind:
    """By content. Raises PageError: `empty`, `too_large`, `not_an_image`."""
    if not data:
        raise PageError("empty", "the page has no bytes")
    if len(data) > max_bytes:
        raise PageError("too_large", f"the page has {len(data):,} bytes; at most {max_bytes:,} are read")
    for kind, opening in OPENINGS.items():
        if opening.match(data):
            return kind
    raise PageError("not_an_image", "the bytes are not a PNG, JPEG, BMP, TIFF, WebP or GIF picture, nor a PDF")


def read_header(data: bytes, kind: Kind, page: int = 0) -> Header:
    """Of a picture, not a PDF.

    Raises PageError: `truncated`, `animated`, `no_such_page`, `too_many_pages`, `too_complex`.
    """
    if kind == "TIFF":
        return _tiff(data, page)
    if page:
        raise PageError("no_such_page", f"page {page + 1} is asked of a picture that has one")
    readers: dict[Kind, Callable[[bytes], Header]] = {
        "PNG": _png,
        "JPEG": _jpeg,
        "BMP": _bmp,
        "WEBP": _webp,
        "GIF": _gif,
    }
    try:
        return readers[kind](data)
    except (struct.error, DamagedError):
        raise PageError("truncated", f"the {kind} picture ends early or its header is damaged") from None


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Raises PageError: `too_many_pixels`, `too_small`, `bad_aspect`."""
    size = f"the page has {width_px} x {height_px} pixels"
    if width_px * height_px > max_pixels:
        raise PageError("too_many_pixels", f"{size}; at most {max_pixels:,} are read")
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise PageError("too_small", f"{size}; each side needs {MIN_SIDE_PX}")
    if max(width_px, height_px) > MAX_ASPECT * min(width_px, height_px):
        raise PageError("bad_aspect", f"{size}; a side may be at most {MAX_ASPECT:g} times the other")


def animated() -> PageError:
    return PageError("animated", "the picture moves; a page is a single picture")


def _png(data: bytes) -> Header:
    width_px, height_px, depth, colour = struct.unpack_from(">IIBB", data, 16)
    view, exif, at, name = memoryview(data), b"", 8, b""
    kept = [view[:8]]
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        start, at = at, at + 12 + length
        if at > len(data) or len(kept) > MAX_PARTS or (len(kept) == 1) != (name == b"IHDR"):
            raise DamagedError
        if name == b"acTL" and length == 8 and struct.unpack_from(">I", data, start + 8)[0] > 1:
            raise animated()
        if name == b"eXIf":
            exif = data[start + 8 : at - 4]
        # An empty part counts the chunks that are left out.
        kept.append(view[start:at] if name in PNG_PIXELS else view[:0])
    alpha = colour in (4, 6) or any(part[4:8] == b"tRNS" for part in kept)
    packed_bytes = sum(map(len, kept))
    # Zlib never makes much more of what it packs, so the rest would be unpacked for nothing.
    if packed_bytes > 2 * (width_px + 1) * height_px * PNG_CHANNELS.get(colour, 1) * max(1, depth // 8) + 4096:
        raise DamagedError
    return Header(
        kind="PNG",
        data=data if all(kept) else b"".join(kept),
        width_px=width_px,
        height_px=height_px,
        orientation=exif_orientation(exif),
        plain=depth <= 8 and not alpha,
        alpha=alpha,
        packed_bytes=packed_bytes,
    )


def _jpeg(data: bytes) -> Header:
    """Steps over the segments before the scan. OpenCV fills a JPEG that is cut short with grey, silently, so its end
    marker is looked for behind them: the thumbnail inside EXIF has one too."""
    at, facts = 2, dict[str, Any]()
    for _ in range(MAX_PARTS):
        opening, marker, length = struct.unpack_from(">BBH", data, at)
        if opening != 0xFF:
            break
        body = at + 4
        if marker == 0xDA:
            if "width_px" not in facts or data.rfind(b"\xff\xd9") < at:
                break
            return _jpeg_scanned(data, at, **facts)
        if marker == 0xE1 and data[body : body + 6] == b"Exif\0\0" and "orientation" not in facts:
            facts["orientation"] = exif_orientation(data[body + 6 : at + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            facts |= _jpeg_frame(data, body, marker)
        at += 1 if marker == 0xFF else 2 if marker in (0x01, *range(0xD0, 0xD8)) else 2 + length
    raise DamagedError


def _jpeg_scanned(data: bytes, at: int, num_components: int, progressive: bool, **facts: Any) -> Header:
    """The header, now that the first scan says whether there are more."""
    if not progressive and data[at + 4] >= num_components:
        return Header(kind="JPEG", data=data, **facts | {"coefficient_bytes_per_px": 0.0})
    num_scans = data.count(b"\xff\xda", at)
    # A scan costs something in a small picture too.
    if num_scans * max(facts["width_px"] * facts["height_px"], 1_000_000) > MAX_SCANNED_PIXELS:
        raise PageError("too_complex", f"the JPEG goes over its pixels {num_scans:,} times; save it as an ordinary one")
    return Header(kind="JPEG", data=data, **facts)


def _jpeg_frame(data: bytes, at: int, marker: int) -> dict[str, Any]:
    depth, height_px, width_px, components = struct.unpack_from(">BHHB", data, at)
    sampling = [divmod(byte, 16) for byte in data[at + 7 : at + 6 + 3 * components : 3]]
    largest = max((h for h, _ in sampling), default=0) * max((v for _, v in sampling), default=0)
    if not largest:
        raise DamagedError
    return {
        "width_px": width_px,
        "height_px": height_px,
        "plain": depth == 8 and components in (1, 3),
        "coefficient_bytes_per_px": 2 * sum(h * v for h, v in sampling) / largest,
        "num_components": components,
        "progressive": marker not in (0xC0, 0xC1),
    }


def _bmp(data: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width_px, height_px = struct.unpack_from("<HH" if header_bytes == 12 else "<Ii", data, 18)
    return Header(kind="BMP", data=data, width_px=width_px, height_px=abs(height_px))


def _gif(data: bytes) -> Header:
    width_px, height_px = struct.unpack_from("<HH", data, 6)
    return Header(kind="GIF", data=data, width_px=width_px, height_px=height_px, alpha=True)


def _webp(data: bytes) -> Header:
    size, name, length = struct.unpack_from("<4xI4x4sI", data)
    if size + 8 > len(data) or length + 20 > len(data):
        raise DamagedError
    alpha, orientation = False, 1
    if name == b"VP8X":
        (flags,) = struct.unpack_from("<B", data, 20)
        if flags & 2:
            raise animated()
        width_px, height_px = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        alpha, orientation = bool(flags & 16), exif_orientation(_webp_exif(data))
    elif name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width_px, height_px, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    else:
        width_px, height_px = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return Header(
        kind="WEBP",
        data=data,
        width_px=width_px,
        height_px=height_px,
        orientation=orientation,
        plain=not alpha,
        alpha=alpha,
    )


def _webp_exif(data: bytes) -> bytes:
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        at += 8 + length + length % 2
    return b""


def _tiff(data: bytes, page: int) -> Header:
    pages: list[TiffPage] = tiff_pages(data)
    if page >= len(pages):
        raise PageError("no_such_page", f"page {page + 1} is asked of a TIFF that has {len(pages)}")
    chosen = pages[page]
    return Header(
        kind="TIFF",
        data=data,
        width_px=chosen.width_px,
        height_px=chosen.height_px,
        orientation=chosen.orientation,
        alpha=chosen.num_channels in (2, 4),
    )
