"""Population based training: a trial goes on with the weights of a better one.

Ray Tune hands a trial the last checkpoint that the other one reported. What is reported is a pointer, so weights are
copied when they are taken over, and not after every epoch.
"""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from ..train.checkpoint import FOLDER, checkpoint_names

Pointer = dict[str, str]
"""`trial` and `checkpoint`."""
_POINTER = "pointer.json"
_LEFT = "left-"
"""In front of the names of a trial's checkpoints from before it took over another one's: others may point to them."""
_STATE = "state.json"


def report_with_pointer(row: dict[str, Any], folder: Path) -> None:
    """Report an epoch of the trial in `folder`, whose checkpoint is on the disk."""
    from ray import tune

    with TemporaryDirectory() as temporary:
        pointer = {"trial": folder.name, "checkpoint": checkpoint_names(folder / FOLDER)[-1]}
        (Path(temporary) / _POINTER).write_text(json.dumps(pointer))
        tune.report(row, checkpoint=tune.Checkpoint.from_directory(temporary))


def read_pointer(reported: Any) -> Pointer | None:
    """What a reported checkpoint points to."""
    if reported is None:
        return None
    try:
        with reported.as_directory() as held:
            return json.loads((Path(held) / _POINTER).read_text())
    except FileNotFoundError:
        return None


def adopt(pointer: Pointer | None, folder: Path, identity: str) -> bool:
    """Take over the weights that `pointer` names where the trial in `folder` has none of the run `identity`; true where
    it did.

    A trial whose settings have changed goes on with its own last weights where the other one's are gone.
    """
    names = checkpoint_names(folder / FOLDER)
    if names and _identity(folder / FOLDER / names[-1]) == identity:
        return False
    source = _find(pointer, folder.parent) if pointer else None
    source = source or (folder / FOLDER / names[-1] if names else None)
    if source is None:
        return False
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    copied = Path(mkdtemp(prefix=".adopting-", dir=folder / FOLDER))
    shutil.copytree(source, copied, dirs_exist_ok=True)
    state = json.loads((copied / _STATE).read_text())
    (copied / _STATE).write_text(json.dumps(state | {"identity": identity}))
    for name in names:
        shutil.rmtree(folder / FOLDER / f"{_LEFT}{name}", ignore_errors=True)
        os.replace(folder / FOLDER / name, folder / FOLDER / f"{_LEFT}{name}")
    os.replace(copied, folder / FOLDER / source.name.removeprefix(_LEFT))
    return True


def _find(pointer: Pointer, trials: Path) -> Path | None:
    there = trials / pointer["trial"] / FOLDER
    found = (there / pointer["checkpoint"], there / f"{_LEFT}{pointer['checkpoint']}")
    return next((path for path in found if path.exists()), None)


def _identity(checkpoint: Path) -> str:
    return json.loads((checkpoint / _STATE).read_text())["identity"]
