"""Whether a trial with several workers goes on after an epoch, told through a file in its folder.

Ray Tune stops a trial by ending its process. Where that process waits for a Ray Train run, the run's placement group
and a process that watches over it then stay for as long as the search lives (Ray 2.60), and the next trials find no
room. So the workers wait for the decision, and end by themselves.
"""

import json
import time
from pathlib import Path
from typing import Any

from ..files import write_atomically

_DECISION = "decision.json"
_LONGEST_WAIT_S = 600.0


def write_decision(folder: Path, epoch: int, stop: bool) -> None:
    """After an epoch of the trial in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _DECISION, json.dumps({"epoch": epoch, "stop": stop}))


def forget_decision(folder: Path) -> None:
    """Of an earlier start of the trial."""
    (folder / _DECISION).unlink(missing_ok=True)


def wait_for_decision(folder: Path, epoch: int, every_s: float = 0.05) -> bool:
    """Whether the trial shall end after this epoch; a search that does not answer for long has gone away."""
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while (told := _told(folder / _DECISION))["epoch"] < epoch:
        if time.monotonic() > deadline:
            return True
        time.sleep(every_s)
    return bool(told["stop"])


def _told(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # Not there yet, or just being replaced on a file system of the network.
        return {"epoch": 0, "stop": False}
