"""A listing on the disk of the driver: ten million names and sizes take some 100 MB there, and no memory."""

import hashlib
import mmap
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

import pyarrow as pa

from .base import Reader

Listed = tuple[str, int, str]
"""(item, bytes that reading it takes, what changes when the file does)"""

_SCHEMA = pa.schema({"item": pa.string(), "size_bytes": pa.int64()})
_ROWS = 1 << 14


class Spool:
    """Items in their order, and a digest of them. The file is gone with the object, or with the process."""

    def __init__(self, listed: Iterable[Listed], *also: object):
        """`also` goes into the digest."""
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="vizecg-listing-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self.num_items = 0
        digest = hashlib.sha256(repr(also).encode())
        rows = iter(listed)
        how = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(self._file, _SCHEMA, options=how) as writer:
            while part := list(islice(rows, _ROWS)):
                items, sizes, states = zip(*part, strict=True)
                digest.update("".join(f"{item}\n{state}\n" for item, state in zip(items, states, strict=True)).encode())
                writer.write_batch(pa.record_batch([pa.array(items), pa.array(sizes, pa.int64())], schema=_SCHEMA))
                self.num_items += len(part)
        self._file.flush()
        self.identity = digest.hexdigest()

    def items(self) -> Iterator[tuple[str, int]]:
        # Not closed by hand: batches may still point into it.
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        for batch in pa.ipc.open_stream(pa.py_buffer(mapped)):
            yield from zip(batch["item"].to_pylist(), batch["size_bytes"].to_pylist(), strict=True)


@dataclass(frozen=True, eq=False)
class ListedSource:
    """A Source of what a spool lists."""

    kind: str
    reader: Reader
    spool: Spool
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_items(self) -> int:
        return self.spool.num_items

    @property
    def identity(self) -> str:
        return self.spool.identity

    def items(self) -> Iterator[tuple[str, int]]:
        return self.spool.items()
