"""Training through real Ray Train: the result does not depend on the number of workers, and a stopped run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vizecg.platform.bundle import load_bundle
from vizecg.platform.config import TrainConfig, load_config
from vizecg.platform.errors import UserError
from vizecg.platform.history import read_history
from vizecg.platform.train.driver import _claim, _clear, make_job, train_model
from vizecg.platform.train.loop import TrainingRun
from vizecg.platform.train.worker import Worker

TINY = (
    "model.size=debug",
    "data.page_width_px=128",
    "data.page_height_px=96",
    "batch_size=16",
    "epochs=2",
    "optimizer.learning_rate=1e-3",
)


def tiny_config(*overrides: str) -> TrainConfig:
    return load_config(None, [*TINY, *overrides])


def losses_with_frozen_norms(shards: Path, num_workers: int, folder: Path) -> np.ndarray:
    """Training loss of every step, the first 4, of a Ray Train run whose batch norms keep their statistics."""
    import ray.train

    from vizecg.platform.train.driver import torch_trainer

    def frozen_worker(arguments: dict) -> None:
        from vizecg.platform.train.driver import ray_worker

        keep_evaluating = lambda self, mode=True: torch.nn.Module.train(self, False)  # noqa: E731
        torch.nn.modules.batchnorm._BatchNorm.train = keep_evaluating
        step = TrainingRun._step

        def recorded(self: TrainingRun, batch: object) -> object:
            terms, (totals, counts) = step(self, batch)
            weights = torch.tensor([term.weight for term in terms.values()])
            if self.worker.rank == 0 and self.state.step <= 4:
                with open(arguments["losses"], "a") as lines:
                    lines.write(f"{float((weights * totals / counts).sum())!r}\n")
            return terms, torch.stack([totals, counts])

        TrainingRun._step = recorded
        torch.use_deterministic_algorithms(True)
        ray_worker(arguments)

    config = tiny_config(
        f"scaling.num_workers={num_workers}", "epochs=1", "batch_size=16", "model.options.dropout=0.0",
        "scaling.threads_per_worker=1",
    )  # fmt: skip
    run_config = ray.train.RunConfig(name="run", storage_path=str(folder))
    trainer = torch_trainer(make_job(shards, config), run_config, history=None, worker=frozen_worker,
                            losses=str(folder / "losses"))  # fmt: skip
    trainer.fit()
    return np.array([float(line) for line in (folder / "losses").read_text().splitlines()])


def test_two_workers_take_the_steps_of_one(practice_shards: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
    one, two = (losses_with_frozen_norms(practice_shards, count, tmp_path / str(count)) for count in (1, 2))
    assert len(one) == 4 and one[-1] < one[0]
    np.testing.assert_allclose(two, one, atol=1e-4)


def test_a_killed_run_goes_on_and_ends_with_a_bundle(practice_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vizecg.platform.cli", "train", str(practice_shards), str(out)]
    for override in (*TINY, "epochs=12", "scaling.num_workers=2"):
        command += ["--set", override]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = _wait_for_epochs(out, 2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    config = tiny_config("epochs=12", "scaling.num_workers=1")
    with pytest.raises(UserError, match="another configuration"):
        train_model(practice_shards, out, tiny_config("epochs=13"))
    begun: list[int] = []
    bundle = train_model(practice_shards, out, config, on_epoch=lambda row: begun.append(row["epoch"]))
    assert begun[0] > 1 and begun[0] >= seen, "the second run starts where the first was, not at the beginning"
    assert [row["epoch"] for row in read_history(out / "history.jsonl")] == list(range(1, 13))
    facts, _ = load_bundle(bundle)
    assert facts.metrics["val_signal_macro_auroc"] is not None
    assert train_model(practice_shards, out, config) == bundle, "a finished run is returned at once"
    (out / "notes.txt").write_text("mine")
    other = make_job(practice_shards, tiny_config("epochs=13"))
    _clear(out, other)
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "run.json"], "--restart removes a run alone"
    assert not _claim(out, other), "and makes room for another configuration"


def _wait_for_epochs(out: Path, num_epochs: int) -> int:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        done = len(read_history(out / "history.jsonl"))
        if done >= num_epochs:
            return done
        time.sleep(0.1)
    raise AssertionError("the run made no progress within three minutes")


def _alone(report: list) -> Worker:
    return Worker(
        rank=0, world_size=1, device=torch.device("cpu"), report=lambda metrics, folder: report.append(metrics)
    )


def test_training_reports_losses_and_gathered_metrics_of_every_epoch(practice_shards: Path) -> None:
    reported: list[dict] = []
    TrainingRun(make_job(practice_shards, tiny_config("ema_decay=0.9", "precision=bf16")), _alone(reported)).train()
    assert [row["epoch"] for row in reported] == [1, 2]
    expected = {"train_loss", "train_cls_image", "train_kd", "val_image_macro_auroc", "val_fused_macro_auroc"}
    assert expected <= reported[0].keys()
    parts = ("train_cls_image", "train_cls_signal", "train_cls_fused", "train_kd")
    assert reported[0]["train_loss"] == pytest.approx(sum(reported[0][name] for name in parts))
    json.dumps(reported, allow_nan=False)


def test_a_loss_that_is_no_number_stops_before_the_step(practice_shards: Path) -> None:
    run = TrainingRun(make_job(practice_shards, tiny_config()), _alone([]))
    with torch.no_grad():
        run.model.image_head[2].bias.fill_(float("inf"))
    before = {name: value.clone() for name, value in run.model.state_dict().items() if "num_batches" not in name}
    with pytest.raises(FloatingPointError, match="loss is not finite at step 0"):
        run.train()
    trained = [name for name, _ in run.model.named_parameters()]
    assert all(torch.equal(before[name], run.model.state_dict()[name]) for name in trained)


def test_shards_and_configuration_must_fit(practice_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size 512"):
        make_job(practice_shards, tiny_config("batch_size=512"))
    with pytest.raises(UserError, match="did you mean 'practice'"):
        make_job(practice_shards, tiny_config("label_space=practise"))
    with pytest.raises(UserError, match="dataset.json"):
        make_job(tmp_path, tiny_config())
