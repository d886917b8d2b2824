"""Live progress of a run: the first worker appends a line to history.jsonl after every epoch, the driver follows it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

HISTORY = "history.jsonl"


@contextmanager
def watch_history(path: Path, on_epoch: Callable[[dict[str, Any]], None], every_s: float = 0.5) -> Iterator[None]:
    """While the block runs, call `on_epoch` with every line that is added to `path`."""
    finished = Event()
    start = path.stat().st_size if path.exists() else 0

    def follow() -> None:
        position = start
        while True:
            last_look = finished.wait(every_s)
            if path.exists():
                with path.open() as lines:
                    lines.seek(position)
                    for line in iter(lines.readline, ""):
                        if not line.endswith("\n"):
                            break
                        position += len(line.encode())
                        on_epoch(json.loads(line))
            if last_look:
                return

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def read_history(path: Path) -> list[dict[str, Any]]:
    """The metrics of every epoch; an epoch that was done again after a failure counts once, the last time."""
    if not path.exists():
        return []
    whole_lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    epochs = {row["epoch"]: row for row in map(json.loads, whole_lines)}
    return [epochs[epoch] for epoch in sorted(epochs)]
