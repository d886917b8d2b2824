"""What an archive's pages cost: stretches from all over it, scored as a run scores them, with every core at work.

One busy core alone would promise too much: two hyperthreads do hardly more than one, and cores share their memory.
"""

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.context import SpawnProcess
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import UserError
from ..job import Chunk
from ..rows import SCORED
from ..scorer import ScorerJob, decoded_pages, score_pages_of
from ..sources.base import Source
from .work import Sample, Stretch

STRETCH_ITEMS = {"shards": 64, "table": 64}
"""Neighbours that are measured together: what lies in one file is read in greater pieces."""
_STRETCH_ITEMS = 16
_SLOTS = 2
"""Calls at once in a predictor, as in a run: one decodes while the other predicts."""
_LEAST_STRETCHES = 16
"""An interval from fewer would be made up."""
_PREDICT_TIMES = 5


@dataclass(frozen=True)
class _Chosen:
    chunks: list[Chunk]
    bytes_each: list[int]
    input_bytes: int
    listing_s: float


def measure_sample(source: Source, job: ScorerJob, sample_pages: int) -> Sample:
    """Score about so many pages of the source on all cores; `job.num_threads` of them are a predictor's.

    Raises:
        UserError: a process was killed while it scored.
    """
    cores = os.cpu_count() or 1
    num_processes = max(1, cores // job.num_threads)
    length = STRETCH_ITEMS.get(source.kind, _STRETCH_ITEMS)
    count = max(-(-sample_pages // length), _LEAST_STRETCHES, 4 * num_processes)
    chosen = _choose(source, count, length)
    with _Crew(job, chosen.chunks, num_processes) as crew:
        measured = crew.measure(2 * max(sample_pages, count * length))
        predict_s = crew.predict_seconds()
    share = job.num_threads / _SLOTS
    stretches = [
        Stretch(
            items=len(chosen.chunks[number].items), input_bytes=chosen.bytes_each[number], pages=len(table),
            scored=int(pc.sum(pc.equal(table["status"], SCORED)).as_py() or 0), core_s=share * elapsed_s,
        )
        for number, elapsed_s, table in measured
    ]  # fmt: skip
    tables = pa.concat_tables([table for _, _, table in measured])
    return Sample(
        stretches=tuple(stretches), num_items=source.num_items, input_bytes=chosen.input_bytes,
        sources=tuple(dict.fromkeys(tables["source"].to_pylist())), cores=cores,
        predict_core_s=predict_s * job.num_threads / job.batch_pages, output_page_bytes=_page_bytes(tables),
        listing_s=chosen.listing_s, start_s=crew.start_s,
    )  # fmt: skip


def spread(num_items: int, count: int, length: int, seed: int = 0) -> list[range]:
    """`count` stretches of `length` items at random places of as many equal parts of the archive, in random order."""
    rng = np.random.default_rng(seed)
    if num_items <= count * length:
        found = [range(start, min(start + length, num_items)) for start in range(0, num_items, length)]
    else:
        edges = num_items * np.arange(count + 1) // count
        starts = edges[:-1] + rng.integers(np.diff(edges) - length + 1)
        found = [range(start, start + length) for start in starts.tolist()]
    return [found[n] for n in rng.permutation(len(found))]


def _choose(source: Source, count: int, length: int) -> _Chosen:
    """One walk through the listing, however long it is."""
    begun = time.perf_counter()
    stretches = spread(source.num_items, count, length)
    by_row = {row: number for number, stretch in enumerate(stretches) for row in stretch}
    found: list[list[tuple[int, str]]] = [[] for _ in stretches]
    sizes, total = [0] * len(stretches), 0
    for row, (item, size) in enumerate(source.items()):
        total += size
        if (number := by_row.get(row)) is not None:
            found[number].append((row, item))
            sizes[number] += size
    chunks = [Chunk(tuple(row for row, _ in items), tuple(item for _, item in items)) for items in found]
    return _Chosen(chunks, sizes, total, time.perf_counter() - begun)


def _page_bytes(rows: pa.Table) -> float:
    """Of the output, a page."""
    import pyarrow.parquet as pq

    def written(table: pa.Table) -> int:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return sink.getvalue().size

    return (written(rows) - written(rows.slice(0, 0))) / max(len(rows), 1)


Measured = tuple[int, float, pa.Table]
"""Number of a stretch, seconds from its beginning to its end, its rows."""


class _Crew:
    """Processes that score stretches over and over until enough is measured, so that no core is idle before."""

    def __init__(self, job: ScorerJob, chunks: Sequence[Chunk], num_processes: int):
        context = multiprocessing.get_context("spawn")
        self._results = context.Queue()
        self._enough = context.Event()
        # Kept, because a process takes it by its name, which is gone with the last object here.
        self._gate = context.Barrier(_SLOTS * num_processes)
        # More processes than stretches: some measure the same ones.
        firsts = [number % len(chunks) for number in range(num_processes)]
        shares = [[(n, chunks[n]) for n in range(first, len(chunks), num_processes)] for first in firsts]
        self._processes: list[SpawnProcess] = [
            context.Process(target=_work, args=(job, share, self._gate, self._enough, self._results), daemon=True)
            for share in shares
        ]
        self._wanted = {number for share in shares for number, _ in share}
        self.start_s = 0.0

    def __enter__(self) -> "_Crew":
        begun = time.monotonic()
        for process in self._processes:
            process.start()
        for _ in self._processes:
            self._next()
        self.start_s = time.monotonic() - begun
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def measure(self, most_pages: int) -> list[Measured]:
        """Every stretch once; where items have many pages, as many as hold `most_pages`."""
        found: dict[int, Measured] = {}
        pages = 0
        while len(found) < len(self._wanted) and (pages < most_pages or len(found) < _LEAST_STRETCHES):
            measured: Measured = self._next()
            pages += len(measured[2]) if measured[0] not in found else 0
            found.setdefault(measured[0], measured)
        self._enough.set()
        return list(found.values())

    def predict_seconds(self) -> float:
        """Of one batch, while all others predict, too."""
        seconds: list[float] = []
        while len(seconds) < len(self._processes):
            if isinstance(told := self._next(), float):
                seconds.append(told)
        return float(np.mean(seconds))

    def _next(self) -> Any:
        while True:
            try:
                return self._results.get(timeout=1)
            except queue.Empty:
                if any(process.exitcode for process in self._processes):
                    raise UserError(
                        "a process that measured the sample was killed or failed, perhaps for want of memory; "
                        "what it said stands above"
                    ) from None


def _work(job: ScorerJob, share: list[tuple[int, Chunk]], gate: Any, enough: Any, results: Any) -> None:
    """A process of the crew: says that it is ready, then what stretches took, then what a batch takes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    predictor = job.predictor()
    results.put("ready")
    decoders = ThreadPoolExecutor(job.num_threads + 1)
    turn = threading.Lock()
    stretches: Iterator[tuple[int, Chunk]] = cycle(share)

    def score(chunk: Chunk) -> pa.Table:
        return score_pages_of(decoded_pages(chunk, job, predictor.bundle.page, decoders), job, predictor, turn)

    def slot() -> None:
        try:
            score(share[-1][1])  # The first one is slow for reasons that the archive does not share.
            gate.wait()
            while not enough.is_set():
                number, chunk = next(stretches)
                begun = time.perf_counter()
                rows = score(chunk)
                results.put((number, time.perf_counter() - begun, rows))
        except BaseException:
            enough.set()
            gate.abort()
            raise

    with ThreadPoolExecutor(_SLOTS) as slots:
        for done in [slots.submit(slot) for _ in range(_SLOTS)]:
            done.result()
    spec = predictor.bundle.page
    pixels = np.random.default_rng(0).integers(0, 256, (job.batch_pages, 3, spec.height_px, spec.width_px), np.uint8)
    begun = time.perf_counter()
    for _ in range(_PREDICT_TIMES):
        predictor.predict_pages(pixels)
    results.put((time.perf_counter() - begun) / _PREDICT_TIMES)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
