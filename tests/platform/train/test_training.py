"""Training through real Ray Train: the result does not depend on who computes it, and a killed run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vizecg.platform.bundle import load_bundle
from vizecg.platform.config import TrainConfig
from vizecg.platform.errors import UserError
from vizecg.platform.history import read_history
from vizecg.platform.train.driver import _claim, _clear, torch_trainer, train_model
from vizecg.platform.train.prepare import make_job

Config = Callable[..., TrainConfig]


def losses_of_every_step(job: Any, folder: Path) -> np.ndarray:
    """Training loss of every step of a Ray Train run."""
    import ray.train

    def recording_worker(arguments: dict[str, Any]) -> None:
        from vizecg.platform.train.ray_worker import ray_worker
        from vizecg.platform.train.step import Stepper

        take = Stepper.__call__

        def recorded(self: Stepper, *step: Any, **named: Any) -> Any:
            sums, call = take(self, *step, **named)
            if self._worker.rank == 0:
                with open(arguments["losses"], "a") as lines:
                    lines.write(f"{self.means(sums)['train_loss']!r}\n")
            return sums, call

        Stepper.__call__ = recorded  # type: ignore[method-assign]
        ray_worker(arguments)

    folder.mkdir()
    run_config = ray.train.RunConfig(name="run", storage_path=str(folder))
    torch_trainer(job, run_config, None, worker=recording_worker, losses=str(folder / "losses")).fit()
    return np.array([float(line) for line in (folder / "losses").read_text().splitlines()])


@pytest.mark.parametrize("counts", [(1, 2), pytest.param((1, 2, 4), marks=pytest.mark.chaos)])
def test_any_number_of_workers_takes_the_same_steps(
    counts: tuple[int, ...], practice_shards: Path, tmp_path: Path, tiny_config: Config
) -> None:
    """In double precision, with batch norms whose statistics no number of workers changes."""
    options = ("precision=fp64", "freeze_batch_norm=true", "model.options.dropout=0.0", "epochs=1")
    curves = []
    for workers in counts:
        job = make_job(practice_shards, tiny_config(*options, f"scaling.num_workers={workers}"))
        curves.append(losses_of_every_step(job, tmp_path / str(workers)))
    assert len(curves[0]) == 6 and curves[0][-1] < curves[0][0]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], atol=1e-6, rtol=0)


def start_training(shards: Path, out: Path, options: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "vizecg.platform.cli", "train", str(shards), str(out), *options]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within three minutes")


def steps_done(out: Path) -> int:
    """Of the run in `out`, by its progress."""
    progress = out / "progress.json"
    return json.loads(progress.read_text())["step"] if progress.exists() else 0


def worker_processes(parent: psutil.Process) -> list[psutil.Process]:
    """The training workers below a process."""
    return [p for p in parent.children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]


@pytest.mark.chaos
def test_a_run_survives_its_worker_and_its_driver(
    practice_shards: Path, tmp_path: Path, tiny_config: Config, tiny_command: Callable[..., list[str]]
) -> None:
    """A worker is killed, then the driver; that such runs end where others do is shown in test_chaos.py."""
    options = ("epochs=5", "scaling.num_workers=2", "checkpoint.every_steps=2")
    out = tmp_path / "run"
    driver = start_training(practice_shards, out, tiny_command(*options))
    wait_until(lambda: steps_done(out) > 3, "progress")
    worker_processes(psutil.Process(driver.pid))[0].send_signal(signal.SIGKILL)
    before = steps_done(out)
    wait_until(lambda: steps_done(out) > before + 4, "going on without the killed worker")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    with pytest.raises(UserError, match="another configuration"):
        train_model(practice_shards, out, tiny_config(*options, "seed=1"))
    seen: list[int] = []
    fewer = tiny_config(*options, "scaling.num_workers=1")
    bundle = train_model(practice_shards, out, fewer, on_progress=lambda row: seen.append(row["step"]))
    assert min(seen) > 0, "the second run starts where the first was, not at the beginning"
    assert [row["epoch"] for row in read_history(out / "history.jsonl")] == list(range(1, 6))
    facts, _ = load_bundle(bundle)
    assert facts.metrics["val_signal_macro_auroc"] is not None and facts.calibration.keys() == {
        "image",
        "signal",
        "fused",
    }
    assert train_model(practice_shards, out, fewer) == bundle, "a finished run is returned at once"


def test_restart_removes_a_run_and_nothing_else(practice_shards: Path, tmp_path: Path, tiny_config: Config) -> None:
    job, other = (make_job(practice_shards, tiny_config(f"seed={seed}")) for seed in (1, 2))
    assert not _claim(tmp_path / "run", job)
    (tmp_path / "run" / "bundle").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="--restart"):
        _claim(tmp_path / "run", other)
    _clear(tmp_path / "run", other)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["notes.txt", "run.json"]
    assert not _claim(tmp_path / "run", other), "and there is room for another configuration"


def test_no_number_on_one_worker_stops_all(practice_shards: Path, tmp_path: Path, tiny_config: Config) -> None:
    import ray.train

    def poisoned_worker(arguments: dict[str, Any]) -> None:
        from vizecg.platform.data.decode import BatchDecoder
        from vizecg.platform.train.ray_worker import ray_worker

        if ray.train.get_context().get_world_rank() == 1:
            decode, calls = BatchDecoder.batch, []

            def poisoned(self: BatchDecoder, *rows: Any) -> Any:
                batch = decode(self, *rows)
                calls.append(1)
                if len(calls) == 3:
                    batch.signal[0, 0, 0] = float("nan")
                return batch

            BatchDecoder.batch = poisoned  # type: ignore[method-assign]
        ray_worker(arguments)

    job = make_job(practice_shards, tiny_config("scaling.num_workers=2"))
    run_config = ray.train.RunConfig(name="run", storage_path=str(tmp_path / "ray"))
    torch_trainer(job, run_config, str(tmp_path), worker=poisoned_worker).fit()
    files = sorted((tmp_path / "not-finite").glob("*.json"))
    facts = [json.loads(file.read_text()) for file in files]
    assert [file.name for file in files] == [f"step00000002-worker{rank}.json" for rank in (0, 1)]
    assert [fact["here"] for fact in facts] == [False, True]
    assert all(len(fact["record_ids"]) == 8 for fact in facts)
