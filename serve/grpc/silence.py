"""How long a client may send nothing: its stream holds a place."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..problems import Refused

Request = TypeVar("Request")


class Silence:
    """Of one stream. Who waits for an answer may be silent, and has the whole time again once it is there."""

    def __init__(self, max_s: float):
        self._max_s, self._num_in_work, self._ended_at = max_s, 0, 0.0

    @contextmanager
    def broken(self) -> Iterator[None]:
        """While a request is in work."""
        self._num_in_work += 1
        try:
            yield
        finally:
            self._num_in_work -= 1
            self._ended_at = asyncio.get_running_loop().time()

    async def ended_by(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """The requests.

        Raises:
            Refused: `max_s` passed without one, and without one in work.
        """
        messages = aiter(requests)
        while (request := await self._wait_for(messages)) is not None:
            yield request

    async def _wait_for(self, messages: AsyncIterator[Request]) -> Request | None:
        began_at = asyncio.get_running_loop().time()
        coming = asyncio.ensure_future(anext(messages, None))
        try:
            while (left_s := self._left_s(began_at)) > 0:
                if (await asyncio.wait((coming,), timeout=left_s))[0]:
                    return coming.result()
        finally:
            coming.cancel()
        raise Refused(400, "incomplete_body", f"The next file did not arrive within {self._max_s:g} s.")

    def _left_s(self, began_at: float) -> float:
        if self._num_in_work:
            return self._max_s
        return max(began_at, self._ended_at) + self._max_s - asyncio.get_running_loop().time()
