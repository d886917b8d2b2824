"""The loop of one training worker. It knows its rank and how to report (worker.py), not who started it.

Shapes: B records of this worker's share of a step, K labels, T terms of the objective.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.batch import EcgBatch
from ..data.balance import balanced_counts
from ..data.batches import RankStream, read_on_threads
from ..data.decode import BatchDecoder, prefetched
from ..data.order import Pass, Plan, epoch_plan, rows_done, steps_per_epoch
from .checkpoint import FOLDER, Checkpoint, Checkpoints, TrainState, Weights, latest_checkpoint, read_checkpoint
from .job import TrainJob
from .model import moving_average, prepared_model, train_mode
from .optimizer import build_optimizer, learning_rate_at, load_optimizer, should_stop
from .pages import training_decoder
from .step import Stepper
from .tracking import Tracker, Untracked
from .validation import validate
from .worker import Worker, unwrapped

_ASK_PREEMPTED_EVERY_S = 5.0


class TrainingRun:
    """A run on one worker, from its first batch to its last report."""

    def __init__(self, job: TrainJob, worker: Worker):
        self.job, self.worker, self.config = job, worker, job.config
        self.steps_per_epoch = steps_per_epoch(job.num_train, self.config.batch_size)
        self.model = prepared_model(job, worker)
        self.average = moving_average(unwrapped(self.model), self.config.ema_decay)
        self.optimizer = build_optimizer(self.config.optimizer, self.model)
        self.stepper = Stepper(self.config, self.model, self.optimizer, worker)
        self.state = TrainState()
        self.best: Weights = {}
        self.seconds: dict[str, float] = {}
        self.checkpoints: Checkpoints | None = None
        self._resume()
        self._last_checkpoint = self._last_asked = time.monotonic()

    def train(self) -> None:
        """All epochs that are left; every worker reports each of them."""
        tracker = self._tracker()
        try:
            self._train(tracker)
        finally:
            tracker.close(self.finished)
            if self.checkpoints:
                self.checkpoints.close()

    def _train(self, tracker: Tracker | Untracked) -> None:
        history = self.state.history
        for row in history[self.worker.known_epochs :]:
            if self.worker.report(row | {"finished": self.finished and row is history[-1]}):
                return
        reader = partial(read_on_threads, row_group=self.worker.read_row_group)
        stream = RankStream(self._passes(), self.worker.rank, self.worker.world_size, self.config.batch_size, reader)
        ended = False
        while not (ended or self.finished):
            self.seconds = {}
            started = time.monotonic()
            metrics = self._train_epoch(stream, tracker)
            with self._phase("validate", tracker):
                metrics |= self._validate(stream)
            metrics |= {"epoch": self.state.epoch + 1, "seconds": time.monotonic() - started}
            metrics |= {f"{name}_s": spent for name, spent in self.seconds.items()}
            ended = self._finish_epoch(metrics, tracker)

    @property
    def finished(self) -> bool:
        """All epochs are done, or more of them promise nothing."""
        return self.state.epoch >= self.config.epochs or should_stop(self._metrics(), self.config.early_stopping)

    def _passes(self) -> Iterator[Pass]:
        """What the stream reads: training and validation rows in turn, for every epoch that is left."""
        first_epoch, first_step = self.state.epoch, self.state.epoch_step
        for epoch in range(first_epoch, self.config.epochs):
            yield Pass(self._plan(epoch), self.job.num_train, first_step if epoch == first_epoch else 0)
            plan = epoch_plan(self.job.val, self.config.seed, epoch, self.config.data.window_rows, shuffle=False)
            yield Pass(plan, self.job.num_val)

    def _plan(self, epoch: int) -> Plan:
        seed, weights = self.config.seed, self.job.sampling_weights
        counts = None if weights is None else balanced_counts(weights, seed, epoch)
        return epoch_plan(self.job.train, seed, epoch, self.config.data.window_rows, counts=counts)

    def _batches(self, stream: RankStream, epoch: int | None) -> Iterator[EcgBatch]:
        decoded = (self._decoder.batch(rows, epoch) for rows in stream.next_pass())
        for batch in prefetched(decoded):
            moved = batch.to(self.worker.device)
            yield moved.double() if self.config.precision == "fp64" else moved

    def _train_epoch(self, stream: RankStream, tracker: Tracker | Untracked) -> dict[str, float]:
        """The steps that are left of the epoch; losses of the whole epoch, and how the time went."""
        train_mode(self.model, self.config.freeze_batch_norm)
        tracker.phase("training")
        asked = started = time.monotonic()
        waits: list[float] = []
        sums = torch.tensor(self.state.losses, dtype=torch.float64)
        done_before = self._records_in_epoch()
        for batch in self._batches(stream, self.state.epoch):
            waits.append(time.monotonic() - asked)
            sums = self._step(batch, sums, tracker)
            asked = time.monotonic()
            if len(waits) == 1 and self.state.epoch_step < self.steps_per_epoch:
                # The first batch apart: it waits for files to be opened, its step for kernels to be chosen.
                started, done_before = asked, self._records_in_epoch()
        self.state.losses.clear()
        self.state.epoch_step = 0
        elapsed = max(asked - started, 1e-9)
        return self.stepper.means(sums) | {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "first_batch_s": waits[0] if waits else 0.0,
            "records_per_second": (self.job.num_train - done_before) / elapsed,
            "data_wait_share": sum(waits[1:]) / elapsed,
        }

    def _step(self, batch: EcgBatch, sums: Tensor, tracker: Tracker | Untracked) -> Tensor:
        """One optimiser step; the epoch's sums and counts (2, T) with those of this step."""
        state = self.state
        rate = learning_rate_at(state.step, self.steps_per_epoch * self.config.epochs, self.config, self._metrics())
        before = self._records_in_epoch()
        asking = self.worker.rank == 0 and time.monotonic() - self._last_asked >= _ASK_PREEMPTED_EVERY_S
        step_sums, all_ask = self.stepper(batch, state.step, rate, call=asking)
        step_sums = step_sums.double()
        sums = step_sums if not sums.numel() else sums.to(step_sums.device) + step_sums
        state.step, state.epoch_step = state.step + 1, state.epoch_step + 1
        state.records_seen += self._records_in_epoch() - before
        if self.average is not None:
            self.average.update_parameters(unwrapped(self.model))
        tracker.step(
            state.epoch + 1, state.step, state.records_seen, self._records_in_epoch(),
            lambda: self.stepper.means(step_sums), rate,
        )  # fmt: skip
        self._checkpoint_if_due(sums, leaving=all_ask and self._preempted())
        return sums

    def _checkpoint_if_due(self, sums: Tensor, leaving: bool) -> None:
        """Within an epoch: by time or steps, and at once where a node is about to go."""
        if self.checkpoints is None:
            return
        config, waited = self.config.checkpoint, time.monotonic() - self._last_checkpoint
        due = waited >= config.every_s if config.every_steps is None else self.state.step % config.every_steps == 0
        if due or leaving:
            self.state.losses = sums.tolist()
            # The last one of an epoch is never left out because the one before is still being written: validating
            # may take longer than many steps.
            self._save(wait=leaving or self.state.epoch_step == self.steps_per_epoch)

    def _preempted(self) -> bool:
        """Asked by all workers together, when the first one's clock says so."""
        self._last_asked = time.monotonic()
        return self.worker.preempted()

    def _validate(self, stream: RankStream) -> dict[str, float | None]:
        model = self.evaluated_model().eval()
        # Every worker has seen other batches, and so has other batch-norm statistics; what is kept is the first one's.
        self.worker.share_buffers(model)
        keys = self.job.label_space.keys
        return validate(model, self._batches(stream, None), self.stepper.autocast, self.worker, keys)

    def _chosen_checkpoint(self, folder: Path) -> Checkpoint | None:
        """The one that the first worker finds: a shared file system may show another worker another last one."""
        found = latest_checkpoint(folder, self.job.identity) if self.worker.rank == 0 else None
        name = self.worker.gather(found.name if found else None)[0]
        if name is None or found is not None:
            return found
        return read_checkpoint(folder / name, self.job.identity)

    def evaluated_model(self) -> nn.Module:
        """The weights that are validated and kept."""
        return unwrapped(self.model) if self.average is None else self.average.module

    def _finish_epoch(self, metrics: dict[str, float | None], tracker: Tracker | Untracked) -> bool:
        """Keep, write down and report what an epoch gave; true where the run shall end."""
        state, value = self.state, metrics.get(self.config.metric)
        state.epoch += 1
        if state.best_metric is None or (value is not None and value > state.best_metric):
            state.best_metric, state.best_epoch = value, state.epoch
            self.best = {k: v.detach().cpu().clone() for k, v in self.evaluated_model().state_dict().items()}
        row = metrics | {"best_epoch": state.best_epoch, "best": state.best_metric, "workers": self.worker.world_size}
        state.history.append(row)
        # First: an epoch that is in a checkpoint must be in the history, too.
        tracker.epoch(row)
        if self.checkpoints is not None:
            with self._phase("checkpoint", tracker):
                self._save(wait=True)
                if self.worker.waits_for_checkpoints:
                    self.checkpoints.flush()
        return bool(self.worker.report(row | {"finished": self.finished}))

    def _save(self, wait: bool) -> None:
        """Hand the run as it is now to the thread that writes checkpoints."""
        assert self.checkpoints is not None
        weights = {"model": unwrapped(self.model).state_dict(), "best": self.best}
        if self.average is not None:
            weights["average"] = self.average.module.state_dict()
        optimizer = {"optimizer": self.optimizer.state_dict(), "scaler": self.stepper.scaler.state_dict()}
        kept = {stem: tensors for stem, tensors in weights.items() if tensors}
        if self.checkpoints.save(Checkpoint(state=self.state, weights=kept, optimizer=optimizer), wait=wait):
            self._last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        """Go on from the last checkpoint, or start from the weights that the job names."""
        out = self.worker.out
        if out is not None and self.worker.rank == 0:
            keep_last = self.config.checkpoint.keep_last
            self.checkpoints = Checkpoints(out / FOLDER, self.job.identity, self.worker.attempt, keep_last)
        found = self._chosen_checkpoint(out / FOLDER) if out else None
        if found is None:
            return
        self.state = found.state
        unwrapped(self.model).load_state_dict(found.weights["model"])
        if self.average is not None:
            self.average.module.load_state_dict(found.weights["average"])
            self.average.n_averaged.fill_(self.state.step)
        self.best = found.weights.get("best", {})
        load_optimizer(self.optimizer, found.optimizer["optimizer"])
        self.stepper.scaler.load_state_dict(found.optimizer["scaler"])

    def _tracker(self) -> Tracker | Untracked:
        if self.worker.out is None or self.worker.rank:
            return Untracked()
        config, job = self.config, self.job
        return Tracker(
            self.worker.out,
            run_name=self.worker.out.name,
            num_epochs=config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            num_train=job.num_train,
            tensorboard=config.tracking.tensorboard,
            mlflow=job.mlflow,
            started_at_step=self.state.step,
        )

    @cached_property
    def _decoder(self) -> BatchDecoder:
        return training_decoder(self.job)

    def _metrics(self) -> list[float | None]:
        """The named metric of every finished epoch."""
        return [row.get(self.config.metric) for row in self.state.history]

    def _records_in_epoch(self) -> int:
        return rows_done(self.job.num_train, self.state.epoch_step, self.config.batch_size)

    @contextmanager
    def _phase(self, name: str, tracker: Tracker | Untracked) -> Iterator[None]:
        """Times one part of an epoch."""
        tracker.phase(name)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
