"""What changes while requests are answered: thresholds, and the bundle on trial. No Ray."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .models import Live, ModelShelf
from .settings import LiveSettings

Settings = dict[str, Any]
"""As Serve hands over `user_config`, and as the hub keeps it."""


class LiveChanges:
    """Takes settings as a whole or not at all: where anything in them is wrong, those before stay in force."""

    def __init__(
        self,
        shelf: ModelShelf,
        in_force: Callable[[], Awaitable[Settings | None]],
        taken: Callable[[Settings], Awaitable[None]],
        refused: Callable[[Exception], None],
    ):
        """Settings that some replica took are told to `taken`, and had from `in_force`; None before the first."""
        self._shelf, self._in_force, self._taken, self._refused = shelf, in_force, taken, refused
        self._wanted: LiveSettings | None = None
        self._loading: asyncio.Task[None] | None = None

    async def take(self, user_config: Settings | None) -> None:
        """At a replica's start everything is there when this returns; later a new bundle is loaded beside requests.

        Raises what is wrong with them at the first start of all, when there is nothing to go on with.
        """
        if self._wanted is None:
            live = await self._first(user_config)
            self._wanted = live.settings
            return await self._put_in_force(live)
        try:
            settings = LiveSettings.of(user_config)
            self._shelf.check(settings)
        except ValueError as error:
            return self._refused(error)
        self._wanted = settings
        if not self._shelf.has_to_load(settings):
            await self._put_in_force(self._shelf.prepared(settings))
        elif self._loading is None or self._loading.done():
            # Beside: Serve sends a replica nothing while it waits for this.
            self._loading = asyncio.create_task(self._load())

    async def _first(self, user_config: Settings | None) -> Live:
        prepared = self._shelf.prepared
        try:
            return await asyncio.to_thread(lambda: prepared(LiveSettings.of(user_config)))
        except Exception as error:  # Storage, backend and Ray each fail in ways of their own.
            if (values := await self._in_force()) is None:
                raise
            self._refused(error)
        # A replica that joins others: an endpoint that answers as they do is better than none.
        before = LiveSettings.of(values)
        try:
            return await asyncio.to_thread(prepared, before)
        except Exception as error:
            self._refused(error)
            return prepared(before.model_copy(update={"canary": None}))

    async def _load(self) -> None:
        tried: LiveSettings | None = None
        while self._wanted is not None and tried is not self._wanted:
            tried = self._wanted
            try:
                live = await asyncio.to_thread(self._shelf.prepared, tried)
                if tried is self._wanted:  # Else changed again while it was loaded.
                    await self._put_in_force(live)
            except Exception as error:
                self._refused(error)

    async def _put_in_force(self, live: Live) -> None:
        self._shelf.take(live)
        await self._taken(live.settings.model_dump())
