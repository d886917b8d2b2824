"""What a run needs to go on, in one folder a checkpoint, written beside the training.

OUT/checkpoints/epoch0002-step00000310/     appears whole, by a rename
    state.json                              TrainState and the fingerprint of configuration and data
    model.safetensors                       weights in training
    average.safetensors                     their moving average, where there is one
    best.safetensors                        the validated weights of the best epoch so far, once there is one
    optimizer.pt                            state of the optimiser and of the loss scaler, read with weights_only

Ray Train can keep checkpoints, too. It writes its list of them in place (2.60), and a driver that is killed while it
writes leaves a run that cannot go on; so it is not asked to.

Randomness is no part of a checkpoint: every step seeds itself (step.py), and so does the order of records.
"""

import copy
import json
import os
import pickle
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import UserError
from ..files import write_atomically

FOLDER = "checkpoints"
_ATTEMPT = "attempt"
_WRITING = ".writing-"

Weights = dict[str, Tensor]


@dataclass
class TrainState:
    """Where a run is."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimiser steps done."""
    epoch_step: int = 0
    """Steps done of the epoch that is not finished."""
    records_seen: int = 0
    """Records trained on, of all workers together."""
    losses: list[list[float]] = field(default_factory=list)
    """Sums and counts of the unfinished epoch's loss terms."""
    best_metric: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of every finished epoch."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run at one moment."""

    state: TrainState
    weights: dict[str, Weights]
    """By file stem."""
    optimizer: dict[str, Any]

    def frozen(self) -> "Checkpoint":
        """A copy in main memory, which training does not change."""
        # safetensors knows one memory layout alone; the model gives its weights their own again.
        weights = {
            stem: {name: tensor.contiguous() for name, tensor in _copied(tensors).items()}
            for stem, tensors in self.weights.items()
        }
        return Checkpoint(state=copy.deepcopy(self.state), weights=weights, optimizer=_copied(self.optimizer))

    @property
    def name(self) -> str:
        """Later ones sort behind earlier ones."""
        return f"epoch{self.state.epoch:04d}-step{self.state.step:08d}"


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value


class Checkpoints:
    """The checkpoints of one run, written by its first worker on a thread; the last few are kept.

    `attempt` says which start of the run this is. Workers live for some seconds after their driver was killed: what
    one of an earlier attempt still writes does not become a checkpoint.
    """

    def __init__(self, folder: Path, identity: str, attempt: str, keep_last: int):
        self._folder = folder
        self._identity = identity
        self._attempt = attempt
        self._keep_last = keep_last
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._written: Future[None] | None = None
        _remove_partial(folder)

    def save(self, checkpoint: Checkpoint, wait: bool = False) -> bool:
        """Start to write a checkpoint; false where the last one is still being written, unless told to `wait`.

        Raises what an earlier write failed with.
        """
        if self._written is not None:
            if not wait and not self._written.done():
                return False
            self._written.result()
        self._written = self._writer.submit(self._write, checkpoint.frozen())
        return True

    def flush(self) -> None:
        """Wait until everything is written."""
        if self._written is not None:
            self._written.result()

    def close(self) -> None:
        """Wait until everything is written, and write nothing more."""
        self._writer.shutdown()
        self.flush()

    def _write(self, checkpoint: Checkpoint) -> None:
        target = self._folder / checkpoint.name
        if target.exists():
            return
        partial = Path(tempfile.mkdtemp(prefix=_WRITING, suffix=f"-{checkpoint.name}", dir=self._folder))
        for stem, tensors in checkpoint.weights.items():
            safetensors.torch.save_file(tensors, partial / f"{stem}.safetensors")
        torch.save(checkpoint.optimizer, partial / "optimizer.pt")
        state = {"identity": self._identity, **asdict(checkpoint.state)}
        (partial / "state.json").write_text(json.dumps(state))
        _sync(partial)
        if read_attempt(self._folder) != self._attempt:
            shutil.rmtree(partial)
            return
        partial.chmod(0o755)
        os.replace(partial, target)
        _sync(self._folder)
        for older in checkpoint_names(self._folder)[: -self._keep_last]:
            shutil.rmtree(self._folder / older, ignore_errors=True)


def begin_attempt(folder: Path, attempt: str) -> None:
    """Take over the checkpoints in `folder`, and remove what earlier attempts left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _ATTEMPT, attempt)
    _remove_partial(folder)


def _sync(folder: Path) -> None:
    """Onto the disk: a machine may lose its power after the rename."""
    for path in (*filter(Path.is_file, folder.iterdir()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_partial(folder: Path) -> None:
    for left in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(left, ignore_errors=True)


def read_attempt(folder: Path) -> str | None:
    """The attempt that may write there."""
    try:
        return (folder / _ATTEMPT).read_text()
    except FileNotFoundError:
        return None


def checkpoint_names(folder: Path) -> list[str]:
    """Checkpoints from the first to the last."""
    return sorted(path.name for path in folder.glob("epoch*-step*")) if folder.is_dir() else []


def latest_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The last readable checkpoint in `folder`; None where there is none. Damaged ones are put aside.

    Raises:
        UserError: it belongs to another configuration or other data.
    """
    for name in reversed(checkpoint_names(folder)):
        try:
            return read_checkpoint(folder / name, identity)
        except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
            if isinstance(error, UserError):
                raise
            print(f"vizecg: the checkpoint {folder / name} is damaged ({error}); going on from the one before")
            # Out of the way of the one that will be written at the same step.
            os.replace(folder / name, Path(tempfile.mkdtemp(prefix=f"damaged-{name}-", dir=folder)))
    return None


def read_checkpoint(folder: Path, identity: str) -> Checkpoint:
    """The checkpoint in `folder`; raises UserError where it belongs to another configuration, data or version."""
    values = json.loads((folder / "state.json").read_text())
    if values.pop("identity") != identity:
        raise UserError(
            f"{folder}: a run with another configuration or other shards left this checkpoint; "
            "choose another OUT, or start over with --restart"
        )
    weights = {path.stem: safetensors.torch.load_file(path) for path in folder.glob("*.safetensors")}
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
    if values.keys() != {field.name for field in fields(TrainState)}:
        raise UserError(f"{folder}: another version of VizECG left this checkpoint; start over with --restart")
    return Checkpoint(state=TrainState(**values), weights=weights, optimizer=optimizer)
