"""From the bytes of a request to pages as the model sees them, on threads, within bounds of time and memory.

A thread cannot be stopped. What takes too long is answered at once and finishes unheard; where that happens to all
threads at a time, `is_stuck` says so and Serve replaces the replica.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

from ..platform.data.read_page import PageSpec, Reading, ReadPage, read_page
from ..platform.data.reading.dicom import dicom_page, is_dicom, num_dicom_pages
from ..platform.data.reading.formats import Pixels
from ..platform.data.reading.pictures import num_pages
from ..platform.errors import PageError
from ..platform.page_look import LearnedPages
from .problems import Refused, refusal_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class DecodedPage:
    """A page, and what is known of the document around it."""

    page: ReadPage
    number: int
    num_pages: int
    decode_s: float
    """With the wait for a thread."""
    unlikeness: float = 0.0
    """To the pages that the model learned from (platform/page_look.py); 0 where it does not say what they were."""

    @property
    def pixels(self) -> Pixels:
        """uint8 RGB (3, H, W)."""
        return self.page.pixels


class Decoders:
    """The threads of one replica that decode."""

    def __init__(self, num_threads: int, max_s: float, max_bytes: int, max_pixels: int):
        # Threads of their own would take the cores from the pages beside; OpenBLAS's also let one caller in at a time.
        cv2.setNumThreads(1)
        threadpool_limits(1, user_api="blas")
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
        self._num_threads, self._max_s, self._max_bytes, self._max_pixels = num_threads, max_s, max_bytes, max_pixels
        self._begun_at: dict[object, float] = {}
        """Of what threads have in hand; changed by them."""

    @property
    def is_stuck(self) -> bool:
        """Every thread is busy with something that should have been done long ago, whoever still waits for it."""
        now = time.monotonic()
        overdue = [begun for begun in [*self._begun_at.values()] if now - begun > self._max_s]
        return len(overdue) >= self._num_threads

    async def read(
        self, data: bytes, number: int, spec: PageSpec, reading: Reading, learned: LearnedPages | None = None
    ) -> DecodedPage:
        """Page `number`, from 1, of a picture, PDF or DICOM file, for a model that `learned` from certain pages.

        Raises:
            Refused: it cannot be read, or takes too long.
        """
        started = time.perf_counter()
        page, pages, unlikeness = await self._run(lambda: self._read(data, number, spec, reading, learned))
        return DecodedPage(page, number, pages, time.perf_counter() - started, unlikeness)

    async def count(self, data: bytes) -> int:
        """Pages of a picture, PDF or DICOM file; raises Refused where that cannot be known."""
        return await self._run(lambda: self._count(data))

    def _count(self, data: bytes) -> int:
        count = num_dicom_pages if is_dicom(data) else num_pages
        return count(data, max_bytes=self._max_bytes)

    def _read(
        self, data: bytes, number: int, spec: PageSpec, reading: Reading, learned: LearnedPages | None
    ) -> tuple[ReadPage, int, float]:
        """The page, how many there are, and its unlikeness."""
        pages = self._count(data)
        if number > pages:
            raise PageError("no_such_page", f"there is no page {number}: the document has {pages}")
        read = dicom_page if is_dicom(data) else read_page
        limits = {"max_bytes": self._max_bytes, "max_pixels": self._max_pixels}
        page = read(data, spec, reading, page=number - 1, **limits)
        return page, pages, learned.unlikeness(page.pixels) if learned else 0.0

    async def _run(self, work: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        begun = loop.create_future()

        def timed() -> Result:
            # The clock of a page runs from when a thread takes it up: waiting is the queue's affair, not the page's.
            loop.call_soon_threadsafe(lambda: begun.done() or begun.set_result(None))
            self._begun_at[begun] = time.monotonic()
            try:
                return work()
            finally:
                del self._begun_at[begun]

        done = loop.run_in_executor(self._pool, timed)
        done.add_done_callback(_hear)
        try:
            await asyncio.wait((begun, done), return_when=asyncio.FIRST_COMPLETED)
            return await asyncio.wait_for(asyncio.shield(done), self._max_s)
        except asyncio.CancelledError:
            done.cancel()  # Where no thread has taken it up, none will.
            raise
        except TimeoutError:
            text = f"The page takes longer than {self._max_s:g} s to decode; save it as a plain picture."
            raise Refused(422, "too_slow", text) from None
        except PageError as error:
            raise refusal_of(error) from None


def _hear(done: "asyncio.Future[Result]") -> None:
    # Or asyncio complains of an error that nobody asked for, where a client has gone away meanwhile.
    if not done.cancelled():
        done.exception()
