"""DICOM files: encapsulated PDFs, pictures, and 12-lead waveforms, of which a page is drawn.

pydicom is an extra. Only the elements named here are parsed, so that nothing of a patient is ever in memory but in the
file's own bytes. https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data.page import print_page
from ...data.read_page import PageSpec, Reading, ReadPage, read_image, read_page
from ...data.reading.formats import MAX_PIXELS, Pixels, check_size
from ...data.reading.pictures import MAX_MEMORY_BYTES, num_pages
from ...data.reading.tiff import MAX_PAGES
from ...data.records import EcgRecord
from ...errors import PageError, RecordError, UserError
from .base import Loaded, SourceSettings
from .dicom_waveform import WAVEFORM_TAGS, read_waveform

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_DICOM_BYTES = 64 << 20
"""Five pages at 200 dpi, uncompressed."""
_PIXEL_TAGS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData", "RescaleSlope", "RescaleIntercept",
    "WindowCenter", "WindowWidth", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip
_PDF_TAGS = ("EncapsulatedDocument", "MIMETypeOfEncapsulatedDocument")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_MAX_LUT_BITS = 16


def is_dicom(data: bytes) -> bool:
    """By its mark. What lies before it may be the beginning of a TIFF."""
    return data[128:132] == b"DICM"


def require_pydicom() -> None:
    """pydicom, silent; UserError where it is not installed."""
    try:
        import pydicom
    except ImportError:
        raise UserError("DICOM files need pydicom, which is not installed: pip install vizecg[formats]") from None
    # Its warnings quote values, which in a damaged file may be a name.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.logger.setLevel(logging.CRITICAL)


def dicom_pages(data: bytes, file: str, settings: SourceSettings, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    """All pages of a DICOM file; `file` is what messages call it.

    Raises PageError and RecordError where the whole file cannot be read; a single page's is among the pages.
    """
    require_pydicom()
    if len(data) > MAX_DICOM_BYTES:
        raise PageError("too_large", f"the DICOM file has more than {MAX_DICOM_BYTES:,} bytes, which are read at most")
    dataset = _parsed(data)
    if "WaveformSequence" in dataset:
        record = _from_pydicom(read_waveform, dataset, file)
        yield drawn_page(record, settings, spec)
    elif "EncapsulatedDocument" in dataset:
        yield from _pdf_pages(dataset, spec, reading)
    elif "PixelData" in dataset:
        for frame in range(_num_frames(dataset)):
            try:
                yield _frame_page(dataset, frame, spec, reading)
            except PageError as error:
                yield error
    else:
        raise PageError("no_page", "the DICOM file holds neither a picture, a PDF nor a waveform")


def drawn_page(record: EcgRecord, settings: SourceSettings, spec: PageSpec) -> ReadPage:
    """A record printed at the model's size."""
    style = settings.page_settings(spec).style(record.record_id)
    page = print_page(record.signal_mv, record.sampling_rate_hz, style, record.lead_present)
    return ReadPage(pixels=page.planes(), finding=None, note=None)


def _from_pydicom(read: Any, *arguments: Any) -> Any:
    """What `read` gives; whatever pydicom raises on damaged files as PageError."""
    try:
        return read(*arguments)
    except (PageError, RecordError):
        raise
    except Exception:  # pydicom raises a dozen types, and their texts may quote the file.
        raise PageError("truncated", "the DICOM file is cut short, damaged or of an unusual kind") from None


def _parsed(data: bytes) -> "Dataset":
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    # A deflated file may unpack to any size, so its kind is looked at first.
    meta = _from_pydicom(read_dataset, io.BytesIO(data[132:]), False, True, None, lambda tag, *_: tag.group != 2)
    if str(_from_pydicom(meta.get, "TransferSyntaxUID", "")) == _DEFLATED:
        raise PageError("unsupported", "the DICOM file is deflated as a whole; store it uncompressed")
    tags = [*_PIXEL_TAGS, *_PDF_TAGS, *WAVEFORM_TAGS]
    return _from_pydicom(lambda: dcmread(io.BytesIO(data), specific_tags=tags))


def _pdf_pages(dataset: "Dataset", spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    kind = str(_from_pydicom(dataset.get, "MIMETypeOfEncapsulatedDocument", ""))
    if kind not in ("application/pdf", ""):
        raise PageError("unsupported", "the document in the DICOM file is no PDF")
    document = bytes(_from_pydicom(lambda: dataset.EncapsulatedDocument or b""))
    for page in range(num_pages(document)):
        try:
            yield read_page(document, spec, reading, page=page)
        except PageError as error:
            yield error


def _num_frames(dataset: "Dataset") -> int:
    frames = _from_pydicom(lambda: int(dataset.get("NumberOfFrames") or 1))
    if not 1 <= frames <= MAX_PAGES:
        raise PageError("too_many_pages", f"the DICOM file has {frames} frames; 1 to {MAX_PAGES} are read")
    return frames


def _frame_page(dataset: "Dataset", frame: int, spec: PageSpec, reading: Reading) -> ReadPage:
    from pydicom.encaps import get_frame

    width_px, height_px = _from_pydicom(lambda: (int(dataset.Columns), int(dataset.Rows)))
    check_size(width_px, height_px, MAX_PIXELS)
    _check_memory(dataset, width_px * height_px)
    if str(_from_pydicom(lambda: dataset.file_meta.TransferSyntaxUID)) in _JPEG:
        frames = _num_frames(dataset)
        jpeg = _from_pydicom(lambda: get_frame(dataset.PixelData, frame, number_of_frames=frames))
        return read_page(jpeg, spec, reading)
    return read_image(_from_pydicom(_frame, dataset, frame), spec, reading)


def _check_memory(dataset: "Dataset", pixels: int) -> None:
    """Compressed runs of equal bytes may unpack to numbers of 64 bits."""
    bits = _from_pydicom(lambda: int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated))
    if pixels * bits / 8 > MAX_MEMORY_BYTES:
        raise PageError("too_many_pixels", f"the page has {pixels:,} pixels of {bits} bits, which is more than is read")


def _frame(dataset: "Dataset", frame: int) -> Pixels:
    """uint8 RGB (h, w, 3)."""
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
    return np.repeat(_grey(values, dataset)[..., None], 3, axis=2)


def _grey(values: NDArray[np.integer[Any]], dataset: "Dataset") -> Pixels:
    """Numbers of up to 16 bits as their window, or all their bits, shows them."""
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
    return lut[np.clip(values.astype(np.int32) - least, 0, len(lut) - 1)]
