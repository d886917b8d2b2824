"""The classifier of its own: bundles are loaded beside predictions, and make room for each other."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vizecg.platform.bundle import read_facts
from vizecg.platform.errors import UserError
from vizecg.serve import app
from vizecg.serve.batcher import Predicted
from vizecg.serve.models import ServedModel
from vizecg.serve.settings import DEFAULT_MODEL, AppArgs

PAGE = np.zeros((3, 4, 4), np.uint8)


class Bundles:
    """In place of LocalModels: a bundle has its location for a hash, and one at `slow` loads once `go` is set."""

    def __init__(self, folder: Path):
        self.folder, self.go, self.loads = folder, threading.Event(), []

    def load(self, name: str, location: str) -> ServedModel:
        self.loads.append(location)
        assert location != "slow" or self.go.wait(10)
        facts = read_facts(self.folder).model_copy(update={"content_hash": location})

        async def predict(page: np.ndarray) -> Predicted:
            return Predicted(np.zeros(7, np.float32), 1, 0.0)

        return ServedModel(name, self.folder, facts, "none", predict)


@pytest.fixture
def bundles(bundle_folder: Path) -> Bundles:
    return Bundles(bundle_folder)


@pytest.fixture
def classifier(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(app, "LocalModels", lambda args, metrics: bundles)
    monkeypatch.setattr(app, "MetricsPusher", lambda hub, metrics: None)
    return app.Classifier.func_or_class(AppArgs(bundle="default", models_in_memory=2), None)


def test_a_bundle_that_is_being_loaded_keeps_nobody_waiting(classifier: Any, bundles: Bundles):
    async def run() -> None:
        await classifier.load(DEFAULT_MODEL, "default", "default")
        loading = asyncio.create_task(classifier.load(DEFAULT_MODEL, "slow", "slow"))
        await asyncio.sleep(0.02)
        await asyncio.wait_for(classifier.predict(DEFAULT_MODEL, "default", "default", PAGE), 1)
        assert not loading.done()
        bundles.go.set()
        await loading

    asyncio.run(run())
    assert bundles.loads == ["default", "slow"]


def test_the_least_used_goes(classifier: Any, bundles: Bundles):
    async def run() -> None:
        for location in ("default", "a", "b", "default", "c", "default", "a"):
            await classifier.predict("any", location, location, PAGE)

    asyncio.run(run())
    assert bundles.loads == ["default", "a", "b", "c", "a"]


def test_another_bundle_at_that_place_is_refused(classifier: Any):
    with pytest.raises(UserError, match="has changed"):
        asyncio.run(classifier.load(DEFAULT_MODEL, "default", "what readers have"))
