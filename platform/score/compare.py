"""`vizecg score --compare OLD NEW OUT`: what a new bundle says otherwise of an archive that an old one has scored.

Rows are matched by item and page. They lie in the order in which they were scored, so both runs are read in shares of
the input, each share sorted in memory; row groups that hold none of it are skipped.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import UserError
from ..storage import shown
from .agreement import Agreement, LabelAgreement, chart_of
from .changes import Changes, Joined
from .finished import FinishedRun, finished_run, write_json, write_text
from .rows import PROBABILITY, schema_of
from .sheets import pages_of, template

MAX_SHARE_ROWS = 400_000
"""Of one run in memory at once."""
MOST_CHANGED = 24
"""Pages shown."""
MOST_CHARTS = 24
_ABOUT = ("row", "page", "id", "source", "status", "reason", "findings")


def compare_scores(old: str, new: str, out: str) -> dict[str, Any]:
    """OUT/changes.parquet, OUT/changes.json and OUT/changes.html from two finished runs; what changes.json holds.

    Labels that both runs know are compared, the others are named. Memory does not grow with the archive.

    Raises:
        UserError: a run that is missing or has not ended, other inputs, no label in common, or OUT is one of the two.
    """
    runs = finished_run(old), finished_run(new)
    keys = _comparable(*runs, out)
    agreement = Agreement(keys)
    with Changes(out, keys, MOST_CHANGED) as changes:
        for joined in joined_shares(*runs, keys):
            agreement.add(joined)
            changes.add(joined)
    facts = {
        "old": _about(runs[0]),
        "new": _about(runs[1]),
        **agreement.to_dict(),
        "only_in_old": [key for key in runs[0].label_keys if key not in keys],
        "only_in_new": [key for key in runs[1].label_keys if key not in keys],
        "changes": changes.num_rows,
    }
    write_json(out, "changes.json", facts)
    shown_pages = pages_of(runs[1], [(each.row, each.page) for each in changes.most])
    most = list(zip(changes.most, shown_pages, strict=True))
    html = template("changes.html.j2").render(
        facts=facts, runs=runs, most=most, charts=_charts(agreement), num_labels=len(keys), place=shown(out)
    )
    write_text(out, "changes.html", html)
    return facts


def _comparable(old: FinishedRun, new: FinishedRun, out: str) -> list[str]:
    """Label keys in common, in the new run's order."""
    if shown(out) in (shown(old.out), shown(new.out)):
        raise UserError(f"{shown(out)}: OUT is one of the runs that are compared; choose another folder")
    if old.facts["input_identity"] != new.facts["input_identity"]:
        raise UserError(
            f"{shown(new.out)} and {shown(old.out)} are scores of other inputs ({new.facts.get('source')} and "
            f"{old.facts.get('source')}, as they were then); score one archive with both bundles, then compare"
        )
    keys = [key for key in new.label_keys if key in set(old.label_keys)]
    if not keys:
        raise UserError(
            f"{shown(old.out)} and {shown(new.out)} have no label in common "
            f"({', '.join(old.label_keys[:3])} ... against {', '.join(new.label_keys[:3])} ...)"
        )
    return keys


def joined_shares(old: FinishedRun, new: FinishedRun, keys: Sequence[str]) -> Iterator[Joined]:
    """Both runs' rows side by side, a share of the input at a time."""
    num_items = int(new.facts["num_items"])
    num_rows = max(old.num_rows(), new.num_rows())
    shares = max(1, -(-num_rows // MAX_SHARE_ROWS))
    step = max(1, -(-num_items // shares))
    for start in range(0, max(1, num_items), step):
        items = range(start, start + step)
        yield joined(_sorted_rows(old, items, keys), _sorted_rows(new, items, keys), keys)


def _sorted_rows(run: FinishedRun, items: range, keys: Sequence[str]) -> pa.Table:
    columns = [*_ABOUT, *(f"{PROBABILITY}{key}" for key in keys)]
    schema = pa.schema([schema_of(keys).field(name) for name in columns])
    rows = pa.Table.from_batches(run.batches(columns, items), schema)
    return rows.sort_by([("row", "ascending"), ("page", "ascending")])


def joined(old: pa.Table, new: pa.Table, keys: Sequence[str]) -> Joined:
    """Rows that both have, in order, and how many only one has."""
    ours, theirs = _row_keys(new), _row_keys(old)
    _, in_old, in_new = np.intersect1d(theirs, ours, assume_unique=True, return_indices=True)
    return Joined(
        old=old.take(in_old),
        new=new.take(in_new),
        keys=tuple(keys),
        only_old=len(old) - len(in_old),
        only_new=len(new) - len(in_new),
    )


def _row_keys(rows: pa.Table) -> NDArray[np.int64]:
    """One number a row: its item and, below 2**20, its page."""
    return (rows["row"].to_numpy() << 20) + rows["page"].to_numpy()


def _about(run: FinishedRun) -> dict[str, Any]:
    names = ("bundle", "bundle_hash", "backend", "source", "started_at", "version")
    return {"place": shown(run.out), **{name: run.facts.get(name) for name in names}}


def _charts(agreement: Agreement) -> list[tuple[LabelAgreement, Any]]:
    """Old against new of the labels that changed most, most first."""
    order = sorted(agreement.labels.values(), key=lambda label: -(label.only_old + label.only_new))
    return [(label, chart_of(label)) for label in order[:MOST_CHARTS] if label.pages]
