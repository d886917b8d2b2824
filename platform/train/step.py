"""One optimiser step: forward and backward in parts, gradients of all workers, and a stop before anything infinite.

Shapes: B records of this worker's share, T terms of the objective.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.batch import EcgBatch
from ...models.norms import frozen_norms
from ...models.objectives import loss_terms, objective_terms, term_counts, weighted_total
from ..config import TrainConfig
from .worker import Worker, unwrapped

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class NotFinite(Exception):
    """A loss or a gradient is no finite number; raised on all workers before the step is taken."""

    what: str
    step: int
    record_ids: list[str]
    """Of this worker's share of the batch."""
    here: bool
    """Whether this worker's own losses are the ones."""


class Stepper:
    """Takes optimiser steps with one model, and knows how in every precision."""

    def __init__(self, config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer, worker: Worker):
        self._config = config
        self._objective = config.objective.build()
        self._model = model
        self._streams: tuple[str, ...] = unwrapped(model).streams  # pyrefly: ignore[bad-assignment]
        self._optimizer = optimizer
        self._worker = worker
        self.scaler = torch.amp.GradScaler(worker.device.type, enabled=config.precision == "fp16")

    def __call__(self, batch: EcgBatch, step: int, learning_rate: float, call: bool = False) -> tuple[Tensor, bool]:
        """One step; sums and counts (2, T) of the terms over all workers, and whether any worker gave a `call`.

        Raises:
            NotFinite: on all workers alike.
        """
        # So that a run that goes on from a checkpoint draws what the unbroken one would have drawn.
        torch.manual_seed(hash((self._config.seed, step, self._worker.rank)))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        own_counts = term_counts(batch, self._streams, self._objective)
        counts = self._worker.sum_over_workers(own_counts.to(self._worker.device))
        own = self._backward(batch, counts)
        totals, calls = self._worker.sum_over_workers(torch.cat([own, own.new_tensor([float(call)])])).split(len(own))
        self.scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._config.optimizer.clip_norm)
        self._require_finite(totals, own, norm, batch, step)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            # Twenty steps in a row were skipped, and more would be.
            raise NotFinite("gradient", step, list(batch.record_id), here=True)
        self._optimizer.zero_grad(set_to_none=True)
        return torch.stack([totals, counts]), bool(calls)

    def means(self, sums: Tensor) -> dict[str, float]:
        """`train_<term>` by term, and their weighted sum as `train_loss`, of sums and counts (2, T)."""
        totals, counts = sums.cpu()
        means = (totals / counts.clamp(min=1)).tolist()
        terms = objective_terms(self._streams, self._objective)
        losses = {f"train_{term.name}": mean for term, mean in zip(terms, means, strict=True)}
        return losses | {"train_loss": sum(term.weight * mean for term, mean in zip(terms, means, strict=True))}

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        dtype = _DTYPES.get(self._config.precision)
        return nullcontext() if dtype is None else torch.autocast(self._worker.device.type, dtype)

    def _backward(self, batch: EcgBatch, counts: Tensor) -> Tensor:
        """Gradients of the whole step; this worker's sums of the terms (T,)."""
        parts = batch.parts(self._config.optimizer.accumulate)
        sums = torch.zeros_like(counts)
        for number, part in enumerate(parts, 1):
            with self._exchange_gradients(number == len(parts)):
                # A worker without a record computes an empty one, which is no record to learn statistics from.
                with self.autocast(), nullcontext() if part.weight.any() else frozen_norms(self._model):
                    prediction = self._model(part)
                terms = loss_terms(prediction, part, self._objective)
                self.scaler.scale(weighted_total(terms, counts, self._worker.world_size)).backward()
            sums += torch.stack([term.total.detach() for term in terms.values()])
        return sums

    def _exchange_gradients(self, now: bool) -> AbstractContextManager[object]:
        """Workers add up their gradients in the last part's backward pass alone."""
        if now or not isinstance(self._model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self._model.no_sync()

    def _require_finite(self, totals: Tensor, own: Tensor, norm: Tensor, batch: EcgBatch, step: int) -> None:
        """Both are the same on all workers: losses are summed over them, gradients averaged."""
        # fp16 overflows now and then; the scaler skips such a step by itself.
        checked = totals.sum() if self.scaler.is_enabled() else totals.sum() + norm
        if torch.isfinite(checked):
            return
        what = "gradient" if torch.isfinite(totals).all() else "loss"
        raise NotFinite(what, step, list(batch.record_id), here=not bool(torch.isfinite(own).all()))
