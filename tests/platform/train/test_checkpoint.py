"""Checkpoints: whole or not there, written beside the training, and none of an earlier start of the run."""

import threading
from pathlib import Path

import pytest
import torch

from vizecg.platform.errors import UserError
from vizecg.platform.train import checkpoint as module
from vizecg.platform.train.checkpoint import (
    Checkpoint,
    Checkpoints,
    TrainState,
    begin_attempt,
    latest_checkpoint,
)


def at_step(step: int, epoch: int = 0) -> Checkpoint:
    weights = {"model": {"weight": torch.full((3,), float(step))}}
    state = TrainState(epoch=epoch, step=step, epoch_step=step, losses=[[1.5], [2.0]], history=[{"epoch": 1}])
    return Checkpoint(state=state, weights=weights, optimizer={"optimizer": {"state": {0: {"step": torch.ones(1)}}}})


def opened(folder: Path, attempt: str = "a", keep_last: int = 2) -> Checkpoints:
    begin_attempt(folder, attempt)
    return Checkpoints(folder, "identity", attempt, keep_last)


def folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_what_was_saved_last_is_read_back(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    # In the order of a run: the end of an epoch comes after its last step and before the next epoch's first.
    for moment in (at_step(7), at_step(8), at_step(8, epoch=1), at_step(9, epoch=1)):
        assert checkpoints.save(moment, wait=True)
    checkpoints.close()
    assert folders(tmp_path) == ["epoch0001-step00000008", "epoch0001-step00000009"]
    found = latest_checkpoint(tmp_path, "identity")
    assert found is not None and found.state == at_step(9, epoch=1).state
    assert found.weights["model"]["weight"].tolist() == [9, 9, 9]
    assert found.optimizer["optimizer"]["state"][0]["step"].tolist() == [1]


def test_training_may_change_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    write = module.safetensors.torch.save_file

    def slow(*arguments: object) -> None:
        begun.set()
        assert go_on.wait(10)
        write(*arguments)

    monkeypatch.setattr(module.safetensors.torch, "save_file", slow)
    checkpoints, moment = opened(tmp_path), at_step(1)
    assert checkpoints.save(moment)
    assert begun.wait(10)
    assert not checkpoints.save(at_step(2)), "the thread is busy"
    moment.weights["model"]["weight"].fill_(-1)
    moment.state.step = 99
    go_on.set()
    checkpoints.close()
    found = latest_checkpoint(tmp_path, "identity")
    assert found is not None and found.state.step == 1 and found.weights["model"]["weight"].tolist() == [1, 1, 1]


def test_a_failed_write_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    checkpoints = opened(tmp_path)
    monkeypatch.setattr(module.safetensors.torch, "save_file", full)
    checkpoints.save(at_step(1))
    with pytest.raises(OSError, match="no space left"):
        checkpoints.close()
    assert latest_checkpoint(tmp_path, "identity") is None


def test_an_earlier_attempt_writes_no_more(tmp_path: Path) -> None:
    earlier = opened(tmp_path, "a")
    opened(tmp_path, "b").save(at_step(3), wait=True)
    earlier.save(at_step(4), wait=True)
    earlier.close()
    assert latest_checkpoint(tmp_path, "identity").state.step == 3  # type: ignore[union-attr]
    assert folders(tmp_path) == ["epoch0000-step00000003"]


def test_half_a_checkpoint_is_none_and_goes_away(tmp_path: Path) -> None:
    (tmp_path / ".writing-a-epoch0000-step00000005").mkdir()
    assert latest_checkpoint(tmp_path, "identity") is None
    again = opened(tmp_path, "b")
    assert folders(tmp_path) == []
    # A worker that is started again after its death belongs to the same attempt, and writes the same step.
    (tmp_path / ".writing-x-epoch0000-step00000005").mkdir()
    again.save(at_step(5))
    again.close()
    Checkpoints(tmp_path, "identity", "b", 2).close()
    assert folders(tmp_path) == ["epoch0000-step00000005"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "zeros"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        checkpoints.save(at_step(step), wait=True)
    checkpoints.close()
    path = tmp_path / "epoch0000-step00000002" / file
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-20], "empty": b"", "zeros": bytes(len(whole))}[damage])
    assert latest_checkpoint(tmp_path, "identity").state.step == 1  # type: ignore[union-attr]
    again = opened(tmp_path, "b")
    again.save(at_step(2))
    again.close()
    assert latest_checkpoint(tmp_path, "identity").state.step == 2, "and is written again"  # type: ignore[union-attr]


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    checkpoints.save(at_step(1))
    checkpoints.close()
    state = tmp_path / "epoch0000-step00000001" / "state.json"
    state.write_text(state.read_text().replace("records_seen", "records"))
    with pytest.raises(UserError, match="another version"):
        latest_checkpoint(tmp_path, "identity")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    checkpoints.save(at_step(1))
    checkpoints.close()
    with pytest.raises(UserError, match="--restart"):
        latest_checkpoint(tmp_path, "another")
