"""DICOM files: encapsulated PDFs, pictures, and 12-lead waveforms, of which a page is drawn.

pydicom is an extra. Only the elements named here are parsed, so that nothing of a patient is ever in memory but in the
file's own bytes. https://dicom.nema.org/medical/dicom/current/output/html/part03.html

Shapes: h x w pixels of a picture as sent, H x W pixels of the model's page.
"""

import logging
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ...errors import PageError, RecordError
from ..dataset_info import PageSettings
from ..page import print_page
from ..read_page import PageSpec, Reading, ReadPage, read_image, read_page
from ..records import EcgRecord
from .dicom_parse import guarded, parse, unfold
from .dicom_pixels import PIXEL_TAGS, jpeg_of, num_frames, picture_of, size_px
from .dicom_waveform import WAVEFORM_SEQUENCES, read_waveform
from .formats import MAX_PIXELS
from .pictures import num_pages

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_DICOM_BYTES = 64 << 20
"""Five pages at 200 dpi, uncompressed."""
_PDF_TAGS = ("EncapsulatedDocument", "MIMETypeOfEncapsulatedDocument")


def is_dicom(data: bytes) -> bool:
    """By its mark. What lies before it may be the beginning of a TIFF."""
    return data[128:132] == b"DICM"


def has_pydicom() -> bool:
    """Whether it is installed; from now on it is silent."""
    try:
        import pydicom
    except ImportError:
        return False
    # Its warnings quote values, which in a damaged file may be a name.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.logger.setLevel(logging.CRITICAL)
    return True


@dataclass(frozen=True)
class DicomFile:
    """A parsed file. All that is asked of it raises PageError where the file is damaged."""

    dataset: "Dataset"

    @cached_property
    def kind(self) -> Literal["waveform", "pdf", "picture"]:
        """What is in it."""
        if "WaveformSequence" in self.dataset:
            return "waveform"
        if "EncapsulatedDocument" in self.dataset:
            return "pdf"
        if "PixelData" in self.dataset:
            return "picture"
        raise PageError("no_page", "the DICOM file holds neither a picture, a PDF nor a waveform")

    @cached_property
    def num_pages(self) -> int:
        """Of the PDF, or frames of the picture; a waveform is drawn on one."""
        if self.kind == "waveform":
            return 1
        return num_pages(self._document) if self.kind == "pdf" else guarded(num_frames, self.dataset)

    def record(self, name: str) -> EcgRecord:
        """The waveform; `name` is what it and messages are called. Raises RecordError beside PageError."""
        unfold(self.dataset, WAVEFORM_SEQUENCES)
        return guarded(read_waveform, self.dataset, name)

    def page(self, number: int, spec: PageSpec, reading: Reading, *, max_pixels: int = MAX_PIXELS) -> ReadPage:
        """Page `number`, from 0, of a PDF or picture. Raises PageError as `read_page`."""
        if self.kind == "pdf":
            return read_page(self._document, spec, reading, page=number, max_pixels=max_pixels)
        sent_px = guarded(size_px, self.dataset, max_pixels)
        jpeg = guarded(jpeg_of, self.dataset, number)
        if jpeg is not None:
            return read_page(jpeg, spec, reading, max_pixels=max_pixels)
        read = read_image(guarded(picture_of, self.dataset, number), spec, reading)
        return replace(read, sent_size_px=sent_px) if reading.quality else read

    @cached_property
    def _document(self) -> bytes:
        kind = str(guarded(self.dataset.get, "MIMETypeOfEncapsulatedDocument", ""))
        if kind not in ("application/pdf", ""):
            raise PageError("unsupported", "the document in the DICOM file is no PDF")
        return bytes(guarded(lambda: self.dataset.EncapsulatedDocument or b""))


def open_dicom(data: bytes, max_bytes: int = MAX_DICOM_BYTES) -> DicomFile:
    """Parse what `is_dicom`.

    Raises:
        PageError: `too_large`, `unsupported` (also where pydicom is missing), `truncated`, `too_complex`.
    """
    if not has_pydicom():
        raise PageError("unsupported", "DICOM files are not read here: pydicom is not installed")
    if len(data) > max_bytes:
        raise PageError("too_large", f"the DICOM file has more than {max_bytes:,} bytes, which are read at most")
    return DicomFile(parse(data, (*PIXEL_TAGS, *_PDF_TAGS, "WaveformSequence")))


def num_dicom_pages(data: bytes, *, max_bytes: int = MAX_DICOM_BYTES) -> int:
    """Pages of what `is_dicom`; raises PageError as `open_dicom`, and where that cannot be known."""
    return open_dicom(data, max_bytes).num_pages


def dicom_page(
    data: bytes, spec: PageSpec, reading: Reading, *, page: int = 0,
    max_bytes: int = MAX_DICOM_BYTES, max_pixels: int = MAX_PIXELS,
) -> ReadPage:  # fmt: skip
    """`read_page` for what `is_dicom`; a waveform is drawn as the training pages are by default.

    Raises PageError, for waveforms with the reasons of RecordError.
    """
    file = open_dicom(data, max_bytes)
    if not 0 <= page < file.num_pages:
        raise PageError("no_such_page", f"there is no page {page + 1}: the DICOM file has {file.num_pages}")
    if file.kind != "waveform":
        return file.page(page, spec, reading, max_pixels=max_pixels)
    try:
        record = file.record("the DICOM file")
    except RecordError as error:
        raise PageError(error.reason, str(error)) from None
    return drawn_page(record, PageSettings(width_px=spec.width_px, height_px=spec.height_px))


def drawn_page(record: EcgRecord, settings: PageSettings) -> ReadPage:
    """A record printed at the size of the settings, which is the model's."""
    page = print_page(record.signal_mv, record.sampling_rate_hz, settings.style(record.record_id), record.lead_present)
    return ReadPage(pixels=page.planes(), finding=None, note=None)
