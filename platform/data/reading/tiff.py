"""The directories of TIFF files, and of EXIF, which is a TIFF without pixels."""

import struct
from dataclasses import dataclass

from ...errors import PageError

MAX_PAGES = 200
"""Of a file: reports of a whole day have a hundred."""
MAX_VALUES = 70_000
"""Numbers in one tag: strips of one row each, at most. Pillow keeps some 200 bytes for each."""
MAX_TILE_PIXELS = 1 << 24

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
WIDTH, HEIGHT, CHANNELS, ORIENTATION, TILE_WIDTH, TILE_HEIGHT = 256, 257, 277, 274, 322, 323


class DamagedError(ValueError):
    """The bytes do not hold together."""


@dataclass(frozen=True, kw_only=True)
class TiffPage:
    width_px: int
    height_px: int
    """As stored, before `orientation` is applied."""
    orientation: int
    num_channels: int


def tiff_pages(data: bytes) -> list[TiffPage]:
    """Sizes of all pages. Raises PageError: `truncated`, `too_many_pages`."""
    pages: list[TiffPage] = []
    try:
        order, at = _opening(data)
        while at:
            if len(pages) == MAX_PAGES:
                raise PageError("too_many_pages", f"the TIFF has more than {MAX_PAGES} pages, or they go in a circle")
            tags, at = _directory(data, order, at)
            pages.append(_page(tags))
    except (struct.error, DamagedError):
        raise PageError("truncated", "the TIFF ends early or its directory is damaged") from None
    return pages


def exif_orientation(exif: bytes) -> int:
    """1 to 8; 1, upright, where EXIF does not say or is damaged: it is no reason to refuse the pixels beside it."""
    try:
        order, at = _opening(exif)
        return _orientation(_directory(exif, order, at, strict=False)[0])
    except (struct.error, DamagedError):
        return 1


def _opening(data: bytes) -> tuple[str, int]:
    order = "<" if data[:2] == b"II" else ">"
    return order, struct.unpack_from(order + "4xI", data)[0]


def _directory(data: bytes, order: str, at: int, *, strict: bool = True) -> tuple[dict[int, int], int]:
    """First number of every tag, and where the next directory lies; `strict` checks what a decoder would unpack."""
    (num_tags,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * num_tags, 12):
        tag, type_, count = struct.unpack_from(order + "HHI", data, entry)
        length = TYPE_BYTES.get(type_, 0) * count
        where = entry + 8 if length <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if strict and (where + length > len(data) or (TYPE_BYTES.get(type_, 1) > 1 and count > MAX_VALUES)):
            raise DamagedError
        if type_ in (3, 4) and count:
            (tags[tag],) = struct.unpack_from(order + " HI"[type_ - 2], data, where)
    (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * num_tags) if strict else (0,)
    return tags, following


def _page(tags: dict[int, int]) -> TiffPage:
    if WIDTH not in tags or HEIGHT not in tags:
        raise DamagedError
    if tags.get(TILE_WIDTH, 0) * tags.get(TILE_HEIGHT, 0) > MAX_TILE_PIXELS:
        raise DamagedError
    return TiffPage(
        width_px=tags[WIDTH],
        height_px=tags[HEIGHT],
        orientation=_orientation(tags),
        num_channels=tags.get(CHANNELS, 1),
    )


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1
