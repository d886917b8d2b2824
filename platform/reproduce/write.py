"""The table for people and for programs: table.md, table.csv, table.json, table.svg."""

import csv
import io
import json
from pathlib import Path

from ..evaluate.bootstrap import Difference
from ..files import write_atomically
from .picture import dot_plot
from .table import MEASURES, Cell, ComparisonTable, Row

_NOTES = (
    "Macro means over the labels with both classes, of the deployed stream, on the test split; thresholds were chosen "
    "on the validation split of each run.",
    "In brackets: 95 % interval of a bootstrap over patients, of the mean over seeds. After ±: standard deviation over "
    "seeds, which is in no interval.",
    "Gains are paired: the same patients are drawn for both models. Not corrected for the number of comparisons.",
)
_NOTE_ON_REPORTED = (
    "What the paper reports was measured on another dataset with other labels, and is given there as percentages "
    "without saying whether of the whole or of the other's figure: it says how large a gain to look for, and no row "
    "here can confirm or refute it."
)


def write_table(out: Path, table: ComparisonTable, facts: dict[str, str]) -> None:
    """All four files; table.md, which shows the picture, last."""
    write_atomically(out / "table.json", json.dumps({"facts": facts, **table.to_dict()}, indent=2) + "\n")
    write_atomically(out / "table.csv", _as_csv(table))
    write_atomically(out / "table.svg", dot_plot(table))
    write_atomically(out / "table.md", as_markdown(table, facts) + "\n![Means with their intervals](table.svg)\n")


def as_markdown(table: ComparisonTable, facts: dict[str, str]) -> str:
    """The figures, the gains and what to know of both."""
    config = table.config
    reference = config.variants[config.reference].title
    parts = [f"# {config.title}", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    cells = [[row.title, *(_figure(row.cells[name]) for name in MEASURES)] for row in table.rows]
    parts.append(_grid(["variant", *MEASURES.values()], cells))
    of_reference = config.gain == "of_reference"
    title = f"Gain of {reference}" if of_reference else f"Gain over {reference}"
    rows = [_gain_row(row, bool(config.reported)) for row in table.rows if row.gains]
    names = [*MEASURES.values(), *(["the paper's"] if config.reported else [])]
    parts += [
        f"## {title}",
        "In points: hundredths of the measure.",
        _grid(["over" if of_reference else "of", *names], rows),
    ]
    notes = [*_NOTES, *([_NOTE_ON_REPORTED] if config.reported else []), *config.notes]
    sources = sorted({f"The paper's gain over {gain.family} models: {gain.source}." for gain in config.reported})
    parts.append("\n".join(f"- {note}" for note in (*notes, *sources)))
    return "\n\n".join(parts) + "\n"


def _gain_row(row: Row, with_reported: bool) -> list[str]:
    said = ", ".join(f"{MEASURES[name]} {value:+.2f}" for name, value in row.reported.items() if value is not None)
    gains = [_points(row.gains[name]) for name in MEASURES] if row.gains else []
    return [row.title, *gains, *([said or "-"] if with_reported else [])]


def _figure(cell: Cell) -> str:
    if cell.mean is None:
        return "-"
    interval = f" [{cell.interval.low:.3f}, {cell.interval.high:.3f}]" if cell.interval else ""
    return f"{cell.mean:.3f}{interval}" + (f" ± {cell.deviation:.3f}" if cell.deviation is not None else "")


def _points(gain: Difference) -> str:
    if gain.value is None:
        return "-"
    interval = f" [{100 * gain.interval.low:+.1f}, {100 * gain.interval.high:+.1f}]" if gain.interval else ""
    return f"{100 * gain.value:+.2f}{interval}"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _as_csv(table: ComparisonTable) -> str:
    """One line a variant and measure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["variant", "family", "measure", "mean", "low", "high", "deviation_over_seeds", "seeds",
         "gain", "gain_low", "gain_high", "gain_p_value", "reported_gain_percent"]
    )  # fmt: skip
    for row in table.rows:
        for name, cell in row.cells.items():
            gain = row.gains[name] if row.gains else None
            writer.writerow(
                [row.key, row.family, name, cell.mean, *_ends(cell.interval), cell.deviation, len(cell.seeds),
                 gain and gain.value, *_ends(gain and gain.interval), gain and gain.p_value, row.reported.get(name)]
            )  # fmt: skip
    return text.getvalue()


def _ends(interval: object) -> tuple[float | None, float | None]:
    return (getattr(interval, "low", None), getattr(interval, "high", None))
