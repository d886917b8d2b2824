"""Weights that one trial takes over from another, as files."""

import json
from pathlib import Path

from vizecg.platform.search.population import adopt
from vizecg.platform.train.checkpoint import FOLDER, checkpoint_names


def make_checkpoint(trials: Path, trial: str, name: str, identity: str, weights: str) -> None:
    folder = trials / trial / FOLDER / name
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"identity": identity, "epoch": int(name[5:9])}))
    (folder / "model.safetensors").write_text(weights)


def weights_of(trials: Path, trial: str) -> tuple[str, str, str]:
    """Name, identity and weights of the checkpoint that the trial would go on from."""
    folder = trials / trial / FOLDER / checkpoint_names(trials / trial / FOLDER)[-1]
    identity = json.loads((folder / "state.json").read_text())["identity"]
    return folder.name, identity, (folder / "model.safetensors").read_text()


def test_a_trial_takes_over_weights_once_and_again_when_its_settings_change(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "0000", "epoch0002-step00000020", "good", "good weights")
    make_checkpoint(tmp_path, "0001", "epoch0003-step00000030", "poor", "poor weights")
    pointer = {"trial": "0000", "checkpoint": "epoch0002-step00000020"}
    assert adopt(pointer, tmp_path / "0001", "first")
    assert weights_of(tmp_path, "0001") == ("epoch0002-step00000020", "first", "good weights")
    assert not adopt(pointer, tmp_path / "0001", "first"), "started again after a failure"
    assert adopt(pointer, tmp_path / "0001", "second"), "sent to the same weights with other settings"
    assert weights_of(tmp_path, "0001") == ("epoch0002-step00000020", "second", "good weights")
    assert weights_of(tmp_path, "0000")[1] == "good", "the source stays as it was"


def test_weights_that_were_left_can_still_be_taken_over(tmp_path: Path) -> None:
    """The third trial points to weights of the second, which has gone on with the first one's since."""
    for number in range(3):
        make_checkpoint(tmp_path, f"000{number}", "epoch0001-step00000010", f"own {number}", f"weights {number}")
    assert adopt({"trial": "0000", "checkpoint": "epoch0001-step00000010"}, tmp_path / "0001", "new 1")
    make_checkpoint(tmp_path, "0001", "epoch0002-step00000020", "new 1", "weights 0, trained on")
    assert adopt({"trial": "0001", "checkpoint": "epoch0002-step00000020"}, tmp_path / "0002", "new 2")
    assert weights_of(tmp_path, "0002")[2] == "weights 0, trained on"


def test_a_trial_goes_on_with_its_own_weights_where_the_others_are_gone(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "0001", "epoch0003-step00000030", "old", "own weights")
    assert adopt({"trial": "0000", "checkpoint": "epoch0002-step00000020"}, tmp_path / "0001", "new")
    assert weights_of(tmp_path, "0001") == ("epoch0003-step00000030", "new", "own weights")
    assert not adopt(None, tmp_path / "0002", "new"), "a trial that begins"
