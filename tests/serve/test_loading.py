"""Bundles that take long to load: once for all who ask, to the end, beside everything else."""

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar

import pytest

from vizecg.platform.errors import UserError
from vizecg.serve.loading import Loads

ASKING: ContextVar[str] = ContextVar("asking")


class Thing:
    """What a weak reference can be had of."""


class Slow:
    """Loads, and keeps, once `go` is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.kept: dict[str, Thing] = {}
        self.asked_by: list[str] = []
        self.go = threading.Event()

    async def __call__(self, key: str) -> Thing:
        self.asked_by.append(ASKING.get(""))
        if key not in self.kept:
            self.calls.append(key)
            await asyncio.to_thread(self.go.wait, 10)
            if key == "broken":
                raise UserError("nothing there")
            self.kept[key] = Thing()
        return self.kept[key]


@pytest.fixture
def slow() -> Slow:
    return Slow()


async def give_up(loads: Loads[str, Thing], key: str, slow: Slow) -> None:
    """Ask, go away, and let it be loaded after that."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loads(key), 0.01)
    slow.go.set()
    await asyncio.sleep(0.1)


def test_all_who_ask_meanwhile_get_the_same(slow: Slow):
    async def run() -> list[Thing]:
        loads = Loads(slow)
        asked = [asyncio.create_task(loads("a")) for _ in range(5)]
        await asyncio.sleep(0.01)
        slow.go.set()
        return [*await asyncio.gather(*asked), await loads("a")]

    things = asyncio.run(run())
    assert len({id(thing) for thing in things}) == 1 and slow.calls == ["a"]


def test_it_is_loaded_to_the_end_where_nobody_waits_any_more(slow: Slow):
    async def run() -> None:
        loads = Loads(slow)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loads("a"), 0.01)
        await give_up(loads, "a", slow)
        assert isinstance(await loads("a"), Thing)

    asyncio.run(run())
    assert slow.calls == ["a"]


def test_the_next_who_asks_hears_why_not_and_the_one_after_tries_again(slow: Slow):
    async def run() -> None:
        loads = Loads(slow)
        await give_up(loads, "broken", slow)
        for calls in (1, 2):
            with pytest.raises(UserError, match="nothing there"):
                await loads("broken")
            assert len(slow.calls) == calls

    asyncio.run(run())


def test_nothing_is_held_that_whoever_keeps_it_lets_go(slow: Slow):
    async def run() -> None:
        loads = Loads(slow)
        await give_up(loads, "a", slow)
        gone = weakref.ref(slow.kept.pop("a"))
        gc.collect()
        assert gone() is None

    asyncio.run(run())


def test_a_load_belongs_to_no_request(slow: Slow):
    async def run() -> None:
        slow.go.set()
        ASKING.set("the first who asks")
        await Loads(slow)("a")

    asyncio.run(run())
    assert slow.asked_by == [""]
