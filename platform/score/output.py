"""Where scores go: even Parquet files, and what keeps a run that is killed from losing or doubling a row.

    OUT/scores/scores-00000.parquet    rows_per_file rows each, the last file fewer; appears whole
    OUT/progress/00000012.parquet      rows that are not in an even file yet, a segment every few seconds

One process writes: the driver. Items come with all of their rows together, and an item is done once a file or segment
holds it. Segments are deleted after the even file that holds their rows stands; where the driver dies in between, the
next start finds rows in both and believes the file. So every row is in the output once, whenever it dies, and what is
lost is the work of the last seconds.
"""

import io
import posixpath
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import UserError
from ..storage import filesystem_of, write_whole
from .claim import Claim
from .tally import SCORES

PROGRESS = "progress"
SEGMENT_S = 5.0
SEGMENT_ROWS = 16_384
_TRY_AGAIN_AFTER_S = (1.0, 5.0, 25.0)
_MAX_PAGES = 1 << 20
"""Of one item: more than any document that is read has."""


class ScoreFiles:
    """The output of one run."""

    def __init__(self, out: str, schema: pa.Schema, rows_per_file: int, num_items: int, claim: Claim):
        self._filesystem, self._root = filesystem_of(out)
        self._schema, self._rows_per_file, self._claim = schema, rows_per_file, claim
        self.done = np.zeros(num_items, np.bool_)
        """Items whose rows are all here."""
        self.reasons: Counter[str] = Counter()
        self.pages = 0
        self._written: list[pa.Table] = []
        """Rows in segments."""
        self._fresh: list[pa.Table] = []
        """Rows in no file yet."""
        self._last_segment_at = time.monotonic()
        for folder in (SCORES, PROGRESS):
            self._filesystem.create_dir(self._path(folder), recursive=True)
        self._resume()

    def add(self, rows: pa.Table) -> None:
        """All rows of some items; what an item has given before is not taken twice."""
        items = np.unique(rows["row"].to_numpy())
        if self.done[items].any():
            rows = rows.filter(pa.array(~self.done[rows["row"].to_numpy()]))
        if not len(rows):
            return
        self._fresh.append(rows)
        self._count(rows)
        waited_s = time.monotonic() - self._last_segment_at
        if waited_s >= SEGMENT_S or sum(map(len, self._fresh)) >= SEGMENT_ROWS:
            self.flush()

    def flush(self) -> None:
        """Everything that was added onto the disk, as a segment; even files where there is enough."""
        self._last_segment_at = time.monotonic()
        if self._fresh:
            # Combined: a table of thousands of small pieces takes ten times its size.
            self._add_segment(pa.concat_tables(self._fresh).combine_chunks())
            self._fresh = []
        while sum(map(len, self._written)) >= self._rows_per_file:
            self._add_file()

    def finish(self) -> None:
        """The last file; no segment is left."""
        self.flush()
        if self._written:
            self._add_file()
        # Where folders are but parts of names, this one went with its last file.
        with suppress(FileNotFoundError):
            self._filesystem.delete_dir(self._path(PROGRESS))

    def files(self) -> list[str]:
        """Paths of the even files, in order."""
        return self._names(SCORES)

    def _add_segment(self, rows: pa.Table) -> str:
        self._claim.check()
        names = self._names(PROGRESS)
        number = int(posixpath.basename(names[-1]).partition(".")[0]) + 1 if names else 0
        path = self._path(PROGRESS, f"{number:08d}.parquet")
        self._write(path, rows)
        self._written.append(rows)
        return path

    def _add_file(self) -> None:
        """The oldest rows as an even file, what is left of them as one segment, and the older segments deleted."""
        rows = pa.concat_tables(self._written)
        full, rest = rows.slice(0, self._rows_per_file), rows.slice(self._rows_per_file)
        self._claim.check()
        self._write(self._path(SCORES, f"scores-{len(self.files()):05d}.parquet"), full)
        older = self._names(PROGRESS)
        self._written = []
        if len(rest):
            self._add_segment(rest)
        for path in older:
            self._delete(path)

    def _resume(self) -> None:
        """What earlier starts left."""
        kept = self._segments()
        keys = np.concatenate([_keys(rows) for rows in kept]) if kept else np.empty(0, np.int64)
        in_files = np.zeros(len(keys), np.bool_)
        for path in self.files():
            for rows in self._batches(path):
                self._count(rows)
                in_files |= np.isin(keys, _keys(rows))
        if kept:
            rows = pa.concat_tables(kept).filter(pa.array(~in_files))
            self._count(rows)
            self._written = [rows] if len(rows) else []

    def _segments(self) -> list[pa.Table]:
        """Their rows, each once: where rows were moved from older segments into a newer one, both may be there."""
        tables: list[pa.Table] = []
        seen = np.empty(0, np.int64)
        for path in reversed(self._names(PROGRESS)):
            rows = self._segment(path)
            keys = _keys(rows)
            tables.append(rows.filter(pa.array(~np.isin(keys, seen))))
            seen = np.concatenate([seen, keys])
        return tables[::-1]

    def _segment(self, path: str) -> pa.Table:
        try:
            return pq.read_table(path, filesystem=self._filesystem, schema=self._schema)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it, and the same command scores its pages again"
            ) from None

    def _batches(self, path: str) -> Iterator[pa.Table]:
        with self._filesystem.open_input_file(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(columns=["row", "page", "reason"]):
                yield pa.Table.from_batches([batch])

    def _count(self, rows: pa.Table) -> None:
        self.done[rows["row"].to_numpy()] = True
        self.pages += len(rows)
        for counted in pc.value_counts(rows["reason"].drop_null()).to_pylist():
            self.reasons[counted["values"]] += counted["counts"]

    def _write(self, path: str, rows: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        for wait_s in _TRY_AGAIN_AFTER_S:
            try:
                return write_whole(self._filesystem, path, buffer.getvalue())
            except OSError:
                # An object store that is busy is no reason to stop a run of days; a disk that is full stays full.
                if isinstance(self._filesystem, pafs.LocalFileSystem):
                    raise
                time.sleep(wait_s)
        return write_whole(self._filesystem, path, buffer.getvalue())

    def _delete(self, path: str) -> None:
        self._filesystem.delete_file(path)

    def _names(self, folder: str) -> list[str]:
        selector = pafs.FileSelector(self._path(folder), allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return sorted(file.path for file in found if file.extension == "parquet")

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)


def _keys(rows: pa.Table) -> NDArray[np.int64]:
    """One number a row: item and page."""
    return rows["row"].to_numpy() * _MAX_PAGES + rows["page"].to_numpy()
