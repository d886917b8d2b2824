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
            return await self._start(user_config)
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

    async def _start(self, user_config: Settings | None) -> None:
        try:
            live = await asyncio.to_thread(lambda: self._shelf.prepared(LiveSettings.of(user_config)))
        except Exception as error:  # Storage, backend and Ray each fail in ways of their own.
            if (in_force := await self._in_force()) is None:
                raise
            self._refused(error)
            live = await self._as_before(LiveSettings.of(in_force))
            self._wanted = live.settings
            return self._shelf.take(live)
        self._wanted = live.settings
        await self._put_in_force(live)

    async def _as_before(self, settings: LiveSettings) -> Live:
        """Of a replica that joins others: an endpoint that answers as they do is better than none."""
        try:
            return await asyncio.to_thread(self._shelf.prepared, settings)
        except Exception as error:
            self._refused(error)
            return self._shelf.prepared(settings.model_copy(update={"canary": None}))

    async def _load(self) -> None:
        tried, live = None, None
        while tried is not (wanted := self._wanted):
            assert wanted is not None
            # Changed again while it was loaded, perhaps in all but the bundle.
            spare = live if live is not None and live.has(wanted.canary) else None
            tried, live = wanted, None
            try:
                live = await asyncio.to_thread(self._shelf.prepared, tried, spare)
            except Exception as error:
                self._refused(error)
            else:
                if tried is self._wanted:
                    await self._put_in_force(live)

    async def _put_in_force(self, live: Live) -> None:
        self._shelf.take(live)
        await self._taken(live.settings.model_dump())
