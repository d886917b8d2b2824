"""Settings that change while requests are answered: as a whole or not at all, and the latest ones alone."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vizecg.platform.bundle import read_facts
from vizecg.platform.errors import UserError
from vizecg.serve.batcher import Predicted
from vizecg.serve.live import LiveChanges, Settings
from vizecg.serve.models import ModelShelf, ServedModel
from vizecg.serve.settings import DEFAULT_MODEL, Canary, LiveSettings


async def predict(page: np.ndarray) -> Predicted:
    return Predicted(np.zeros(7, np.float32), 1, 0.0)


@dataclass
class Replica:
    """A shelf whose bundles on trial load when the test says so; `broken` ones cannot be loaded."""

    folder: Path
    in_force: Settings | None = None
    """What replicas before it told to the hub."""
    refused: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    gates: dict[str, threading.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shelf = ModelShelf(self._model(False), {}, self._no_other, self._load)
        self.changes = LiveChanges(
            self.shelf, self._in_force, self._taken, lambda error: self.refused.append(str(error))
        )

    def _model(self, is_canary: bool) -> ServedModel:
        return ServedModel(DEFAULT_MODEL, self.folder, read_facts(self.folder), "none", predict, is_canary)

    async def _no_other(self, name: str) -> ServedModel:
        raise NotImplementedError

    def _load(self, canary: Canary) -> ServedModel:
        self.loads.append(canary.bundle)
        if canary.bundle in self.gates:
            assert self.gates[canary.bundle].wait(10)
        if canary.bundle.startswith("broken"):
            raise UserError(f"{canary.bundle}: no model bundle here")
        return self._model(True)

    async def _in_force(self) -> Settings | None:
        return self.in_force

    async def _taken(self, settings: Settings) -> None:
        self.in_force = settings

    def gate(self, bundle: str) -> threading.Event:
        self.gates[bundle] = threading.Event()
        return self.gates[bundle]

    @property
    def now(self) -> tuple[float | None, str | None, float]:
        """Own threshold of AF, bundle on trial and its share, in force."""
        live = self.shelf._live
        canary = live.settings.canary
        assert (canary is None) == (live.canary is None)
        own = live.settings.thresholds.get(DEFAULT_MODEL, {}).get("AF")
        return own, canary.bundle if canary else None, canary.share if canary else 0.0


def settings(threshold: float, bundle: str = "", share: float = 0.5) -> Settings:
    trial = {"canary": {"bundle": bundle, "share": share}} if bundle else {}
    return {"thresholds": {DEFAULT_MODEL: {"AF": threshold}}, **trial}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def replica(bundle_folder: Path) -> Replica:
    return Replica(bundle_folder)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_replica_starts_with_its_bundle_on_trial(replica: Replica):
    run(replica.changes.take(settings(0.1, "new")))
    assert replica.now == (0.1, "new", 0.5)


def test_what_needs_no_loading_keeps_the_bundle_on_trial(replica: Replica):
    async def work() -> None:
        await replica.changes.take(settings(0.1, "new", 0.05))
        canary = replica.shelf._live.canary
        await replica.changes.take(settings(0.1, "new", 0.2))
        await replica.changes.take(settings(0.3, "new", 0.2))
        assert replica.now == (0.3, "new", 0.2) and replica.shelf._live.canary is canary
        await replica.changes.take(None)
        assert replica.now == (None, None, 0.0)

    run(work())
    assert replica.loads == ["new"]


def test_all_stays_as_it_was_until_a_new_bundle_is_loaded(replica: Replica):
    async def work() -> None:
        await replica.changes.take(settings(0.1, "old"))
        loaded = replica.gate("new")
        await replica.changes.take(settings(0.9, "new"))
        await until(lambda: replica.loads == ["old", "new"])
        assert replica.now == (0.1, "old", 0.5)
        loaded.set()
        await until(lambda: replica.now == (0.9, "new", 0.5))

    run(work())


def test_a_bundle_that_cannot_be_loaded_changes_nothing(replica: Replica):
    async def work() -> None:
        await replica.changes.take(settings(0.1, "old"))
        await replica.changes.take(settings(0.9, "broken"))
        await until(lambda: bool(replica.refused))
        assert replica.now == (0.1, "old", 0.5) and replica.in_force == settings(0.1, "old")
        await replica.changes.take(settings(0.7))
        assert replica.now == (0.7, None, 0.0)

    run(work())
    assert replica.refused == ["broken: no model bundle here"]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (settings(0.9, "second"), (0.9, "second", 0.5)),
        (settings(0.9, "start"), (0.9, "start", 0.5)),
        (settings(0.9, "first", 0.2), (0.9, "first", 0.2)),
        (settings(0.9), (0.9, None, 0.0)),
    ],
)
def test_what_was_overtaken_while_it_was_loaded_never_comes_into_force(
    replica: Replica, last: Settings, expected: tuple[float | None, str | None, float]
):
    seen = []

    async def work() -> None:
        await replica.changes.take(settings(0.1, "start"))
        loaded = replica.gate("first")
        await replica.changes.take(settings(0.5, "first"))
        await until(lambda: replica.loads[-1] == "first")
        await replica.changes.take(last)
        loaded.set()
        assert replica.changes._loading is not None
        while not replica.changes._loading.done():
            seen.append(replica.now)
            await asyncio.sleep(0)

    run(work())
    assert replica.now == expected and (0.5, "first", 0.5) not in seen
    assert max(Counter(replica.loads).values()) == 1
    assert LiveSettings.of(replica.in_force) == LiveSettings.of(last)


@pytest.mark.parametrize("wrong", [{"thresholds": {"nobody": {}}}, {"threshold": 1}, settings(0.5, "broken")])
def test_a_mistake_fails_the_first_start_alone(replica: Replica, wrong: Settings):
    with pytest.raises(ValueError):
        run(replica.changes.take(wrong))
    replica.in_force = settings(0.2, "old")
    run(replica.changes.take(wrong))
    assert replica.now == (0.2, "old", 0.5) and len(replica.refused) == 1
    assert replica.in_force == settings(0.2, "old")


def test_a_replica_starts_without_a_bundle_on_trial_that_is_gone_by_now(replica: Replica):
    replica.in_force = settings(0.2, "broken-since")
    run(replica.changes.take({"threshold": 1}))
    assert replica.now == (0.2, None, 0.0) and len(replica.refused) == 2
    assert replica.in_force == settings(0.2, "broken-since"), "what others have in force is not for it to change"


def test_a_mistake_later_leaves_what_is_wanted_as_it_is(replica: Replica):
    async def work() -> None:
        await replica.changes.take(None)
        loaded = replica.gate("new")
        await replica.changes.take(settings(0.4, "new"))
        await replica.changes.take({"thresholds": {DEFAULT_MODEL: {"NOTHING": 0.5}}})
        loaded.set()
        await until(lambda: replica.now == (0.4, "new", 0.5))

    run(work())
    assert len(replica.refused) == 1
