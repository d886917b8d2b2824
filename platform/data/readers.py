"""Windows of shards, read ahead of their use on threads of the process that uses them.

Reading is a few milliseconds of Arrow's own code a window, outside the interpreter lock. Ray tasks that read for the
workers cost a process and a copy through the object store, hold CPUs that an elastic run counts as room for workers,
and starve where workers hold them all.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa

from ..config import NUM_LANES
from .batches import Window, as_row, read_window

_THREADS = 2
_WINDOWS_AHEAD = NUM_LANES
"""One of every lane: the first step of an epoch needs them all."""


def read_on_threads(windows: Iterable[Window]) -> Iterator[pa.Table]:
    """The records of every window in turn."""
    waiting = iter(windows)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="shards") as pool:
        ahead = deque(pool.submit(_read, window) for window in islice(waiting, _WINDOWS_AHEAD))
        while ahead:
            rows = ahead.popleft().result()
            ahead.extend(pool.submit(_read, window) for window in islice(waiting, 1))
            yield rows


def _read(window: Window) -> pa.Table:
    return read_window(pa.Table.from_pylist([as_row(window)]))
