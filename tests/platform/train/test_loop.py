"""The loop of one worker: what it reports, and that a run goes on exactly where it was."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vizecg.platform.config import TrainConfig
from vizecg.platform.errors import UserError
from vizecg.platform.train.checkpoint import FOLDER, latest_checkpoint
from vizecg.platform.train.loop import TrainingRun
from vizecg.platform.train.prepare import make_job
from vizecg.platform.train.step import NotFinite, Stepper
from vizecg.platform.train.worker import Worker

Config = Callable[..., TrainConfig]
Alone = Callable[..., Worker]


class Killed(Exception):
    """Stands for the end of the process."""


def weights_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends before that step, counted from 0."""
    take = Stepper.__call__

    def until(self: Stepper, batch: Any, number: int, *more: Any, **named: Any) -> Any:
        if number == step:
            raise Killed
        return take(self, batch, number, *more, **named)

    monkeypatch.setattr(Stepper, "__call__", until)


@pytest.mark.parametrize(
    "options",
    [
        ("checkpoint.every_steps=2",),
        ("checkpoint.every_steps=1", "optimizer.name=sgd", "ema_decay=0.9", "schedule.name=plateau"),
        ("checkpoint.every_steps=2", "precision=bf16", "data.balance=1", "data.page=drawn", "optimizer.accumulate=2"),
    ],
    ids=["plain", "average", "all-at-once"],
)
def test_a_killed_run_ends_bit_for_bit_as_the_unbroken_one(
    options: tuple[str, ...], practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job = make_job(practice_shards, tiny_config("model.options.dropout=0.5", *options))
    unbroken_rows: list[dict[str, Any]] = []
    unbroken = TrainingRun(job, alone(unbroken_rows, tmp_path / "unbroken"))
    unbroken.train()
    steps = unbroken.state.step
    rows: list[dict[str, Any]] = []
    for step in (3, steps // 2 + 3):
        with monkeypatch.context() as patched:
            killed_at(step, patched)
            run = TrainingRun(job, alone(rows, tmp_path / "killed"))
            with pytest.raises(Killed):
                run.train()
    resumed = TrainingRun(job, alone(rows, tmp_path / "killed"))
    assert 0 < resumed.state.epoch_step < resumed.steps_per_epoch, "it goes on within an epoch"
    resumed.train()
    after, expected = weights_of(resumed), weights_of(unbroken)
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    assert resumed.state.records_seen == unbroken.state.records_seen == 2 * job.num_train
    losses = [{k: v for k, v in row.items() if k.startswith(("train_", "val_", "best"))} for row in rows]
    assert losses == [{k: v for k, v in row.items() if k in losses[0]} for row in unbroken_rows]
    averages = (unbroken.evaluated_model().state_dict(), resumed.evaluated_model().state_dict())
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])


def test_a_run_that_is_killed_while_it_validates_does_no_step_again(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(practice_shards, tiny_config("checkpoint.every_steps=1"))
    unbroken = TrainingRun(job, alone([], tmp_path / "unbroken"))
    unbroken.train()

    def killed(*arguments: Any) -> None:
        raise Killed

    def slowly(folder: Path) -> None:
        time.sleep(0.3)

    with monkeypatch.context() as patched:
        # Slower than the steps, so that some checkpoints are left out.
        patched.setattr("vizecg.platform.train.checkpoint._sync", slowly)
        patched.setattr("vizecg.platform.train.loop.validate", killed)
        with pytest.raises(Killed):
            TrainingRun(job, alone([], tmp_path / "killed")).train()
    resumed = TrainingRun(job, alone([], tmp_path / "killed"))
    assert (resumed.state.epoch, resumed.state.epoch_step) == (0, resumed.steps_per_epoch)
    resumed.train()
    after, expected = weights_of(resumed), weights_of(unbroken)
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    first, again = unbroken.state.history[0], resumed.state.history[0]
    assert again["train_loss"] == first["train_loss"]
    assert again["val_image_macro_auroc"] == first["val_image_macro_auroc"]


def test_a_node_that_is_about_to_go_makes_a_checkpoint_at_once(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(practice_shards, tiny_config("checkpoint.every_s=1e6"))
    for leaving in (False, True):
        out = tmp_path / str(leaving)
        worker = replace(alone([], out), preempted=lambda leaving=leaving: leaving)
        with monkeypatch.context() as patched:
            patched.setattr("vizecg.platform.train.loop._ASK_PREEMPTED_EVERY_S", 0.0)
            killed_at(3, patched)
            with pytest.raises(Killed):
                TrainingRun(job, worker).train()
        found = latest_checkpoint(out / FOLDER, job.identity)
        assert (found.state.step if found else None) == (3 if leaving else None)


def test_another_configuration_does_not_go_on(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone
) -> None:
    TrainingRun(make_job(practice_shards, tiny_config("epochs=1")), alone([], tmp_path)).train()
    with pytest.raises(UserError, match="another configuration"):
        TrainingRun(make_job(practice_shards, tiny_config("epochs=1", "seed=1")), alone([], tmp_path))
    scaled = make_job(practice_shards, tiny_config("epochs=1", "scaling.num_workers=2", "checkpoint.keep_last=5"))
    assert TrainingRun(scaled, alone([], tmp_path)).finished, "scaling may change"


def test_a_run_ends_when_told_and_tells_what_was_not_reported(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone
) -> None:
    """As a search needs it: stopped after an epoch, gone on, and told again at a later start."""
    job = make_job(practice_shards, tiny_config("epochs=3"))
    reported: list[dict[str, Any]] = []

    def stop_first(row: dict[str, Any]) -> bool:
        reported.append(row)
        return row["epoch"] == 1

    TrainingRun(job, replace(alone([], tmp_path), report=stop_first, waits_for_checkpoints=True)).train()
    assert [row["epoch"] for row in reported] == [1]
    TrainingRun(job, replace(alone(reported, tmp_path), known_epochs=1)).train()
    assert [(row["epoch"], row["finished"]) for row in reported] == [(1, False), (2, False), (3, True)]
    again: list[dict[str, Any]] = []
    TrainingRun(job, replace(alone(again, tmp_path), known_epochs=1)).train()
    assert again == reported[1:], "the last two, as they were, without a step"


def test_reports_losses_and_metrics_of_every_epoch(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone
) -> None:
    reported: list[dict[str, Any]] = []
    job = make_job(practice_shards, tiny_config("ema_decay=0.9", "precision=bf16"))
    TrainingRun(job, alone(reported, tmp_path)).train()
    assert [row["epoch"] for row in reported] == [1, 2]
    expected = {"train_loss", "train_cls_image", "train_kd", "val_image_macro_auroc", "val_fused_macro_f1"}
    expected |= {"records_per_second", "first_batch_s", "data_wait_share", "validate_s", "learning_rate"}
    assert expected <= reported[0].keys()
    parts = ("train_cls_image", "train_cls_signal", "train_cls_fused", "train_kd")
    assert reported[0]["train_loss"] == pytest.approx(sum(reported[0][name] for name in parts))
    json.dumps(reported, allow_nan=False)
    saved = latest_checkpoint(tmp_path / FOLDER, job.identity)
    assert saved is not None and saved.state.history[-1] | {"finished": True} == reported[-1]
    assert reported[0]["finished"] is False
    assert {"model", "average", "best"} == saved.weights.keys()


def test_a_batch_in_parts_gives_the_same_step(practice_shards: Path, tiny_config: Config, alone: Alone) -> None:
    after = []
    for parts in (1, 3):
        config = tiny_config(
            "epochs=1", "precision=fp64", "freeze_batch_norm=true", f"optimizer.accumulate={parts}",
            "model.options.dropout=0.0",
        )  # fmt: skip
        run = TrainingRun(make_job(practice_shards, config), alone([]))
        run.train()
        after.append(weights_of(run))
    whole, parted = after
    assert all(torch.allclose(whole[name], parted[name], atol=1e-9) for name in whole)


def test_a_run_stops_early_and_stays_stopped(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone
) -> None:
    config = tiny_config("epochs=9", "early_stopping.patience=1", "early_stopping.min_delta=1.0")
    job = make_job(practice_shards, config)
    reported: list[dict[str, Any]] = []
    TrainingRun(job, alone(reported, tmp_path)).train()
    assert [row["epoch"] for row in reported] == [1, 2]
    again = TrainingRun(job, alone(reported, tmp_path))
    assert again.finished


def test_a_loss_that_is_no_number_stops_before_the_step(
    practice_shards: Path, tiny_config: Config, alone: Alone
) -> None:
    run = TrainingRun(make_job(practice_shards, tiny_config()), alone([]))
    with torch.no_grad():
        run.model.image_head[2].bias.fill_(float("inf"))  # type: ignore[index,union-attr]
    before = weights_of(run)
    with pytest.raises(NotFinite) as caught:
        run.train()
    assert caught.value.what == "loss" and caught.value.step == 0 and caught.value.here
    assert len(caught.value.record_ids) == 16 and len(set(caught.value.record_ids)) == 16
    trained = [name for name, _ in run.model.named_parameters()]
    assert all(torch.equal(before[name], run.model.state_dict()[name]) for name in trained)


def test_fine_tuning_starts_from_the_bundles_weights(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, alone: Alone, make_bundle: Callable[..., Any]
) -> None:
    make_bundle(tmp_path / "bundle", seed=4)
    from vizecg.platform.bundle import load_bundle
    from vizecg.platform.config import load_config

    plain = load_config(None, ["batch_size=16", "epochs=1", "data.page_width_px=128", "data.page_height_px=96"])
    job = make_job(practice_shards, plain, init_from=tmp_path / "bundle")
    facts, model = load_bundle(tmp_path / "bundle")
    assert job.config.model == facts.model and job.page == facts.page
    start = TrainingRun(job, alone([])).model.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert job.identity != make_job(practice_shards, tiny_config("epochs=1")).identity
    with pytest.raises(UserError, match="leave out `model`"):
        make_job(practice_shards, tiny_config("model.size=small"), init_from=tmp_path / "bundle")


def test_pages_alone_can_fine_tune(practice_shards: Path, tiny_config: Config, alone: Alone) -> None:
    """Records whose signal nobody knows: the page's own losses go on, and metrics of other streams are undefined."""
    run = TrainingRun(make_job(practice_shards, tiny_config("epochs=1")), alone([]))
    decode = run._decoder.batch

    def without_signals(*arguments: Any) -> Any:
        batch = decode(*arguments)
        return replace(batch, signal_known=torch.zeros(len(batch), dtype=torch.bool), signal=batch.signal * 0)

    run._decoder.batch = without_signals  # type: ignore[method-assign]
    run.train()
    (row,) = run.state.history
    assert row["train_cls_image"] > 0 and row["train_cls_signal"] == 0 and row["train_kd"] == 0
    assert row["val_image_macro_auroc"] is not None and row["val_signal_macro_auroc"] is None


def test_shards_and_configuration_must_fit(practice_shards: Path, tmp_path: Path, tiny_config: Config) -> None:
    with pytest.raises(UserError, match="batch_size 512"):
        make_job(practice_shards, tiny_config("batch_size=512"))
    with pytest.raises(UserError, match="did you mean 'practice'"):
        make_job(practice_shards, tiny_config("label_space=practise"))
    with pytest.raises(UserError, match="dataset.json"):
        make_job(tmp_path, tiny_config())
