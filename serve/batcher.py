"""Pages that arrive while others are predicted go together into the next batch.

None waits for a batch to fill: with one page in flight nothing is added to its time, and the more arrive, the fuller
batches get. `serve.batch` of Ray Serve waits a set time for more, which costs every page that time at low load.

Shapes: B pages, K labels, H x W pixels.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pages = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Predicted:
    """One page's share of a batch."""

    probability: Probabilities
    """(K,)."""
    batch_pages: int
    predict_s: float
    """Of the whole batch."""


@dataclass(frozen=True)
class _Waiting:
    page: Pages
    answer: "asyncio.Future[Predicted]"


class Batcher:
    """Awaitable prediction of single pages; belongs to the event loop that first awaits it."""

    def __init__(
        self,
        predict: Callable[[Pages], Probabilities],
        max_batch_size: int,
        executor: Executor,
        on_batch: Callable[[int], None] = lambda pages: None,
    ):
        """`predict` takes (B, 3, H, W) and gives (B, K), on a thread of `executor`; `on_batch` hears its size."""
        self._predict, self._max, self._executor, self._on_batch = predict, max_batch_size, executor, on_batch
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, page: Pages) -> Predicted:
        """(3, H, W) -> its probabilities; raises what `predict` raises for the batch."""
        answer: asyncio.Future[Predicted] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(page, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def _work(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[: self._max], self._waiting[self._max :]
            # Whoever has gone away meanwhile needs no answer.
            if batch := [each for each in taken if not each.answer.done()]:
                await self._answer(batch)

    async def _answer(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            pages = np.stack([each.page for each in batch])
            probabilities = await asyncio.get_running_loop().run_in_executor(self._executor, self._predict, pages)
            seconds = time.perf_counter() - started
            self._on_batch(len(batch))
            answers = [Predicted(row, len(batch), seconds) for row in probabilities]
            assert len(answers) == len(batch), "a row of probabilities for every page"
        except Exception as error:
            # Every page of the batch fails with it, and the next batch is tried all the same.
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
