"""Archives of recordings, of which pages are drawn: scoring needs no labels, so only the signals are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...data.archives import open_archive
from ...data.archives.wfdb_files import read_header, read_recording
from ...data.read_page import PageSpec, Reading
from ...data.reading.dicom import drawn_page
from ...data.records import EcgRecord, make_record
from ...storage import shown
from .base import Item, Loaded, ReadItem, SourceSettings
from .spool import Listed, ListedSource, Spool

_RECORD_BYTES = 120_000
"""Ten seconds of twelve leads at 500 Hz."""
_APART = "\t"


@dataclass(frozen=True)
class SignalReader:
    """Draws records below `folder`; an item is record id and path of the header, without its suffix."""

    folder: str
    archive: str
    settings: SourceSettings

    def open(self, items: Sequence[str]) -> Iterator[Item]:
        for record_id, _, locator in (item.partition(_APART) for item in items):
            header = Path(self.folder) / f"{locator}.hea"
            load = partial(_page, header, record_id, self.archive, self.settings)
            yield Item(record_id, str(header), ReadItem(load))


def _page(
    header: Path, record_id: str, archive: str, settings: SourceSettings, spec: PageSpec, reading: Reading
) -> Iterator[Loaded]:
    yield drawn_page(_record(header, record_id, archive), settings.page_settings(spec))


def _record(header: Path, record_id: str, archive: str) -> EcgRecord:
    recording = read_recording(read_header(header))
    return make_record(
        recording.signal_mv,
        recording.lead_names,
        sampling_rate_hz=recording.sampling_rate_hz,
        file=str(header),
        record_id=record_id,
        source=archive,
    )


def open_signals(folder: str, settings: SourceSettings) -> ListedSource:
    """Every record of an archive on this machine, in the order of record ids.

    Raises:
        UserError: no archive there.
    """
    root = Path(shown(folder))
    archive = open_archive(root)
    listed: Iterator[Listed] = (
        (f"{entry.record_id}{_APART}{entry.locator}", _RECORD_BYTES, "") for entry in archive.entries()
    )
    reader = SignalReader(str(root), archive.name, settings)
    return ListedSource("signals", reader, Spool(listed, archive.fingerprint()))
