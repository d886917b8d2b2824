"""Pictures of DICOM files -> RGB: grey of every depth, colour, palettes, compressed ones as far as pydicom reads them.

https://dicom.nema.org/medical/dicom/current/output/html/part03.html#sect_C.7.6.3

Shapes: h x w pixels.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PageError
from .formats import Pixels, check_size
from .pictures import MAX_MEMORY_BYTES, STRIP_PIXELS
from .tiff import MAX_PAGES

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_TAGS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData", "RescaleSlope", "RescaleIntercept",
    "WindowCenter", "WindowWidth", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_MAX_LUT_BITS = 16


def num_frames(dataset: "Dataset") -> int:
    """Raises PageError `too_many_pages`."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= frames <= MAX_PAGES:
        raise PageError("too_many_pages", f"the DICOM file has {frames} frames; 1 to {MAX_PAGES} are read")
    return frames


def size_px(dataset: "Dataset", max_pixels: int) -> tuple[int, int]:
    """(width, height) of a frame. Raises PageError: `too_many_pixels`, `too_small`, `bad_aspect`."""
    width_px, height_px = int(dataset.Columns), int(dataset.Rows)
    check_size(width_px, height_px, max_pixels)
    # Compressed runs of equal bytes may unpack to numbers of 64 bits.
    pixels, bits = width_px * height_px, int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated)
    if pixels * bits / 8 > MAX_MEMORY_BYTES:
        raise PageError("too_many_pixels", f"the page has {pixels:,} pixels of {bits} bits, which is more than is read")
    return width_px, height_px


def jpeg_of(dataset: "Dataset", frame: int) -> bytes | None:
    """A frame as it lies there, if it is a plain JPEG."""
    from pydicom.encaps import get_frame

    if str(dataset.file_meta.TransferSyntaxUID) not in _JPEG:
        return None
    return get_frame(dataset.PixelData, frame, number_of_frames=num_frames(dataset))


def picture_of(dataset: "Dataset", frame: int) -> Pixels:
    """uint8 RGB (h, w, 3). Raises PageError `unsupported`, and whatever pydicom does."""
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        values = pixel_array(dataset, index=frame)
    except RuntimeError:  # No decoder for this way of compressing is installed.
        name = dataset.file_meta.TransferSyntaxUID.name
        raise PageError("unsupported", f"the picture, stored as {name}, is read neither here nor by pydicom") from None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        # Palettes of 16 bits are cut to 8.
        return np.ascontiguousarray((values >> 8 * (values.itemsize - 1)).astype(np.uint8))
    if values.ndim == 3:
        return np.ascontiguousarray((values >> max(int(dataset.BitsStored) - 8, 0)).astype(np.uint8))
    return _grey(values, dataset)


def _grey(values: NDArray[np.integer[Any]], dataset: "Dataset") -> Pixels:
    """Numbers (h, w) of up to 16 bits as their window, or all their bits, shows them: (h, w, 3)."""
    bits = int(dataset.BitsStored)
    if bits > _MAX_LUT_BITS:
        raise PageError("unsupported", f"the pixels are numbers of {bits} bits, of which none is known to be white")
    least = -(1 << bits - 1) if int(dataset.PixelRepresentation) else 0
    known = np.arange(least, least + (1 << bits)) * float(dataset.get("RescaleSlope") or 1)
    known += float(dataset.get("RescaleIntercept") or 0)
    low, high = float(known.min()), float(known.max())
    centres, widths = (np.atleast_1d(dataset.get(name) or []) for name in ("WindowCenter", "WindowWidth"))
    if len(centres) and len(widths) and float(widths[0]) > 1:
        low, high = float(centres[0]) - float(widths[0]) / 2, float(centres[0]) + float(widths[0]) / 2
    lut = np.clip((known - low) * (255 / max(high - low, 1e-9)) + 0.5, 0, 255).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        lut = 255 - lut
    image = np.empty((*values.shape, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // values.shape[1])
    for top in range(0, len(values), rows):
        strip = values[top : top + rows].astype(np.int32) - least
        image[top : top + rows] = lut[np.clip(strip, 0, len(lut) - 1)][..., None]
    return image
