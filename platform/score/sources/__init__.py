"""What INPUT may be: pictures, tables, shards, signal archives, DICOM files; `open_source` tells them apart.

What lies there decides, not what it is called. A folder of several kinds is taken as the kind of which it has the most
files, and the summary counts the others. Labelled pages (pages.csv) are scored as the folder of pictures that they are:
its table is about labels, and names no page of a PDF but those that have one.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ...data.archives import PTBXL_TABLE
from ...data.dataset_info import INFO_FILE
from ...errors import UserError
from ...listing import Found, is_pattern
from ...storage import (
    base_name,
    exists,
    filesystem_of,
    glob,
    is_local,
    join,
    parent,
    shown,
    size_and_time,
    walk,
    what_is,
)
from .base import Source, SourceSettings
from .dicom import require_pydicom
from .pictures import DICOM_SUFFIXES, IMAGE_SUFFIXES, open_file, open_files, open_list, suffix_of
from .shards import open_shards
from .signals import open_signals
from .spool import ListedSource
from .table import open_table

__all__ = ["Source", "SourceSettings", "open_source"]

_TABLE, _HEADER, _LIST = ".parquet", ".hea", ".txt"
_OF_RECORDS = (_HEADER, ".dat", ".mat")


def open_source(place: str | Path, settings: SourceSettings | None = None) -> Source:
    """What `place` names: a folder, a file, a glob or a list; a local path or a URI.

    Raises:
        UserError: nothing there to score, or something that cannot be told apart.
    """
    place, settings = str(place), settings or SourceSettings()
    filesystem_of(place)
    what = what_is(place)
    if what == "file":
        return _checked(_of_file(place, settings), place)
    if what == "folder":
        return _checked(_of_folder(place, settings), place)
    if not is_pattern(shown(place)):
        raise UserError(f"{shown(place)}: no such file or folder")
    folder, _ = glob(place)
    return _checked(_of_found(folder, lambda: glob(place)[1], settings, place), place)


def _checked(source: Source, place: str) -> Source:
    if not source.num_items:
        raise UserError(f"{shown(place)}: nothing to score; {_EXPECTED}")
    if source.kind == "dicom":
        require_pydicom()
    return source


_EXPECTED = (
    f"expected pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), DICOM files ({', '.join(sorted(DICOM_SUFFIXES))}), "
    f"a list ({_LIST}) of such files, a table ({_TABLE}) with a column of paths or bytes, shards ({INFO_FILE}) or an "
    f"archive of recordings ({PTBXL_TABLE} or {_HEADER} files)"
)


def _of_file(place: str, settings: SourceSettings) -> Source:
    suffix = suffix_of(base_name(place))
    if suffix == _LIST:
        return open_list(place, settings)
    if suffix == _TABLE:
        return open_table(parent(place), [Found(base_name(place), *(size_and_time(place) or (0, 0)))], settings)
    return open_file(place, settings)


def _of_folder(place: str, settings: SourceSettings) -> Source:
    if exists(join(place, INFO_FILE)):
        return open_shards(place)
    if exists(join(place, PTBXL_TABLE)):
        return _signals(place, settings)
    return _of_found(place, lambda: walk(place), settings, place)


def _signals(place: str, settings: SourceSettings) -> Source:
    if not is_local(place):
        raise UserError(f"{shown(place)}: archives of recordings are read from local folders; copy it to this machine")
    return open_signals(place, settings)


def _of_found(folder: str, listed: Callable[[], Iterable[Found]], settings: SourceSettings, place: str) -> Source:
    """The kind of which there are most files; `listed` lists them anew."""
    files, taken = open_files(folder, listed(), settings)
    num_files = taken["pictures"] + taken["dicom"]
    num_tables, num_headers = files.left_out.get(_TABLE, 0), files.left_out.get(_HEADER, 0)
    if num_headers > max(num_files, num_tables) and folder == place:
        source = _signals(place, settings)
        assert isinstance(source, ListedSource)
        return ListedSource("signals", source.reader, source.spool, _others(files, taken, _OF_RECORDS))
    if num_tables > num_files:
        tables = [found for found in listed() if suffix_of(found.name) == _TABLE]
        return open_table(folder, tables, settings, _others(files, taken, (_TABLE,)))
    return files


def _others(files: ListedSource, taken: Mapping[str, int], of_kind: tuple[str, ...]) -> dict[str, int]:
    """Files of other kinds than the one that was chosen."""
    left = {suffix: count for suffix, count in files.left_out.items() if suffix not in of_kind}
    return left | {kind: taken[kind] for kind in ("pictures", "dicom") if taken.get(kind)}
