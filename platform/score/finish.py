"""The end of a run: from its files to report.html and summary.json."""

from collections import defaultdict
from typing import Any

import pyarrow.compute as pc

from ..bundle_facts import Bundle
from ..data.read_page import Reading
from .finished import FinishedRun
from .follow import Follower
from .report import MAX_SAMPLES, Sample, write_report
from .rows import READER_DIED, READER_FAILED
from .sheets import SheetRow, items_of, thumbnails
from .sources.base import Source
from .summary import summarise, write_summary

_MAX_REASONS = 12
"""With pictures: beyond them reasons are counted only."""


def finish_run(
    out: str, run: dict[str, Any], bundle: Bundle, source: Source, reading: Reading, follower: Follower
) -> dict[str, Any]:
    """Write the report and then the summary, which says that the run has ended; the summary."""
    progress = follower.progress()
    mine = sum(follower.workers.values())
    facts = {
        # Of a run in several starts nobody kept the time of those that were killed.
        "seconds": None if progress.resumed_items else round(progress.elapsed_s, 3),
        "pages_per_s": round(mine / progress.elapsed_s, 3) if mine else None,
        "backend": run["backend"],
        "input": {
            "place": run["source"],
            "kind": source.kind,
            "items": source.num_items,
            "left_out": dict(source.left_out),
        },
    }
    summary = summarise(out, bundle, facts)
    samples = rejected_samples(FinishedRun(out, run), source, reading)
    write_report(out, summary, bundle, samples, {"the table": "scores/"})
    write_summary(out, summary)
    return summary


def rejected_samples(run: FinishedRun, source: Source, reading: Reading) -> list[Sample]:
    """Some rejected pages of every reason, to look at."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in run.batches(["row", "page", "id", "reason", "error"]):
        for row in batch.filter(pc.is_valid(batch["reason"])).to_pylist():
            known = row["reason"] in found or len(found) < _MAX_REASONS
            if known and len(found[row["reason"]]) < MAX_SAMPLES:
                found[row["reason"]].append(row)
    rows = [row for some in found.values() for row in some]
    # What kills its reader would kill this process, too.
    shown = [row for row in rows if row["reason"] not in (READER_DIED, READER_FAILED)]
    items = items_of(source, [row["row"] for row in shown])
    sheet = [SheetRow(item=items[row["row"]], page=row["page"]) for row in shown]
    pictures = {id(row): picture for row, picture in zip(shown, thumbnails(sheet, source.reader, reading), strict=True)}
    return [Sample(row["reason"], row["id"], row["error"], pictures.get(id(row))) for row in rows]
