"""How folders are listed: in order, in bounded memory, whatever lies in them."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

Entries = Callable[[str], Iterator["Found"]]
"""A folder's name below the place that is listed ("" or "a/b/") -> what lies in it, in order; folders end in "/"."""

_NAMES_AT_ONCE = 1 << 16
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a place that was listed."""

    name: str
    """Below that place. Bytes that are no UTF-8 stand as \\xfc. Of a folder that cannot be listed it ends in "/"."""
    size_bytes: int = 0
    mtime_ns: int = 0
    error: OSError | None = None


def depth_first(entries: Entries, max_depth: int | None = None) -> Iterator[Found]:
    """Every file; OSError where the place itself cannot be listed."""
    folders = [("", entries(""))]
    while folders:
        below, left = folders[-1]
        try:
            found = next(left, None)
        except OSError as error:
            if not below:
                raise
            found = None
            yield Found(below, error=error)
        if found is None:
            folders.pop()
        elif not found.name.endswith("/"):
            yield found
        elif max_depth is None or len(folders) < max_depth:
            folders.append((found.name, entries(found.name)))


def local_entries(root: str) -> Entries:
    """Of a folder on this machine; links to folders are followed once, and never to one they lie in."""
    followed: set[bytes] = set()

    def entries(below: str) -> Iterator[Found]:
        folder = os.fsencode(local_path(os.path.join(root, below)))
        with os.scandir(folder) as listed:
            names = _sorted(entry.name + b"/" if _is_folder(entry) else entry.name for entry in listed)
        for name in (name.as_py() for name in names):
            shown = below + name.decode("utf-8", "backslashreplace")
            if not name.endswith(b"/"):
                yield Found(shown, *_size_and_time(os.path.join(folder, name)))
            elif not os.path.islink(path := os.path.join(folder, name[:-1])) or _is_new(path, followed):
                yield Found(shown)

    return entries


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself; reading it will say so.
        return False


def _is_new(link: bytes, followed: set[bytes]) -> bool:
    """Whether what it leads to is neither above it nor behind an earlier link."""
    target, here = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    if target in followed or (here + b"/").startswith(target.rstrip(b"/") + b"/"):
        return False
    followed.add(target)
    return True


def _size_and_time(path: bytes) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # A broken link is a page that cannot be read, and says so in its row.
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _sorted(names: Iterator[bytes]) -> pa.Array:
    """In a third of the memory of a list: a folder may hold millions."""
    parts = [pa.array(part, pa.large_binary()) for part in iter(lambda: list(islice(names, _NAMES_AT_ONCE)), [])]
    column = pa.concat_arrays(parts) if parts else pa.array([], pa.large_binary())
    return column.take(pc.sort_indices(column))


def local_path(path: str) -> str | bytes:
    """The path as the system knows it, from one in which bytes that are no UTF-8 were written as \\xfc."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    return _ESCAPED.sub(lambda digits: bytes.fromhex(digits[1].decode()), path.encode())


def glob_pattern(path: str) -> tuple[str, Callable[[str], bool], int | None]:
    """(folder before the first wildcard, whether a name below it matches, how deep a match can lie).

    `*`, `?` and `[ab]` stop at slashes; `**` is any number of folders.
    """
    parts = path.split("/")
    plain = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    wanted = parts[plain:]
    depth = None if "**" in wanted else len(wanted)
    return "/".join(parts[:plain]), lambda name: _matches(name.split("/"), wanted), depth


def is_pattern(text: str) -> bool:
    """Whether it holds a wildcard."""
    return any(character in text for character in "*?[")


def _matches(parts: list[str], wanted: list[str]) -> bool:
    if not wanted or not parts:
        return wanted == parts or wanted == ["**"]
    if wanted[0] == "**":
        return any(_matches(parts[skip:], wanted[1:]) for skip in range(len(parts) + 1))
    return fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
