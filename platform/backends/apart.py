"""Choosing a backend beside requests that are being answered: in a process of its own, on cores that nobody wants.

    python -m vizecg.platform.backends.apart FOLDER

A comparison keeps two cores busy for half a minute, and leaves torch and its models in memory. In a replica that
starts beside others both would be theirs: of a bundle rolled out at 70 % load, 128 of 2,401 requests were refused.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ..bundle_facts import Bundle
from .cache import compile_cached, find_compiled
from .compiled import Compiled

LONGEST_S = 900


def compile_apart(folder: Path | str, backend: str = "auto", device: str = "cpu") -> tuple[Bundle, Compiled]:
    """`cache.compile_cached`, whose comparison leaves the cores to whoever else computes.

    Raises:
        UserError: as `compile_cached`.
    """
    bundle, kept = find_compiled(folder, backend, device)
    if kept is not None:
        return bundle, kept
    if backend == "auto" and device == "cpu":
        command = [sys.executable, "-m", __spec__.name, str(folder)]
        # What goes wrong there goes wrong again below, and is told there.
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False)
    return compile_cached(folder, backend, device)


def main() -> None:
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    compile_cached(sys.argv[1])


if __name__ == "__main__":
    main()
