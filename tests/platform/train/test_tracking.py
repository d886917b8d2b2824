"""Tracking writes seldom, survives kills, and a run that goes on continues what is there."""

import json
import struct
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vizecg.platform.config import load_config
from vizecg.platform.errors import UserError
from vizecg.platform.history import read_history
from vizecg.platform.train import mlflow_log, tracking
from vizecg.platform.train.mlflow_log import MlflowLog, MlflowSettings, flattened, mlflow_settings
from vizecg.platform.train.tracking import Tracker

ROW = {
    "train_loss": 0.5, "train_kd": 0.01, "val_image_macro_auroc": 0.8, "val_fused_macro_auroc": None,
    "records_per_second": 100.0, "stopped": True,
}  # fmt: skip


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tracking, "time", clock)
    return clock


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Tracker]:
    """Starts trackers of one run: 10 steps an epoch, 160 records."""

    def started(**changed: Any) -> Tracker:
        settings: dict[str, Any] = {
            "run_name": "run", "num_epochs": 3, "steps_per_epoch": 10, "num_train": 160,
            "tensorboard": False, "mlflow": None, "started_at_step": 0,
        }  # fmt: skip
        return Tracker(tmp_path, **(settings | changed))

    return started


def progress(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "progress.json").read_text())


def test_progress_is_written_twice_a_second_and_losses_are_asked_for_only_then(
    start: Callable[..., Tracker], clock: Clock, tmp_path: Path
):
    tracker = start()
    tracker.phase("training")
    asked: list[float] = []

    def losses() -> dict[str, float]:
        asked.append(clock.now)
        return {"train_loss": 1.0}

    for step in range(1, 1001):
        clock.now += 0.01
        tracker.step(1 + (step - 1) // 10, step, 16 * step, 16, losses, 1e-3)
    assert 18 <= len(asked) <= 20, "ten seconds"
    assert min(b - a for a, b in pairwise(asked)) >= 0.5
    row = progress(tmp_path)
    assert row["step"] >= 950 and row["losses"] == {"train_loss": 1.0} and row["phase"] == "training"
    tracker.phase("validate")
    row = progress(tmp_path)
    assert (row["step"], row["phase"]) == (1000, "validate"), "a new phase is written at once, with the last step"


def test_speed_counts_neither_the_first_batch_nor_what_is_no_training(
    start: Callable[..., Tracker], clock: Clock, tmp_path: Path
):
    tracker, records = start(), 0
    for _ in range(3):
        tracker.phase("training")
        clock.now += 60  # Waiting for the first batch.
        for step in range(1, 101):
            records += 16
            tracker.step(1, step, records, 16 * step, None, 1e-3)
            clock.now += 0.1
        assert progress(tmp_path)["records_per_second"] == pytest.approx(160)
        tracker.phase("validate")
        clock.now += 500


def test_a_step_costs_next_to_nothing(start: Callable[..., Tracker]):
    tracker = start(tensorboard=True)
    tracker.phase("training")
    began = time.perf_counter()
    for step in range(50_000):
        tracker.step(1, step, step, step, dict, 1e-3)
    assert (time.perf_counter() - began) / 50_000 < 20e-6
    tracker.close()


def test_a_start_says_where_it_goes_on(start: Callable[..., Tracker], tmp_path: Path):
    start(started_at_step=15)
    row = progress(tmp_path)
    assert (row["epoch"], row["step"], row["records_in_epoch"], row["phase"]) == (2, 15, 80, "starting")
    start(started_at_step=30)
    assert progress(tmp_path)["epoch"] == 3, "nothing is left to do, and there is no fourth epoch"


def events(folder: Path) -> list[Any]:
    """Everything that TensorBoard would read, in its order: (length, check, data, check), repeated."""
    from tensorboardX.proto.event_pb2 import Event

    read = []
    for path in sorted(folder.iterdir()):
        data, position = path.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            read.append(Event.FromString(data[position + 12 : position + 12 + length]))
            position += length + 16
    return read


def shown(folder: Path) -> dict[tuple[str, int], float]:
    """Values by tag and step as TensorBoard shows them: a start hides what was written from its step on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    values: dict[tuple[str, int], float] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            values = {key: value for key, value in values.items() if key[1] < event.step}
        for value in event.summary.value:
            assert (value.tag, event.step) not in values, "written twice"
            values[value.tag, event.step] = value.simple_value
    return values


def test_a_run_that_goes_on_continues_history_and_events_without_doubles(start: Callable[..., Tracker], tmp_path: Path):
    first = start(tensorboard=True)
    first.epoch(ROW | {"epoch": 1})
    first.epoch(ROW | {"epoch": 2})
    first.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 3')  # Killed while it wrote.
    second = start(tensorboard=True, started_at_step=10)
    for epoch in (2, 3):
        second.epoch(ROW | {"epoch": epoch, "train_loss": 0.25})
    second.close()
    assert [(row["epoch"], row["train_loss"]) for row in read_history(tmp_path / "history.jsonl")] == [
        (1, 0.5), (2, 0.25), (3, 0.25),
    ]  # fmt: skip
    values = shown(tmp_path / "tensorboard")
    assert {step: value for (tag, step), value in values.items() if tag == "train/loss"} == {
        10: 0.5,
        20: 0.25,
        30: 0.25,
    }
    assert {tag for tag, _ in values} == {"train/loss", "train/kd", "val/image_macro_auroc", "run/records_per_second"}


def test_points_within_an_epoch_come_every_ten_seconds(start: Callable[..., Tracker], clock: Clock, tmp_path: Path):
    tracker = start(tensorboard=True, steps_per_epoch=1000)
    for step in range(1, 301):
        clock.now += 0.1
        tracker.step(1, step, step, step, {"train_loss": 1.0}, 1e-3)
    tracker.close()
    steps = [step for tag, step in shown(tmp_path / "tensorboard") if tag == "step/loss"]
    assert len(steps) == 3 and min(b - a for a, b in pairwise(steps)) >= 100


class FakeMlflow:
    """Keeps what is logged; `away` makes it fail."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.away = False

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        run_id = f"{experiment_id}-{len(self.runs)}"
        self.runs[run_id] = {"name": run_name, "status": "RUNNING", "params": {}, "metrics": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        if self.away:
            raise RuntimeError("connection refused")
        assert len(params) <= 100
        self.runs[run_id]["params"] |= dict(params)
        self.runs[run_id]["metrics"] += [(name, value, step) for name, value, _, step in metrics]

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id]["status"] = status

    set_terminated = update_run


@pytest.fixture
def fake_mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    package, entities, exceptions = (ModuleType(f"mlflow{name}") for name in ("", ".entities", ".exceptions"))
    vars(package).update(MlflowClient=lambda tracking_uri: fake)
    vars(entities).update(Metric=lambda *values: values, Param=lambda *values: values)
    vars(exceptions).update(MlflowException=RuntimeError)
    for module in (package, entities, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake


def settings(num_params: int = 3) -> MlflowSettings:
    params = {f"key{number}": "1" for number in range(num_params)}
    return MlflowSettings(uri="http://mlflow", experiment_id="7", params=params)


def test_a_run_goes_on_in_mlflow_and_logs_no_epoch_twice(
    start: Callable[..., Tracker], fake_mlflow: FakeMlflow, tmp_path: Path
):
    first = start(mlflow=settings(250))
    for epoch in (1, 2):
        first.epoch(ROW | {"epoch": epoch})
    first.close(finished=False)
    (run,) = fake_mlflow.runs.values()
    assert run["status"] == "KILLED" and run["name"] == "run" and len(run["params"]) == 250
    second = start(mlflow=settings(250), started_at_step=10)
    for epoch in (2, 3):
        second.epoch(ROW | {"epoch": epoch})
    second.close()
    assert len(fake_mlflow.runs) == 1 and run["status"] == "FINISHED"
    assert [metric for metric in run["metrics"] if metric[0] == "train/loss"] == [
        ("train/loss", 0.5, epoch) for epoch in (1, 2, 3)
    ]
    assert {name for name, _, _ in run["metrics"]} == {
        "train/loss", "train/kd", "val/image_macro_auroc", "run/records_per_second",
    }  # fmt: skip


def test_epochs_that_could_not_be_sent_go_with_the_next(fake_mlflow: FakeMlflow, tmp_path: Path):
    log = MlflowLog(tmp_path, settings(), "run")
    log._thread.submit(lambda: None).result()
    fake_mlflow.away = True
    log.add(1, {"train/loss": 0.5})
    log._thread.submit(lambda: None).result()
    fake_mlflow.away = False
    log.add(2, {"train/loss": 0.4})
    log.close()
    (run,) = fake_mlflow.runs.values()
    assert run["metrics"] == [("train/loss", 0.5, 1), ("train/loss", 0.4, 2)]


def test_without_the_package_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert mlflow_settings(load_config()) is None, "who does not ask for it needs no package"
    with pytest.raises(UserError, match=r"vizecg\[track\]"):
        mlflow_settings(load_config(None, ["tracking.mlflow_uri=http://mlflow"]))


def test_settings_are_flattened():
    assert flattened({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": {}}) == {
        "a.b": "1", "a.c.d": "None", "e": "[1, 2]", "f": "{}",
    }  # fmt: skip
    assert len(flattened({"a": "x" * 1000})["a"]) == mlflow_log.MAX_VALUE_LENGTH


def test_a_real_mlflow_holds_the_run(tmp_path: Path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = mlflow_settings(load_config(None, [f"tracking.mlflow_uri={uri}"]))
    assert found is not None
    for epochs in ((1, 2), (2, 3)):
        log = MlflowLog(tmp_path, found, "run")
        for epoch in epochs:
            log.add(epoch, {"train/loss": 1 / epoch})
        log.close()
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([found.experiment_id])
    assert run.data.params["model.name"] == "vizecgnet" and run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3]
