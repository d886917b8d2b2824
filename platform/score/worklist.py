"""`vizecg score ... --worklist`: the pages that most likely show one of the chosen findings, to be read first.

Pages stand in the order of the greatest probability among the chosen labels. Not by how far they are above the labels'
thresholds: probabilities are calibrated, so 0.9 means the same of every label, while thresholds say where a label is
worth claiming; a rare label's low one would put doubtful pages before certain ones.
"""

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..bundle import read_facts
from ..errors import UserError
from ..storage import shown
from .finished import FinishedRun, finished_run, write_text
from .rows import PROBABILITY
from .sheets import pages_of, template

WORKLIST_CSV, WORKLIST_HTML = "worklist.csv", "worklist.html"
LIMIT = 200
"""Pages: what an office reads in a day, and a sheet that a browser opens at once."""
_ABOUT = ("row", "page", "id", "source", "findings")


@dataclass(frozen=True)
class Listed:
    """One page of the worklist."""

    rank: int
    row: int
    page: int
    id: str
    source: str
    probabilities: dict[str, float]
    """Of all labels."""
    findings: list[str]


def write_worklist(out: str, labels: Sequence[str], limit: int = LIMIT) -> dict[str, Any]:
    """OUT/worklist.csv and OUT/worklist.html: the `limit` pages with the greatest probability of any chosen label.

    Returns what was chosen and counted: `labels`, `listed`, `with_finding` (pages of the whole run among whose findings
    is a chosen label), `csv` and `html`. Memory is that of `limit` rows and a batch.

    Raises:
        UserError: no finished run, a label that its bundle does not know, or a limit below 1.
    """
    if limit < 1:
        raise UserError(f"a worklist of {limit} pages has nothing in it; give a limit of 1 or more")
    run = finished_run(out)
    labels = _checked(labels, run.label_keys, shown(run.out))
    listed, with_finding = most_probable(run, labels, limit)
    pages = pages_of(run, [(each.row, each.page) for each in listed])
    facts = {"labels": labels, "listed": len(listed), "with_finding": with_finding}
    html = template("worklist.html.j2").render(
        facts=facts, run=run, place=shown(out), listed=list(zip(listed, pages, strict=True)), chosen=set(labels)
    )
    csv_path = write_text(out, WORKLIST_CSV, as_csv(listed, labels))
    return facts | {"csv": csv_path, "html": write_text(out, WORKLIST_HTML, html)}


def check_labels(bundle: Path | str, labels: Sequence[str]) -> None:
    """UserError where a bundle does not know one of these labels, before anything is scored with it."""
    _checked(labels, list(read_facts(bundle).label_space.keys), str(bundle))


def _checked(labels: Sequence[str], known: Sequence[str], place: str) -> list[str]:
    """The chosen labels, each once; UserError that names the nearest key where one is unknown."""
    for key in labels:
        if key not in known:
            by_case = {other.lower(): other for other in known}
            near = difflib.get_close_matches(key.lower(), list(by_case), n=1, cutoff=0.3)
            hint = f"did you mean {by_case[near[0]]!r}?" if near else f"it knows {', '.join(known)}"
            raise UserError(f"worklist of {key!r}: {place} does not know this label; {hint}")
    if not labels:
        raise UserError(f"a worklist needs labels to sort by; {place} knows {', '.join(known)}")
    return list(dict.fromkeys(labels))


def most_probable(run: FinishedRun, labels: Sequence[str], limit: int) -> tuple[list[Listed], int]:
    """The pages to list, and how many pages have a chosen finding."""
    columns = [*_ABOUT, *(f"{PROBABILITY}{key}" for key in run.label_keys)]
    best = pa.schema([]).empty_table()
    with_finding = 0
    for batch in run.batches(columns):
        rows = pa.Table.from_batches([batch]).filter(batch["findings"].is_valid())
        with_finding += int(has_any(rows["findings"].combine_chunks(), labels).sum())
        least = _greatest(best, labels).min() if len(best) == limit else -1.0
        rows = rows.filter(pa.array(_greatest(rows, labels) >= least))
        best = _top(pa.concat_tables([best, rows]) if len(best) else rows, labels, limit)
    return [_listed(rank, row, run.label_keys) for rank, row in enumerate(best.to_pylist(), 1)], with_finding


def has_any(findings: pa.ListArray, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows (n,) have one of these among their findings; null has none."""
    values = np.isin(np.asarray(findings.flatten()), list(labels))
    owners = findings.value_parent_indices().to_numpy()
    found = np.zeros(len(findings), bool)
    found[owners[values]] = True
    return found


def _top(rows: pa.Table, labels: Sequence[str], limit: int) -> pa.Table:
    """Equal probabilities stand in the order of the input, whichever file holds them."""
    order = np.lexsort((rows["page"].to_numpy(), rows["row"].to_numpy(), -_greatest(rows, labels)))
    return rows.take(order[:limit])


def _greatest(rows: pa.Table, labels: Sequence[str]) -> NDArray[np.float32]:
    columns = [rows[f"{PROBABILITY}{key}"].to_numpy() for key in labels] if rows.num_columns else []
    return np.max(columns, axis=0) if columns else np.empty(0, np.float32)


def _listed(rank: int, row: dict[str, Any], keys: Sequence[str]) -> Listed:
    probabilities = {key: row[f"{PROBABILITY}{key}"] for key in keys}
    return Listed(rank, row["row"], row["page"], row["id"], row["source"], probabilities, row["findings"])


def as_csv(listed: Sequence[Listed], labels: Sequence[str]) -> str:
    """One line a page, the surest first."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["rank", "id", "page", "source", *(f"{PROBABILITY}{key}" for key in labels), "findings"])
    for each in listed:
        numbers = [f"{each.probabilities[key]:.4f}" for key in labels]
        id_, source, findings = map(_no_formula, (each.id, each.source, " ".join(each.findings)))
        writer.writerow([each.rank, id_, each.page, source, *numbers, findings])
    return file.getvalue()


def _no_formula(cell: str) -> str:
    """Spreadsheets run what begins like a formula, and a file's name comes from anywhere."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
