"""What a run needs to go on, in one folder: weights, optimiser, progress.

model.safetensors      weights in training
average.safetensors    their moving average, or the same weights where there is none
best.safetensors       the averaged weights of the best epoch so far
optimizer.pt           state of the optimiser, read back with weights_only
state.json             TrainState and the fingerprint of configuration and data
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import UserError


@dataclass
class TrainState:
    """Where a run is."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimiser steps done."""
    records_seen: int = 0
    best_metric: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of every finished epoch."""


def save_checkpoint(
    folder: Path, state: TrainState, identity: str, weights: dict[str, dict[str, Tensor]], optimizer: dict[str, Any]
) -> None:
    """Write everything into `folder`; `weights` by file stem, `identity` says of which configuration and data."""
    for stem, tensors in weights.items():
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{stem}.safetensors")
    torch.save(optimizer, folder / "optimizer.pt")
    (folder / "state.json").write_text(json.dumps({"identity": identity, **asdict(state)}))


def load_state(folder: Path, identity: str) -> TrainState:
    """The progress in a checkpoint.

    Raises:
        UserError: it belongs to another configuration or other data.
    """
    values = json.loads((folder / "state.json").read_text())
    if values.pop("identity") != identity:
        raise UserError(
            f"{folder}: a run with another configuration or other shards left this checkpoint; "
            "choose another OUT, or start over with --restart"
        )
    return TrainState(**values)


def load_weights(folder: Path, stem: str) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / f"{stem}.safetensors")


def load_optimizer(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
