"""Rows of shards -> EcgBatch, decoded on threads in the process that uses them.

Shapes: B records, K labels, L = 12 leads, T samples, H x W pixels.
"""

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from ...models.batch import EcgBatch
from .labels import LabelSpace
from .read_page import PageSpec, prepare

T = TypeVar("T")


class BatchDecoder:
    """Decodes pages and resolves targets; `shift_px` moves every page a little, another way in every epoch."""

    def __init__(self, label_space: LabelSpace, page: PageSpec, num_threads: int = 2, shift_px: int = 0, seed: int = 0):
        self._label_space = label_space
        self._page = page
        self._shift_px = shift_px
        self._seed = seed
        self._filler: pa.Table | None = None
        # OpenCV releases the interpreter lock, so threads decode at the same time.
        self._pool = ThreadPoolExecutor(num_threads)

    def batch(self, rows: pa.Table, size: int, epoch: int | None = None) -> EcgBatch:
        """Exactly `size` records: rows that lack are filled up with repeated ones of weight zero.

        `epoch` is given in training, where pages are moved.
        """
        self._filler = rows.slice(0, 1) if len(rows) else self._filler
        assert self._filler is not None, "the first step of a run has rows on every worker"
        assert len(rows) <= size, (len(rows), size)
        held = rows if len(rows) else self._filler
        columns = held.take(np.resize(np.arange(len(held)), size))
        ids = columns["record_id"].to_pylist()
        known = [self._label_space.targets(*pair) for pair in zip(*_lists(columns, "codes", "code_set"), strict=True)]
        signal = _fixed_lists(columns["signal"]).reshape(size, 12, -1)
        return EcgBatch(
            page=torch.from_numpy(self._pages(columns["page"], ids, epoch)),
            signal=torch.from_numpy(signal.astype(np.float32) / 1000.0),
            signal_known=torch.from_numpy(columns["signal_known"].to_numpy(zero_copy_only=False).copy()),
            lead_present=torch.from_numpy(_fixed_lists(columns["lead_present"]).reshape(size, 12).copy()),
            valid_samples=torch.from_numpy(columns["valid_samples"].to_numpy().astype(np.int64)),
            target=torch.from_numpy(np.stack([target for target, _ in known])),
            target_known=torch.from_numpy(np.stack([mask for _, mask in known])),
            weight=(torch.arange(size) < len(rows)).float(),
            record_id=ids,
        )

    def _pages(self, pages: pa.ChunkedArray, ids: list[str], epoch: int | None) -> np.ndarray:
        shifts = [self._shift(record_id, epoch) for record_id in ids]
        return np.stack(list(self._pool.map(self._read, pages.to_pylist(), shifts)))

    def _read(self, data: bytes, shift: tuple[int, int]) -> np.ndarray:
        page = prepare(data, self._page)
        if shift == (0, 0):
            return page
        return moved(page, *shift)

    def _shift(self, record_id: str, epoch: int | None) -> tuple[int, int]:
        if epoch is None or not self._shift_px:
            return 0, 0
        key = [self._seed, epoch, zlib.crc32(record_id.encode())]
        down, right = np.random.default_rng(key).integers(-self._shift_px, self._shift_px + 1, 2)
        return int(down), int(right)


def moved(page: np.ndarray, down: int, right: int) -> np.ndarray:
    """uint8 (3, H, W) moved by whole pixels, the border repeated."""
    height, width = page.shape[1:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return page[:, rows[:, None], columns]


def _lists(columns: pa.Table, *names: str) -> list[list[Any]]:
    return [columns[name].to_pylist() for name in names]


def _fixed_lists(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists as a flat array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)


def prefetched(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, made on a thread `depth` ahead of their use; what fails there is raised here.

    A consumer that stops early (`close`, or an error of its own) ends the thread with the item in hand.
    """
    queue: Queue[Any] = Queue(depth)
    done, stopped = object(), Event()

    def fill() -> None:
        try:
            for item in items:
                queue.put(item)
                if stopped.is_set():
                    return
            queue.put(done)
        except BaseException as error:  # Handed over to the thread that consumes.
            queue.put(error)

    Thread(target=fill, daemon=True).start()
    try:
        while (item := queue.get()) is not done:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        # The thread may wait for room; what it still adds after this fits.
        while not queue.empty():
            queue.get_nowait()
