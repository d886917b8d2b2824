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
from numpy.typing import NDArray

from ...models.batch import EcgBatch
from .drawn import DrawnPages
from .labels import LabelSpace
from .read_page import PageSpec, Pixels, prepare

T = TypeVar("T")

Recorded = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""What was recorded of a signal, (L, n) in mV, and which leads are there, (L,)."""


class BatchDecoder:
    """Decodes pages and resolves targets.

    In training, `shift_px` moves every page a little, another way in every epoch, and `drawn` prints the signals anew
    instead of decoding the stored pages. `num_samples`, T, is what a worker without rows has to know.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        page: PageSpec,
        num_threads: int = 2,
        shift_px: int = 0,
        seed: int = 0,
        *,
        num_samples: int | None = None,
        drawn: DrawnPages | None = None,
    ):
        self._label_space = label_space
        self._page = page
        self._shift_px = shift_px
        self._seed = seed
        self._num_samples = num_samples
        self._drawn = drawn
        # OpenCV releases the interpreter lock, so threads decode at the same time.
        self._pool = ThreadPoolExecutor(num_threads)

    def batch(self, rows: pa.Table, epoch: int | None = None) -> EcgBatch:
        """The records of `rows`; without any, one empty record of weight zero, so that all workers step together.

        `epoch` is given in training, where pages are moved or drawn.
        """
        if not len(rows):
            return self._nothing()
        size, ids = len(rows), rows["record_id"].to_pylist()
        known = [self._label_space.targets(*pair) for pair in zip(*_lists(rows, "codes", "code_set"), strict=True)]
        signal_mv = _fixed_lists(rows["signal"]).reshape(size, 12, -1).astype(np.float32) / 1000.0
        signal_known = rows["signal_known"].to_numpy(zero_copy_only=False).copy()
        lead_present = _fixed_lists(rows["lead_present"]).reshape(size, 12).copy()
        valid_samples = rows["valid_samples"].to_numpy().astype(np.int64)
        recorded = [
            (signal[:, :valid], present) if is_known else None
            for signal, valid, present, is_known in zip(
                signal_mv, valid_samples, lead_present, signal_known, strict=True
            )
        ]
        pages = self._pool.map(self._read_page, rows["page"].to_pylist(), recorded, ids, [epoch] * size)
        return EcgBatch(
            page=torch.from_numpy(np.stack(list(pages))),
            signal=torch.from_numpy(signal_mv),
            signal_known=torch.from_numpy(signal_known),
            lead_present=torch.from_numpy(lead_present),
            valid_samples=torch.from_numpy(valid_samples),
            target=torch.from_numpy(np.stack([target for target, _ in known])),
            target_known=torch.from_numpy(np.stack([mask for _, mask in known])),
            weight=torch.ones(size),
            record_id=ids,
        )

    def _nothing(self) -> EcgBatch:
        assert self._num_samples is not None, "a decoder that may meet no rows knows the length of signals"
        num_labels = len(self._label_space.labels)
        return EcgBatch(
            page=torch.full((1, 3, self._page.height_px, self._page.width_px), 255, dtype=torch.uint8),
            signal=torch.zeros(1, 12, self._num_samples),
            signal_known=torch.zeros(1, dtype=torch.bool),
            lead_present=torch.zeros(1, 12, dtype=torch.bool),
            valid_samples=torch.zeros(1, dtype=torch.int64),
            target=torch.zeros(1, num_labels),
            target_known=torch.zeros(1, num_labels, dtype=torch.bool),
            weight=torch.zeros(1),
            record_id=[""],
        )

    def _read_page(self, stored: bytes, recorded: Recorded | None, record_id: str, epoch: int | None) -> Pixels:
        if epoch is None:
            return prepare(stored, self._page)
        if self._drawn is None or recorded is None:
            page = prepare(stored, self._page)
        else:
            page = self._drawn.draw(*recorded, record_id, epoch, self._page)
        shift = self._shift(record_id, epoch)
        return page if shift == (0, 0) else moved(page, *shift)

    def _shift(self, record_id: str, epoch: int) -> tuple[int, int]:
        if not self._shift_px:
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
