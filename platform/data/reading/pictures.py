"""Bytes -> upright RGB pictures, of whatever kind a clinic sends, within bounds of memory.

OpenCV decodes what is plain and not huge; Pillow the rest, turned into RGB and shrunk strip by strip, because OpenCV
holds a picture twice while it decodes. PDFium draws PDFs.

Transparency lies over white, 16 bits are cut to 8, and colour profiles are left out: ink and grid differ without them.
Pixels of 32 bits, whole or fractional, are refused: nothing says which number is white.
"""

import io
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import PageError
from .formats import MAX_BYTES, MAX_PIXELS, Header, Pixels, animated, check_size, kind_of, read_header
from .pdf import pdf_num_pages, render_page
from .tiff import tiff_pages

MAX_MEMORY_BYTES = 320_000_000
"""While a picture is decoded, over what is there before; 64 million pixels of RGB, shrunk at once, need 300."""
OPENCV_BYTES_PER_PX = 6
OPENCV_BYTES = 128_000_000
"""Above it Pillow decodes: a little slower in half the memory."""
OPENCV_PNG_BYTES = 192 << 10
"""OpenCV unpacks a PNG to its end, which may lie a thousand times as far: here at most 0.6 s. Pillow stops at the last
row, but is a tenth slower."""
STRIP_PIXELS = 1 << 20
PHOTOMETRIC = 262
NEVER_DECODED = 128
"""The grey with which libjpeg fills, silently, what the data do not reach."""
JPEG_FACTORS = {1: cv2.IMREAD_COLOR_RGB, 2: 16, 4: 32, 8: 64}
"""Shrinking while decoding: OpenCV's IMREAD_REDUCED_GRAYSCALE_*, to which IMREAD_COLOR_RGB adds the colour."""


def decode_picture(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    wanted_px: tuple[int, int] | None = None,
    page: int = 0,
) -> Pixels:
    """One page, upright as EXIF says: uint8 RGB (h, w, 3).

    Args:
        wanted_px: (width, height) into which the caller will fit it. Pictures are shrunk while they are decoded, never
            to less than twice that size, so that the last and finest shrinking is the caller's.
        page: of a PDF or TIFF of several, counted from 0.

    Raises:
        PageError: `empty`, `too_large`, `not_an_image`, `too_many_pixels`, `too_small`, `bad_aspect`, `truncated`,
            `animated`, `unsupported`, `no_such_page`, `too_many_pages`; `too_complex`; of PDFs `encrypted`.
    """
    kind = kind_of(data, max_bytes)
    if kind == "PDF":
        drawn = render_page(data, page, max_pixels)
        check_size(drawn.shape[1], drawn.shape[0], max_pixels)
        return drawn
    header = read_header(data, kind, page)
    check_size(header.width_px, header.height_px, max_pixels)
    factor = _shrink_factor(header, wanted_px)
    if _opencv_bytes(header, factor) <= OPENCV_BYTES or kind == "WEBP":
        _check_memory(header, _opencv_bytes(header, factor))
        image = _by_opencv(header, factor)
    else:
        _check_memory(header, _pillow_bytes(header, factor))
        image = _by_pillow(header, factor, page)
    # Pillow has turned a TIFF already.
    return image if kind == "TIFF" else _turned(image, header.orientation)


def decode_pages(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Iterator[Pixels]:
    """All pages, one after the other, each decoded when it is asked for. Raises PageError as `decode_picture`."""
    for page in range(num_pages(data, max_bytes=max_bytes)):
        yield decode_picture(data, max_bytes=max_bytes, max_pixels=max_pixels, page=page)


def num_pages(data: bytes, *, max_bytes: int = MAX_BYTES) -> int:
    """Pages of a PDF or TIFF; 1 of other pictures. Raises PageError where that cannot be known."""
    kind = kind_of(data, max_bytes)
    if kind == "PDF":
        return pdf_num_pages(data)
    return len(tiff_pages(data)) if kind == "TIFF" else 1


def picture_size_px(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the first page, upright, without decoding it; None of a PDF, which has no pixels."""
    kind = kind_of(data)
    return None if kind == "PDF" else read_header(data, kind).upright_size_px


def _shrink_factor(header: Header, wanted_px: tuple[int, int] | None) -> int:
    if wanted_px is None:
        return 1
    ratios = [side / wanted for side, wanted in zip(header.upright_size_px, wanted_px, strict=True)]
    factor = max(1, int(max(ratios) / 2))
    return max(n for n in JPEG_FACTORS if n <= factor) if header.kind == "JPEG" else factor


def _opencv_bytes(header: Header, factor: int) -> float:
    """Memory for decoding by OpenCV; infinite where it cannot, or should not."""
    pixels = header.width_px * header.height_px
    if header.kind == "JPEG" and header.plain:
        return pixels * (OPENCV_BYTES_PER_PX / factor**2 + header.coefficient_bytes_per_px)
    if header.kind == "WEBP":
        return pixels * (8 if header.alpha else OPENCV_BYTES_PER_PX)
    by_opencv = header.plain and header.packed_bytes <= OPENCV_PNG_BYTES
    return pixels * OPENCV_BYTES_PER_PX if by_opencv else float("inf")


def _pillow_bytes(header: Header, factor: int) -> float:
    """Memory for decoding by Pillow, which holds 4 bytes a pixel, beside the picture that comes out."""
    pixels, coefficients = header.width_px * header.height_px, header.coefficient_bytes_per_px
    turning = 2 if header.orientation > 4 else 1
    if header.kind == "JPEG":
        return pixels * (coefficients + (4 + 3 * turning) / factor**2)
    return pixels * (4 * (turning if header.kind == "TIFF" else 1) + 3 * turning / factor**2)


def _check_memory(header: Header, needed_bytes: float) -> None:
    if needed_bytes > MAX_MEMORY_BYTES:
        most = int(header.width_px * header.height_px * MAX_MEMORY_BYTES / needed_bytes)
        size = f"the page has {header.width_px} x {header.height_px} pixels"
        raise PageError("too_many_pixels", f"{size}; of such a {header.kind} at most {most:,} are read")


def _by_opencv(header: Header, factor: int) -> Pixels:
    """(h, w, 3), shrunk by `factor`."""
    flags = JPEG_FACTORS[factor if header.kind == "JPEG" else 1] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(header.data, np.uint8), cv2.IMREAD_UNCHANGED if header.alpha else flags)
    except cv2.error:
        image = None
    if image is None or (header.kind != "JPEG" and image.shape[:2] != (header.height_px, header.width_px)):
        raise _damaged()
    image = image.astype(np.uint8, copy=False)
    if header.kind == "JPEG" and not np.any(np.abs(image[-1].astype(np.int16) - NEVER_DECODED) > 2):
        raise _damaged()
    if not header.alpha:
        return image if header.kind == "JPEG" else _shrunk(image, factor)
    if image.shape[2:] != (4,):
        raise _damaged()
    rows = max(1, STRIP_PIXELS // (image.shape[1] * factor)) * factor
    strips = [_over_white(image[top : top + rows, :, [2, 1, 0, 3]]) for top in range(0, len(image), rows)]
    return np.concatenate([_shrunk(strip, factor) for strip in strips])


def _by_pillow(header: Header, factor: int, page: int) -> Pixels:
    """(h, w, 3), shrunk by `factor`; a TIFF comes upright."""
    try:
        with Image.open(io.BytesIO(header.data), formats=(header.kind,)) as picture:
            if getattr(picture, "is_animated", False) and header.kind == "GIF":
                raise animated()
            if page:
                picture.seek(page)
            if header.kind == "JPEG":
                picture.draft(None, (picture.width // factor, picture.height // factor))
                factor = 1
            picture.load()
            image = _in_strips(picture, factor)
            # Pillow turns negatives over, but not those of 16 bits.
            negative = picture.mode.startswith("I;16") and getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == 0
            return np.invert(image) if negative else image
    except PageError:
        raise
    except UnidentifiedImageError:
        if header.kind != "TIFF":
            raise _damaged() from None
        raise PageError("unsupported", "the TIFF is damaged or of a kind that is not read; save it as PNG") from None
    except Exception:  # Pillow's decoders raise a dozen types on hostile bytes.
        raise _damaged() from None


def _in_strips(picture: Image.Image, factor: int) -> Pixels:
    if picture.mode in ("I", "F"):
        raise PageError("unsupported", "the pixels are numbers of 32 bits, of which none is known to be white")
    width_px, height_px = picture.size
    small = np.empty((-(-height_px // factor), -(-width_px // factor), 3), np.uint8)
    rows = max(1, STRIP_PIXELS // (width_px * factor))
    for top in range(0, len(small), rows):
        strip = picture.crop((0, top * factor, width_px, min(height_px, (top + rows) * factor)))
        small[top : top + rows] = _shrunk(_rgb(strip), factor)
    return small


def _shrunk(image: Pixels, factor: int) -> Pixels:
    """Means of `factor` x `factor` pixels; the right and lower edge are repeated where they fill no such square."""
    if factor == 1:
        return image
    below, right = -len(image) % factor, -image.shape[1] % factor
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    size_px = image.shape[1] // factor, len(image) // factor
    return cv2.resize(image, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _rgb(strip: Image.Image) -> Pixels:
    """Any mode of Pillow's but the 32-bit ones -> (h, w, 3)."""
    if strip.mode.startswith("I;16"):
        grey = (np.asarray(strip) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if strip.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in strip.info:
        return _over_white(np.asarray(strip.convert("RGBA")))
    if strip.mode == "P":
        palette = np.zeros((256, 1, 3), np.uint8)
        colours = np.array(strip.getpalette("RGB"), np.uint8).reshape(-1, 1, 3)
        palette[: len(colours)] = colours
        return cv2.applyColorMap(np.asarray(strip), palette).astype(np.uint8, copy=False)
    return np.asarray(strip.convert("RGB"))


def _over_white(rgba: Pixels) -> Pixels:
    """(h, w, 4) -> (h, w, 3)."""
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return colour
    veil = alpha.astype(np.uint16)
    return ((colour * veil + 255 * (255 - veil) + 127) // 255).astype(np.uint8)


def _turned(image: Pixels, orientation: int) -> Pixels:
    """Upright, from one of EXIF's eight orientations: https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.6.4.A"""
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _damaged() -> PageError:
    return PageError("truncated", "the picture is cut short, damaged or of an unusual kind: it cannot be decoded")
