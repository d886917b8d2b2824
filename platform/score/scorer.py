"""The worker of a scoring run: items in, rows of the table out. On a CPU it reads, decodes and predicts at once.

A chunk comes and goes as one row of a Ray Data table, so that its pages are in the output together or not at all.

Shapes: P pages of a batch, K labels, H x W pixels.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ..backends.compiled import Compiled
from ..data.read_page import PageSpec, Reading, ReadPage
from ..errors import PageError
from ..predictor import PagePredictor
from .job import Chunk
from .rows import READER_FAILED, ScoredPage, rows_of
from .sources.base import Item, Reader

_PAGES_AT_ONCE = 8
"""Of a document, that one thread decodes before others have their turn."""


@dataclass(frozen=True, kw_only=True)
class ScorerJob:
    """What every worker of a run needs; travels through the object store once."""

    bundle_json: str
    compiled: Compiled
    reader: Reader
    reading: Reading
    num_threads: int
    device: str
    batch_pages: int

    def predictor(self) -> PagePredictor:
        """Ready to predict."""
        return PagePredictor.of(self.bundle_json, self.compiled, num_threads=self.num_threads, device=self.device)


def chunk_table(chunk: Chunk) -> pa.Table:
    """A chunk as a row for Ray Data."""
    return pa.table({"rows": pa.array([chunk.rows], pa.list_(pa.int64())), "items": [list(chunk.items)]})


def chunk_of(table: pa.Table) -> Chunk:
    """Inverse of `chunk_table`."""
    (rows,), (items,) = table["rows"].to_pylist(), table["items"].to_pylist()
    return Chunk(tuple(rows), tuple(items))


class PageScorer:
    """Ray Data actor: a chunk -> its rows, as one value."""

    def __init__(self, job: Any):
        self._job: ScorerJob = ray.get(job)
        self._predictor = self._job.predictor()
        # One more than cores: files are waited for while others are decoded.
        self._pool = ThreadPoolExecutor(self._job.num_threads + 1, thread_name_prefix="decode")
        self._turn = Lock()

    def __call__(self, table: pa.Table) -> pa.Table:
        return pack(self.score(chunk_of(table)))

    def score(self, chunk: Chunk) -> pa.Table:
        """All pages of the chunk, in its order."""
        pages = decoded_pages(chunk, self._job, self._predictor.bundle.page, self._pool)
        return score_pages_of(pages, self._job, self._predictor, self._turn)


def score_pages_of(pages: Iterator[ScoredPage], job: ScorerJob, predictor: PagePredictor, turn: Lock) -> pa.Table:
    """Rows of these pages, predicted in full batches; `turn` is taken by one batch after the other."""
    tables = []
    while batch := list(islice(pages, job.batch_pages)):
        probability = np.full((len(batch), len(predictor.bundle.label_space.labels)), np.nan, np.float32)
        read = {n: page.loaded.pixels for n, page in enumerate(batch) if isinstance(page.loaded, ReadPage)}
        if read:
            with turn:
                probability[list(read)] = predictor.predict_pages(np.stack(list(read.values())))
        batch = [_finite(page, row) for page, row in zip(batch, probability, strict=True)]
        tables.append(rows_of(batch, probability, predictor.bundle, job.compiled.name))
    return pa.concat_tables(tables).combine_chunks()


def _finite(page: ScoredPage, probability: NDArray[np.float32]) -> ScoredPage:
    """A page of which the model says something that is no number is rejected."""
    if isinstance(page.loaded, ReadPage) and not np.isfinite(probability).all():
        return replace(page, loaded=PageError("not_a_number", "the model gave a probability that is no number"))
    return page


def decoded_pages(chunk: Chunk, job: ScorerJob, spec: PageSpec, pool: ThreadPoolExecutor) -> Iterator[ScoredPage]:
    """The chunk's pages in order, decoded ahead of their use on the threads of `pool`."""
    ahead: deque[tuple[Iterator[ScoredPage], Future[list[ScoredPage]]]] = deque()
    for row, item in zip(chunk.rows, job.reader.open(chunk.items), strict=True):
        pages = _pages_of(row, item, job, spec)
        ahead.append((pages, pool.submit(_some, pages)))
        if len(ahead) > 2 * job.batch_pages:
            yield from _all_of(*ahead.popleft(), pool)
    while ahead:
        yield from _all_of(*ahead.popleft(), pool)


def _all_of(
    pages: Iterator[ScoredPage], first: Future[list[ScoredPage]], pool: ThreadPoolExecutor
) -> Iterator[ScoredPage]:
    """Of one item; a document of a thousand pages is never in memory as a whole."""
    some = first.result()
    while some:
        yield from some
        some = pool.submit(_some, pages).result() if len(some) == _PAGES_AT_ONCE else []


def _some(pages: Iterator[ScoredPage]) -> list[ScoredPage]:
    return list(islice(pages, _PAGES_AT_ONCE))


def _pages_of(row: int, item: Item, job: ScorerJob, spec: PageSpec) -> Iterator[ScoredPage]:
    number = 0
    try:
        loaded = item.pages(spec, job.reading)
        first = list(islice(loaded, 2))
        for number, each in enumerate(chain(first, loaded), 1):
            name = f"{item.id}#{number}" if len(first) > 1 else item.id
            yield ScoredPage(row, number, name, item.source, each)
        if not first:
            yield ScoredPage(row, 1, item.id, item.source, PageError("empty", "the document has no pages"))
    except Exception as error:
        # A fault of the program: told in the page's row, and counted; follow.py stops a run of which too many meet it.
        failed = PageError(READER_FAILED, f"the reader failed: {type(error).__name__}: {error}")
        yield ScoredPage(row, number + 1, item.id, item.source, failed)


def pack(table: pa.Table) -> pa.Table:
    """A chunk's rows as one value, and who made them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    worker = f"{ray.get_runtime_context().get_node_id()}/{os.getpid()}"
    return pa.table({"table": pa.array([sink.getvalue().to_pybytes()], pa.large_binary()), "worker": [worker]})


def unpack(packed: pa.Table) -> Sequence[tuple[str, pa.Table]]:
    """(worker, its rows) of every packed chunk."""
    values = zip(packed["worker"].to_pylist(), packed["table"], strict=True)
    # Copied: what only points into the object store keeps it full.
    return [(worker, pa.ipc.open_stream(value.as_buffer().to_pybytes()).read_all()) for worker, value in values]
