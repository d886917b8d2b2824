"""Files, each of one or more pages: pictures, PDFs and DICOM files, told apart by what is in them.

A hospital's export holds both kinds side by side, so they are scored together.
"""

import io
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...data.read_page import PageSpec, Reading, read_page
from ...data.reading.dicom import MAX_DICOM_BYTES, is_dicom
from ...data.reading.pictures import num_pages
from ...errors import PageError, UserError
from ...listing import Found
from ...storage import driver_errors, filesystem_of, join, parent, read_bytes, shown, size_and_time, told, walk
from .base import PICTURE_BYTES, Item, Loaded, ReadItem, SourceSettings, Unreadable
from .dicom import dicom_pages
from .spool import Listed, ListedSource, Spool

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pdf"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_NO_SUFFIX = re.compile(r"(\.\d+)?")
"""DICOM exports name their files IM00001, or by a UID that ends in a number."""
_MOST_SUFFIX = 10


@dataclass(frozen=True)
class FileReader:
    """Opens files below `folder`, or wherever absolute paths and URIs lead."""

    folder: str
    settings: SourceSettings

    def open(self, items: Sequence[str]) -> Iterator[Item]:
        return (file_item(self.folder, item, self.settings) for item in items)


def file_item(folder: str, name: str, settings: SourceSettings) -> Item:
    """The pages of one file, which is called by where it lies."""
    try:
        location = join(folder, name)
        place = shown(location)
    except UserError as error:
        return Item(name, name, Unreadable(PageError("unreadable_file", str(error))))
    load = _unlisted if name.endswith("/") else _file_pages
    return Item(place, place, ReadItem(partial(load, location, settings)))


def _file_pages(location: str, settings: SourceSettings, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    yield from document_pages(read_bytes(location, MAX_DICOM_BYTES), location, settings, spec, reading)


def _unlisted(location: str, settings: SourceSettings, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
    """A folder that could not be listed; once more for the reason."""
    next(walk(location, 1), None)
    raise PageError("unreadable_file", "the folder could not be listed when the run began")


def document_pages(
    data: bytes, location: str, settings: SourceSettings, spec: PageSpec, reading: Reading
) -> Iterator[Loaded]:
    """All pages of a picture, a PDF or a DICOM file; a bad one hides no other."""
    if is_dicom(data):
        yield from dicom_pages(data, shown(location), settings, spec, reading)
        return
    for page in range(num_pages(data)):
        try:
            yield read_page(data, spec, reading, page=page)
        except PageError as error:
            yield error


def open_files(folder: str, found: Iterable[Found], settings: SourceSettings) -> tuple[ListedSource, Mapping[str, int]]:
    """What is found below a folder, and by what it was taken: `pictures`, `dicom`, `folders` that cannot be listed."""
    taken: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    spool = Spool(_chosen(folder, found, taken, left_out))
    kind = "dicom" if taken["dicom"] and not taken["pictures"] else "pictures"
    return ListedSource(kind, FileReader(folder, settings), spool, dict(left_out)), taken


def _chosen(folder: str, found: Iterable[Found], taken: Counter[str], left_out: Counter[str]) -> Iterator[Listed]:
    for file in found:
        suffix = suffix_of(file.name)
        if file.name.endswith("/"):
            taken["folders"] += 1
        elif suffix in IMAGE_SUFFIXES:
            taken["pictures"] += 1
        elif suffix in DICOM_SUFFIXES or (_NO_SUFFIX.fullmatch(suffix) and _begins_as_dicom(join(folder, file.name))):
            taken["dicom"] += 1
        else:
            shown_suffix = "no suffix" if _NO_SUFFIX.fullmatch(suffix) else suffix
            left_out[shown_suffix if len(shown_suffix) < _MOST_SUFFIX else "other"] += 1
            continue
        yield file.name, file.size_bytes, f"{file.size_bytes} {file.mtime_ns}"


def suffix_of(name: str) -> str:
    """With its dot, in small letters; empty where there is none."""
    return posixpath.splitext(name)[1].lower()


def _begins_as_dicom(location: str) -> bool:
    try:
        return is_dicom(read_bytes(location, 131))
    except (OSError, UserError):
        return False


def open_file(location: str, settings: SourceSettings) -> ListedSource:
    """One file, whatever its name."""
    size_bytes, mtime_ns = size_and_time(location) or (PICTURE_BYTES, 0)
    name = posixpath.basename(shown(location))
    spool = Spool([(name, size_bytes, f"{size_bytes} {mtime_ns}")])
    kind = "dicom" if _begins_as_dicom(location) else "pictures"
    return ListedSource(kind, FileReader(parent(location), settings), spool)


def open_list(location: str, settings: SourceSettings) -> ListedSource:
    """Files named line by line; blank lines and those that begin with # name none.

    Raises:
        UserError: the list cannot be read.
    """
    folder = parent(location)
    try:
        spool = Spool(_named(location, folder))
    except OSError as error:
        raise UserError(f"{shown(location)} cannot be read: {told(error)}") from error
    return ListedSource("pictures", FileReader(folder, settings), spool)


def _named(location: str, folder: str) -> Iterator[Listed]:
    filesystem, path = filesystem_of(location)
    with driver_errors(), filesystem.open_input_stream(path, compression=None) as stream:
        # Bytes that are no UTF-8 as in listings.
        for line in io.TextIOWrapper(stream, "utf-8-sig", "backslashreplace"):
            name = line.strip()
            if name and not name.startswith("#"):
                yield _stated(name, folder)


def _stated(name: str, folder: str) -> Listed:
    """With size and time of what lies on this machine; a request for every object of a store would take hours."""
    try:
        known = size_and_time(join(folder, name), only_local=True)
    except UserError:
        known = None
    return name, known[0] if known else PICTURE_BYTES, str(known)
