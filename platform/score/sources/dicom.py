"""DICOM files as items of an archive: every page of an encapsulated PDF or picture, and waveforms, drawn."""

from collections.abc import Iterator

from ...data.read_page import PageSpec, Reading
from ...data.reading.dicom import drawn_page, has_pydicom, open_dicom
from ...errors import PageError, UserError
from .base import Loaded, SourceSettings


def require_pydicom() -> None:
    """Raises UserError where it is not installed."""
    if not has_pydicom():
        raise UserError("DICOM files need pydicom, which is not installed: pip install vizecg[formats]")


def dicom_pages(data: bytes, name: str, settings: SourceSettings, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    """All pages of a DICOM file; `name` is what messages call it.

    Raises PageError and RecordError where the whole file cannot be read; a single page's is among the pages.
    """
    require_pydicom()
    file = open_dicom(data)
    if file.kind == "waveform":
        yield drawn_page(file.record(name), settings.page_settings(spec))
        return
    for page in range(file.num_pages):
        try:
            yield file.page(page, spec, reading)
        except PageError as error:
            yield error
