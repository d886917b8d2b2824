"""The places of a replica: a request holds one while it is in work, whatever protocol it came by."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .problems import Refused

_LEAST_WAIT_S, _LONGEST_WAIT_S = 1.0, 10.0


class Places:
    """So many requests at once; others are refused, and told when to come back."""

    def __init__(self, number: int):
        self._number, self._free = number, asyncio.Semaphore(number)
        self._held_s = 0.0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """One of them, for `async with`; Refused where all are taken."""
        if self._free.locked():
            # In so long all that are here now have been answered, as far as the last one tells.
            wait_s = min(_LONGEST_WAIT_S, max(_LEAST_WAIT_S, self._held_s))
            text = f"{self._number} requests are in work here; try again in {wait_s:.0f} s."
            raise Refused(503, "busy", text, retry_after_s=wait_s)
        async with self._free:
            began_s = time.monotonic()
            try:
                yield
            finally:
                self._held_s = time.monotonic() - began_s
