"""Progress of a run: history.jsonl, a line an epoch, and progress.json, where it is now (train/tracking.py)."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

HISTORY = "history.jsonl"
PROGRESS = "progress.json"

Row = dict[str, Any]
OnRow = Callable[[Row], None]


def append_history(path: Path, row: Row) -> None:
    """Add the line of an epoch, so that it outlives a crash; half a line that an earlier crash left is taken away."""
    with path.open("a+b") as file:
        file.truncate(_whole_lines(path))
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_history(path: Path) -> list[Row]:
    """The metrics of every epoch; an epoch that was done again after a failure counts once, the last time."""
    if not path.exists():
        return []
    epochs = {row["epoch"]: row for row in map(json.loads, path.read_bytes()[: _whole_lines(path)].splitlines())}
    return [epochs[epoch] for epoch in sorted(epochs)]


def _whole_lines(path: Path) -> int:
    """How many bytes of a file are lines that were written to their end."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


@contextmanager
def watch_run(out: Path, on_epoch: OnRow, on_progress: OnRow, every_s: float = 0.5) -> Iterator[None]:
    """While the block runs, follow the run in `out`: every epoch that is added to its history, and where it is now.

    Both are called on a thread of their own, one after the other.
    """
    new_epochs, new_progress = _added_lines(out / HISTORY), _replaced(out / PROGRESS)

    def look() -> None:
        for row in new_epochs():
            on_epoch(row)
        for row in new_progress():
            on_progress(row)

    finished = Event()

    def follow() -> None:
        while not finished.wait(every_s):
            look()
        look()

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _added_lines(path: Path) -> Callable[[], list[Row]]:
    """Tells at every call which lines were added since the one before."""
    position = _whole_lines(path)

    def added() -> list[Row]:
        nonlocal position
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(position)
            lines, newline, _ = file.read().rpartition(b"\n")
        position += len(lines) + len(newline)
        return [json.loads(line) for line in lines.splitlines()]

    return added


def _replaced(path: Path) -> Callable[[], list[Row]]:
    """Tells at every call what the file holds, where it is another one than at the call before."""
    seen = _version(path)

    def replaced() -> list[Row]:
        nonlocal seen
        version = _version(path)
        if version in (None, seen):
            return []
        seen = version
        return [json.loads(path.read_bytes())]

    return replaced


def _version(path: Path) -> tuple[int, int] | None:
    # A replaced file may get the number of one before it, and the clock of a file system is coarse.
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
