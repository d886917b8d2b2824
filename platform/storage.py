"""Local paths and URIs alike: listing, reading, and writing so that no reader sees half a file.

A location is a local path, `file://...`, or a URI of any kind that pyarrow or fsspec knows. Behind an object store's
`?` stand options of its driver (`s3://bucket/pages?region=eu-central-1`); the rest is taken as written, blanks and `%`
and `#` included, as `aws` and `gsutil` do. Only `file://` is percent-decoded.
"""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs

from .errors import UserError
from .files import replace_on_disk
from .listing import Found, depth_first, glob_pattern, local_entries, local_path

Location = str | Path

_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>.*?)(?P<options>\?\w+=[^&?]*(&\w+=[^&?]*)*)?", re.S
)
_SECRET = re.compile(r"^[^@]*:[^@]*@")
"""Key and password before a host; the container before an Azure account has no colon."""
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2"})
"""A file appears in them when it is closed, whole."""
_TOLD_CHARACTERS = 200


class _Uri(NamedTuple):
    scheme: str
    host: str
    path: str
    options: str


def _uri(location: Location) -> _Uri | None:
    """None of a local path."""
    found = _URI.fullmatch(str(location))
    return _Uri(found["scheme"].lower(), found["host"], found["path"], found["options"] or "") if found else None


def _local(location: Location) -> str | None:
    """The absolute path of what lies on this machine, None of everything else."""
    uri = _uri(location)
    if uri is None:
        return os.path.abspath(os.path.expanduser(location))
    if uri.scheme != "file":
        return None
    if uri.host not in ("", "localhost"):
        raise UserError(f"{location}: a file URI has three slashes; write file:///{uri.host}{uri.path}")
    return os.path.abspath(unquote(uri.path + uri.options) or "/")


def is_local(location: Location) -> bool:
    """Whether it lies on this machine."""
    return _local(location) is not None


def filesystem_of(location: Location) -> tuple[pafs.FileSystem, str]:
    """The file system and the path in it.

    Raises:
        UserError: a URI of a kind that neither pyarrow nor fsspec knows, or whose driver is not installed.
    """
    if (path := _local(location)) is not None:
        return pafs.LocalFileSystem(), path
    uri = _uri(location)
    assert uri is not None
    opened = _by_pyarrow(f"{uri.scheme}://{uri.host}", uri.options)
    if opened is None:
        return _by_fsspec(str(location))
    filesystem, root = opened
    return filesystem, root.rstrip("/") + uri.path.rstrip("/") or "/"


@lru_cache(maxsize=64)
def _by_pyarrow(base: str, options: str) -> tuple[pafs.FileSystem, str] | None:
    """None where pyarrow does not know the scheme. Kept, because opening S3 asks for the bucket's region."""
    try:
        return pafs.FileSystem.from_uri(base + options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if "Unrecognized filesystem type" in str(error) or isinstance(error, pa.ArrowNotImplementedError):
            return None
        raise UserError(f"{shown(base)} cannot be opened: {_first_line(error)}") from error


def _by_fsspec(location: str) -> tuple[pafs.FileSystem, str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(location)
    except Exception as error:  # Every driver has its own for a missing package, host or option.
        raise UserError(f"{shown(location)} cannot be opened: {_first_line(error)}") from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(path)


def shown(location: Location) -> str:
    """The location as it may be written into tables and messages: absolute, without keys and options."""
    if (path := _local(location)) is not None:
        return path
    uri = _uri(location)
    assert uri is not None
    return f"{uri.scheme}://{_SECRET.sub('', uri.host)}{uri.path}"


def join(location: Location, *names: str) -> str:
    """A location below another; a name that is absolute or a URI stands for itself."""
    for name in names:
        uri = _uri(location)
        if uri is None or uri.scheme == "file" or _uri(name) is not None:
            location = name if _uri(name) is not None else os.path.join(_local(location) or "", name)
        else:
            location = f"{uri.scheme}://{uri.host}{posixpath.join(uri.path or '/', name)}{uri.options}"
    return str(location)


def parent(location: Location) -> str:
    """The folder in which it lies."""
    uri = _uri(location)
    if uri is None or uri.scheme == "file":
        return os.path.dirname(_local(location) or "")
    return f"{uri.scheme}://{uri.host}{posixpath.dirname(uri.path.rstrip('/'))}{uri.options}"


def base_name(location: Location) -> str:
    """Its name in that folder."""
    return posixpath.basename(shown(location).rstrip("/"))


def what_is(location: Location) -> Literal["file", "folder"] | None:
    """None where nothing is. Raises UserError where that cannot be found out."""
    filesystem, path = filesystem_of(location)
    try:
        with driver_errors():
            info = filesystem.get_file_info(path)
    except OSError as error:
        raise UserError(f"{shown(location)}: {told(error)}") from error
    if info.type == pafs.FileType.NotFound:
        return None
    return "folder" if info.type == pafs.FileType.Directory else "file"


def exists(location: Location) -> bool:
    return what_is(location) is not None


def size_and_time(location: Location, *, only_local: bool = False) -> tuple[int, int] | None:
    """Bytes and nanoseconds; None where nothing can be found out, or not without asking a server."""
    if only_local and _local(location) is None:
        return None
    filesystem, path = filesystem_of(location)
    try:
        with driver_errors():
            info = filesystem.get_file_info(path)
    except OSError:
        return None
    return (info.size or 0, info.mtime_ns or 0) if info.type != pafs.FileType.NotFound else None


def read_bytes(location: Location, max_bytes: int) -> bytes:
    """A whole file; of a larger one `max_bytes` + 1 bytes, by which the caller knows.

    Raises:
        OSError: it cannot be read, whatever the driver calls that.
        UserError: as `filesystem_of`.
    """
    if (local := _local(location)) is not None:
        with driver_errors():  # A NUL in a path is a ValueError.
            path = local_path(local)
            if stat.S_ISDIR(mode := os.stat(path).st_mode) or not stat.S_ISREG(mode):
                # Opening a named pipe would wait for ever.
                raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is no ordinary file")
            with open(path, "rb") as file:
                return file.read(max_bytes + 1)
    filesystem, remote = filesystem_of(location)
    with driver_errors(), filesystem.open_input_stream(remote, compression=None) as stream:
        return stream.read(max_bytes + 1)


def walk(location: Location, max_depth: int | None = None) -> Iterator[Found]:
    """Every file below a folder, folder by folder, in the byte order of their names: the same at every call.

    In memory is one folder at a time (30 bytes a name). Broken links are listed. A link to a folder is followed once,
    and never to a folder that it lies in. `max_depth` 1 lists the folder alone.

    Raises:
        UserError: the folder itself cannot be listed; one below it is listed with its error.
    """
    filesystem, path = filesystem_of(location)
    local = _local(location)
    entries = local_entries(local) if local is not None else _remote_entries(filesystem, path)
    try:
        yield from depth_first(entries, max_depth)
    except OSError as error:
        raise UserError(f"{shown(location)} cannot be listed: {told(error)}") from error


def _remote_entries(filesystem: pafs.FileSystem, root: str) -> Callable[[str], Iterator[Found]]:
    def entries(below: str) -> Iterator[Found]:
        with driver_errors():
            infos = filesystem.get_file_info(pafs.FileSelector(f"{root.rstrip('/')}/{below}".rstrip("/") or "/"))
        found = [
            Found(f"{below}{info.base_name}/")
            if info.type == pafs.FileType.Directory
            else Found(f"{below}{info.base_name}", info.size or 0, info.mtime_ns or 0)
            for info in infos
            if info.base_name
        ]
        yield from sorted(found, key=lambda each: each.name.encode())

    return entries


def glob(pattern: Location) -> tuple[str, Iterator[Found]]:
    """The folder before the first wildcard, and the files below it that match: `*`, `?`, `[...]` and `**`."""
    uri = _uri(pattern)
    path = uri.path if uri and uri.scheme != "file" else _local(pattern) or ""
    folder, matches, max_depth = glob_pattern(path)
    root = f"{uri.scheme}://{uri.host}{folder}{uri.options}" if uri and uri.scheme != "file" else folder or "/"
    if what_is(root) != "folder":
        return root, iter(())
    return root, (found for found in walk(root, max_depth) if matches(found.name))


def list_names(folder: Location, suffix: str = "") -> list[str]:
    """Names of the files in a folder, in order; none where there is no such folder."""
    if what_is(folder) != "folder":
        return []
    return [found.name for found in walk(folder, 1) if found.name.endswith(suffix) and not found.name.endswith("/")]


def write_whole(filesystem: pafs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    """A file that appears with all its bytes or not at all; on this machine's disks, when this returns.

    Raises UserError where the file system is only read, as https is.
    """
    folder, name = posixpath.split(path)
    whole = filesystem.type_name.removeprefix("py::fsspec+") in _OBJECT_STORES
    # Readers of tables take no file with a leading dot for data.
    written = path if whole else posixpath.join(folder, f".{name}.{uuid4().hex}.tmp")
    try:
        filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(written, compression=None) as stream:
            stream.write(data)
    except NotImplementedError as error:
        raise UserError(f"{path} cannot be written, because its file system is only read; choose another") from error
    if isinstance(filesystem, pafs.LocalFileSystem):
        replace_on_disk(written, path)
    elif not whole:
        filesystem.move(written, path)


def move(location: Location, to: Location) -> None:
    """Rename a file; both in one file system."""
    filesystem, path = filesystem_of(location)
    with driver_errors():
        filesystem.move(path, filesystem_of(to)[1])


def delete(location: Location) -> None:
    """A file, or a folder with all that is in it; nothing where there is none."""
    filesystem, path = filesystem_of(location)
    with driver_errors():
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            filesystem.delete_dir(path)
        elif kind != pafs.FileType.NotFound:
            filesystem.delete_file(path)


@contextmanager
def driver_errors() -> Iterator[None]:
    """Whatever a driver raises, as OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # Every fsspec driver has exceptions of its own.
        raise OSError(f"{type(error).__name__}: {_first_line(error)}") from error


def told(error: OSError) -> str:
    """Why, in one line."""
    return error.strerror or _first_line(error)


def _first_line(error: Exception) -> str:
    line = next(islice((line for line in str(error).splitlines() if line.strip()), 1), type(error).__name__)
    return line[:_TOLD_CHARACTERS]
