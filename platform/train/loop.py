"""The loop of one training worker. It knows its rank and how to report (worker.py), not who started it.

Shapes: B records of this worker's share of a step, K labels, N records of a split.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...models.batch import EcgBatch
from ...models.objectives import LossTerm, loss_terms, weighted_total
from ...models.registry import build_model
from ..config import TrainConfig
from ..data.batches import RankStream, RowGroup, epoch_plan, steps_per_epoch
from ..data.decode import BatchDecoder, prefetched
from ..data.labels import LabelSpace
from ..data.read_page import PageSpec
from ..evaluate.metrics import macro_auroc
from .checkpoint import TrainState, load_optimizer, load_state, load_weights, save_checkpoint
from .optimizer import build_optimizer, learning_rate_at
from .worker import Worker, unwrapped


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that decides a run, resolved by the driver: no worker looks anything up on its own."""

    config: TrainConfig
    label_space: LabelSpace
    page: PageSpec
    train: list[RowGroup]
    val: list[RowGroup]
    identity: str
    """Fingerprint of configuration and data; a checkpoint of another one is refused."""
    shards: str
    dataset_fingerprint: str
    sampling_rate_hz: float
    keep_checkpoints: bool = True


class EpochLosses:
    """Sums the losses of an epoch."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._sums: Tensor | None = None

    def add(self, terms: dict[str, LossTerm], sums: Tensor) -> None:
        """`sums` (2, number of terms): of all workers, in one step."""
        self._weights = {name: term.weight for name, term in terms.items()}
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self) -> dict[str, float]:
        """`train_<term>` by term, and their weighted sum as `train_loss`."""
        assert self._sums is not None, "an epoch has steps"
        totals, counts = self._sums.cpu()
        means = (totals / counts.clamp(min=1)).tolist()
        losses = {f"train_{name}": mean for name, mean in zip(self._weights, means, strict=True)}
        return losses | {"train_loss": sum(w * mean for w, mean in zip(self._weights.values(), means, strict=True))}


class TrainingRun:
    """A run on one worker, from its first batch to its last report."""

    def __init__(self, job: TrainJob, worker: Worker):
        self.job, self.worker, self.config = job, worker, job.config
        config = self.config
        torch.manual_seed(config.seed)
        model = build_model(config.model.name, config.model.size, len(job.label_space.labels), config.model.options)
        self.objective = config.objective.build()
        self.model = worker.prepare(model.to(memory_format=torch.channels_last))
        self.average = self._moving_average()
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.state = TrainState()
        self.best: dict[str, Tensor] = {}
        self._resume()
        self.num_train = sum(group.num_rows for group in job.train)
        self.num_val = sum(group.num_rows for group in job.val)
        self.steps_per_epoch = steps_per_epoch(self.num_train, config.batch_size)
        self.rank_batch_size = config.batch_size // worker.world_size
        self.decoder = BatchDecoder(
            job.label_space, job.page, config.data.decode_threads, config.data.page_shift_px, config.seed
        )

    def train(self) -> None:
        """All epochs that are left; every worker reports each of them."""
        stream = RankStream(self._passes(), self.worker.rank, self.worker.world_size, self.config.batch_size)
        for epoch in range(self.state.epoch, self.config.epochs):
            started = time.monotonic()
            metrics = self._train_epoch(stream, epoch)
            metrics |= self._validate(stream)
            metrics |= {"epoch": epoch + 1, "seconds": time.monotonic() - started}
            self._finish_epoch(metrics)

    def _passes(self) -> list[Any]:
        """What the stream reads: training and validation rows in turn, for every epoch that is left."""
        seed, window_rows = self.config.seed, self.config.data.window_rows
        passes = []
        for epoch in range(self.state.epoch, self.config.epochs):
            passes.append(epoch_plan(self.job.train, seed, epoch, window_rows))
            passes.append(epoch_plan(self.job.val, seed, epoch, window_rows, shuffle=False))
        return passes

    def _batches(self, stream: RankStream, num_rows: int, epoch: int | None) -> Iterator[EcgBatch]:
        decoded = (self.decoder.batch(rows, self.rank_batch_size, epoch) for rows in stream.steps(num_rows))
        return (batch.to(self.worker.device) for batch in prefetched(decoded))

    def _train_epoch(self, stream: RankStream, epoch: int) -> dict[str, float]:
        self.model.train()
        started = asked = time.monotonic()
        seconds_waited = 0.0
        losses = EpochLosses()
        for batch in self._batches(stream, self.num_train, epoch):
            seconds_waited += time.monotonic() - asked
            losses.add(*self._step(batch))
            asked = time.monotonic()
        self.state.records_seen += self.num_train
        elapsed = asked - started
        return losses.means() | {
            "records_per_second": self.num_train / elapsed,
            "data_wait_share": seconds_waited / elapsed,
        }

    def _step(self, batch: EcgBatch) -> tuple[dict[str, LossTerm], Tensor]:
        """One optimiser step; this worker's terms, and (2, number of terms) their sums and counts over all workers."""
        rate = learning_rate_at(self.state.step, self.steps_per_epoch * self.config.epochs, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast():
            prediction = self.model(batch)
        terms = loss_terms(prediction, batch, self.objective)
        own = [torch.stack([getattr(term, part).detach() for term in terms.values()]) for part in ("total", "count")]
        sums = self.worker.sum_over_workers(torch.stack(own))
        # Sums and averaged gradients are the same on every worker, so all stop together.
        self._require_finite(sums, "loss", batch)
        self.optimizer.zero_grad(set_to_none=True)
        weighted_total(terms, sums[1], self.worker.world_size).backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self._require_finite(norm, "gradient", batch)
        self.optimizer.step()
        self.state.step += 1
        if self.average is not None:
            self.average.update_parameters(unwrapped(self.model))
        return terms, sums

    def _require_finite(self, values: Tensor, what: str, batch: EcgBatch) -> None:
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"the {what} is not finite at step {self.state.step}; the records of worker {self.worker.rank} begin "
                f"with {batch.record_id[:3]}; a lower optimizer.learning_rate or precision fp32 may help"
            )

    def _validate(self, stream: RankStream) -> dict[str, float | None]:
        """Macro AUROC by stream on the predictions of all workers together."""
        model = self.evaluated_model().eval()
        # Every worker has seen other batches, and so has other batch-norm statistics; what is kept is the first one's.
        self.worker.share_buffers(model)
        parts: list[dict[str, np.ndarray]] = []
        for batch in self._batches(stream, self.num_val, None):
            with torch.inference_mode(), self._autocast():
                logits = model(batch).logits
            kept = batch.weight > 0
            values = {"target": batch.target, "known": batch.target_known, **logits}
            parts.append({name: value[kept].float().cpu().numpy() for name, value in values.items()})
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        gathered = self.worker.gather(rows)
        whole = {name: np.concatenate([rows[name] for rows in gathered]) for name in rows}
        target, known = whole.pop("target"), whole.pop("known").astype(bool)
        return {f"val_{stream}_macro_auroc": macro_auroc(logits, target, known) for stream, logits in whole.items()}

    def _finish_epoch(self, metrics: dict[str, Any]) -> None:
        value = metrics.get(self.config.metric)
        self.state.epoch += 1
        if self.state.best_metric is None or (value is not None and value > self.state.best_metric):
            self.state.best_metric, self.state.best_epoch = value, self.state.epoch
            self.best = {k: v.detach().cpu().clone() for k, v in self.evaluated_model().state_dict().items()}
        metrics |= {"best_epoch": self.state.best_epoch, "best": self.state.best_metric}
        self.state.history.append(metrics)
        if self.worker.rank or not self.job.keep_checkpoints:
            self.worker.report(metrics, None)
            return
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder))
            self.worker.report(metrics, Path(folder))

    def _save(self, folder: Path) -> None:
        weights = {
            "model": unwrapped(self.model).state_dict(),
            "average": self.evaluated_model().state_dict(),
            "best": self.best,
        }
        save_checkpoint(folder, self.state, self.job.identity, weights, self.optimizer.state_dict())

    def _resume(self) -> None:
        folder = self.worker.checkpoint
        if folder is None:
            return
        self.state = load_state(folder, self.job.identity)
        unwrapped(self.model).load_state_dict(load_weights(folder, "model"))
        if self.average is not None:
            self.average.module.load_state_dict(load_weights(folder, "average"))
            self.average.n_averaged.fill_(self.state.step)
        self.best = load_weights(folder, "best")
        self.optimizer.load_state_dict(load_optimizer(folder))

    def _moving_average(self) -> AveragedModel | None:
        if not self.config.ema_decay:
            return None
        average = get_ema_multi_avg_fn(self.config.ema_decay)
        return AveragedModel(unwrapped(self.model), multi_avg_fn=average, use_buffers=True)

    def evaluated_model(self) -> nn.Module:
        """The weights that are validated and kept."""
        return unwrapped(self.model) if self.average is None else self.average.module

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.worker.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")
