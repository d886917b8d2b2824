"""What the training loop needs to know of where it runs: inside Ray Train, or alone inside a trial of a search.

Shapes: whatever is gathered keeps its shape; workers are stacked in the order of their rank.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ..data.batches import ReadRowGroup


@dataclass(frozen=True, kw_only=True)
class Worker:
    rank: int
    world_size: int
    device: torch.device
    report: Callable[[dict[str, Any]], bool | None]
    """Takes the metrics of an epoch, and whether it is the last (`finished`), on every worker; true, for all of them,
    where the run shall end here."""
    known_epochs: int = sys.maxsize
    """How many epochs of the run are reported already: one that is resumed reports the others first."""
    waits_for_checkpoints: bool = False
    """An epoch is reported once its checkpoint is on the disk."""
    out: Path | None = None
    """Folder of the run, for checkpoints and progress; a run without one keeps nothing."""
    attempt: str = ""
    """Which start of the run this is."""
    preempted: Callable[[], bool] = lambda: False
    """Whether some worker's node is about to go; all workers ask together."""
    read_row_group: ReadRowGroup | None = None
    """Where row groups come from, in place of the files of the shards."""

    def sum_over_workers(self, values: Tensor) -> Tensor:
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """`value` of every worker, in order of rank."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def share_buffers(self, model: nn.Module) -> None:
        """Give every worker the first one's buffers."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def prepare(self, model: nn.Module, sync_batch_norm: bool = False) -> nn.Module:
        """The model on this worker's device, its gradients averaged over workers."""
        model = model.to(self.device)
        if self.world_size == 1:
            return model
        if sync_batch_norm and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        device_ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
