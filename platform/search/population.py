"""Population based training: a trial goes on with the weights of a better one.

Ray Tune hands a trial the last checkpoint that the other one reported. What is reported is a pointer, so weights are
copied when they are taken over, and not after every epoch.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..train.checkpoint import FOLDER, checkpoint_names

_POINTER = "pointer.json"
_ADOPTED = "adopted.json"


def report_with_pointer(row: dict[str, Any], folder: Path) -> None:
    """Report an epoch of the trial in `folder`, whose checkpoint is on the disk."""
    from ray import tune

    with TemporaryDirectory() as temporary:
        pointer = {"trial": folder.name, "checkpoint": checkpoint_names(folder / FOLDER)[-1]}
        (Path(temporary) / _POINTER).write_text(json.dumps(pointer))
        tune.report(row, checkpoint=tune.Checkpoint.from_directory(temporary))


def adopt(reported: Any, folder: Path, identity: str) -> None:
    """Take over the weights that `reported` points to, if they are another trial's and were not taken over before.

    Args:
        reported: tune.get_checkpoint() of this process.
        identity: of the run that goes on with them.
    """
    if reported is None:
        return
    with reported.as_directory() as held:
        source = json.loads((Path(held) / _POINTER).read_text())
    adopted = folder / _ADOPTED
    if source["trial"] == folder.name or (adopted.exists() and json.loads(adopted.read_text()) == source):
        return
    target = folder / FOLDER / source["checkpoint"]
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    shutil.copytree(folder.parent / source["trial"] / FOLDER / source["checkpoint"], target)
    state = json.loads((target / "state.json").read_text())
    (target / "state.json").write_text(json.dumps(state | {"identity": identity}))
    adopted.write_text(json.dumps(source))
