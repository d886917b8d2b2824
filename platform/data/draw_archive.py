"""`vizecg draw`: the records of an archive as picture files, with a table that makes them an archive of labelled pages.

    OUT/pages.json        the settings; once all is drawn also counts, and which records were rejected and why
    OUT/pages/NAME.png    one picture a page; NAME.json beside it is its truth
    OUT/pages.csv         written last (archives/page_folder.py)

A page depends on the settings and its record alone. So a run that was stopped goes on with the files that are missing,
and any number of processes draws the same.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import UserError
from ..files import claim_folder, write_atomically
from .archives import Archive, ArchiveEntry, PageFolderArchive, open_archive
from .archives.page_folder import PAGES_TABLE
from .dataset_info import Rejection
from .draw_record import PICTURES, DrawJob, Row, draw_records
from .draw_settings import DrawSettings

MARKER = "pages.json"
_RECORDS_PER_TASK = 8
_RECORDS_PER_PROCESS = 64
"""A process costs a second to start: with fewer records it does not earn it."""

OnProgress = Callable[[int, int], None]
"""Called with records done and records in all."""


@dataclass(frozen=True, kw_only=True)
class DrawSummary:
    """What was drawn."""

    out: Path
    num_records: int
    num_pages: int
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def rejected_counts(self) -> Counter[str]:
        """By reason."""
        return Counter(rejection.reason for rejection in self.rejected)


def draw_archive(
    archive: Path | str,
    out: Path | str,
    settings: DrawSettings | None = None,
    *,
    processes: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> DrawSummary:
    """Draw an archive's records into the folder `out`; called again after a stop, it goes on.

    Raises:
        UserError: no archive, nothing in it that can be drawn, or `out` holds something else.
    """
    settings, out = settings or DrawSettings(), Path(out)
    if processes is not None and processes < 1:
        raise UserError(f"processes must be 1 or more, not {processes}")
    opened = open_archive(archive)
    if isinstance(opened, PageFolderArchive):
        raise UserError(f"{archive}: holds pages, not signals to draw; name an archive of recordings")
    entries = _chosen(opened, settings)
    if not entries:
        raise UserError(f"{archive}: holds no records")
    facts = {"archive": str(archive), "settings": asdict(settings), "fingerprint": opened.fingerprint()}
    facts["identity"] = hashlib.sha256(json.dumps([facts["settings"], facts["fingerprint"]]).encode()).hexdigest()
    _claim(out, facts)
    rows: list[Row] = []
    rejected: list[Rejection] = []
    for done, drawn in enumerate(_drawn(DrawJob(archive=opened, out=out, settings=settings), entries, processes), 1):
        if isinstance(drawn, Rejection):
            rejected.append(drawn)
        else:
            rows += drawn
        on_progress(done, len(entries))
    if not rows:
        raise UserError(f"{archive}: none of {len(entries)} records can be drawn; the first: {rejected[0].message}")
    num_records = len(entries) - len(rejected)
    summary = DrawSummary(out=out, num_records=num_records, num_pages=len(rows), rejected=rejected)
    _finish(summary, facts, rows)
    return summary


def _chosen(archive: Archive, settings: DrawSettings) -> list[ArchiveEntry]:
    """The entries to draw, in the archive's order."""
    entries = archive.entries()
    if settings.records == "all":
        return entries
    taken = np.random.default_rng(settings.seed).permutation(len(entries))[: settings.records]
    return [entries[index] for index in sorted(taken)]


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Mark `out` as this command's, and remove what a killed process left half written."""
    if differences := _differences(out / MARKER, facts):
        raise UserError(f"{out}: holds pages of another command ({'; '.join(differences)}); choose another OUT")
    if claim_folder(out / MARKER, facts):
        for left in (out / PICTURES).rglob(".*-????????"):
            left.unlink()


def _differences(marker: Path, facts: dict[str, Any]) -> list[str]:
    """What another command in the same folder was given; nothing where that cannot be read."""
    try:
        before = json.loads(marker.read_text())
        settings = before["settings"].items()
        same_archive = before["fingerprint"] == facts["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    now = facts["settings"]
    named = [f"{name} {old}, not {now.get(name)}" for name, old in settings if old != now.get(name)]
    return named if same_archive else [*named, "the archive is another one or has changed"]


def _drawn(job: DrawJob, entries: Sequence[ArchiveEntry], processes: int | None) -> Iterator[list[Row] | Rejection]:
    """For each entry, in order, what `draw_records` says of it."""
    starts = range(0, len(entries), _RECORDS_PER_TASK)
    tasks = [entries[start : start + _RECORDS_PER_TASK] for start in starts]
    num_processes = min(processes or os.cpu_count() or 1, -(-len(entries) // _RECORDS_PER_PROCESS))
    if num_processes == 1:
        for task in tasks:
            yield from draw_records(job, task)
        return
    # Neither Ray nor CUDA nor threads survive a fork.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(num_processes, context, _start_process) as pool:
            for found in pool.map(partial(draw_records, job), tasks):
                yield from found
    except BrokenProcessPool:
        raise UserError(
            f"{job.out}: a process that drew was killed, perhaps for want of memory; the same command goes on, "
            "with fewer processes if need be"
        ) from None


def _start_process() -> None:
    cv2.setNumThreads(1)
    # Control-C reaches every process of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process of a pool does not notice by itself that nobody will give it work any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _finish(summary: DrawSummary, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    found = {
        "records": summary.num_records,
        "pages": summary.num_pages,
        "rejected": [rejection.model_dump() for rejection in summary.rejected],
    }
    write_atomically(summary.out / MARKER, json.dumps(facts | found, indent=2) + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(summary.out / PAGES_TABLE, table.getvalue())
