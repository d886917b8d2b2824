"""What tests of training share: the smallest run there is, alone in this process or on Ray Train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vizecg.platform.config import TrainConfig, load_config
from vizecg.platform.train.checkpoint import FOLDER, begin_attempt
from vizecg.platform.train.worker import Worker

TINY = (
    "model.size=debug",
    "data.page_width_px=128",
    "data.page_height_px=96",
    "batch_size=16",
    "epochs=2",
    "optimizer.learning_rate=1e-3",
    "scaling.threads_per_worker=1",
)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., TrainConfig]:
    """A configuration that trains in seconds, with overrides."""
    return lambda *overrides: load_config(None, [*TINY, *overrides])


@pytest.fixture(scope="session")
def tiny_command() -> Callable[..., list[str]]:
    """The same as arguments of `vizecg train`."""
    return lambda *overrides: [part for override in (*TINY, *overrides) for part in ("--set", override)]


@pytest.fixture
def alone(one_thread: None) -> Callable[..., Worker]:
    """A single worker in this process; it keeps checkpoints in `out`, and its reports in `reported`."""

    def make(reported: list[dict[str, Any]], out: Path | None = None) -> Worker:
        if out is not None:
            begin_attempt(out / FOLDER, "test")
        return Worker(
            rank=0, world_size=1, device=torch.device("cpu"), report=reported.append, out=out, attempt="test"
        )  # fmt: skip

    return make
