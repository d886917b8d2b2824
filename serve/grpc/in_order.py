"""Answers to a stream of requests, worked on side by side and given in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def in_order(
    requests: AsyncIterator[Request],
    work: Callable[[int, Request], AsyncIterator[Answer]],
    max_in_work: int,
    size_of: Callable[[Request], int] = lambda request: 1,
) -> AsyncGenerator[Answer, None]:
    """All answers of `work(index, request)`, each as soon as it and all before it are there.

    Reads on while it waits, but begins a request only while the sizes of those whose answers are not all taken, from 1
    to `max_in_work` each, come to `max_in_work` at most: one more at a time is read and waits. What `requests` or
    `work` raise is raised in its place; in the end, however it comes, all that still runs is cancelled.
    """
    begun: asyncio.Queue[tuple[int, asyncio.Queue[Answer | None], asyncio.Task[None]] | None] = asyncio.Queue()
    places = asyncio.Semaphore(max_in_work)
    tasks: set[asyncio.Task[None]] = set()

    async def read() -> None:
        index = 0
        try:
            async for request in requests:
                size = size_of(request)
                for _ in range(size):
                    await places.acquire()
                answers: asyncio.Queue[Answer | None] = asyncio.Queue()
                task = asyncio.create_task(_fill(answers, work(index, request)))
                tasks.add(task)
                begun.put_nowait((size, answers, task))
                index += 1
        finally:
            begun.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (first := await begun.get()) is not None:
            size, answers, task = first
            while (answer := await answers.get()) is not None:
                yield answer
            await task
            tasks.discard(task)
            for _ in range(size):
                places.release()
        await reader
    finally:
        for task in (reader, *tasks):
            task.cancel()
        await asyncio.gather(reader, *tasks, return_exceptions=True)


async def _fill(answers: asyncio.Queue[Answer | None], source: AsyncIterator[Answer]) -> None:
    try:
        async for answer in source:
            answers.put_nowait(answer)
    finally:
        answers.put_nowait(None)
