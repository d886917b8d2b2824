"""The table as a picture: a dot for every mean, a line for its interval, a panel for every measure."""

from collections.abc import Sequence
from html import escape
from math import floor

from .table import MEASURES, ComparisonTable, Row

_ROW, _PANEL, _GAP, _LABELS, _TOP = 24, 170, 24, 170, 34
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 } .quiet { fill: #777 } line.grid { stroke: #ccc }
.other { stroke: #2a6f97; fill: #2a6f97 } .reference { stroke: #b5541c; fill: #b5541c }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .quiet { fill: #999 } line.grid { stroke: #555 } }
"""


def dot_plot(table: ComparisonTable) -> str:
    """An SVG file that stands alone, light and dark."""
    width = _LABELS + len(MEASURES) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(table.rows) + 26
    names = [
        f'<text x="0" y="{_middle(number) + 4}">{escape(row.title)}</text>' for number, row in enumerate(table.rows)
    ]
    panels = [
        f'<g transform="translate({_LABELS + number * (_PANEL + _GAP)} 0)">{_panel(table, name)}</g>'
        for number, name in enumerate(MEASURES)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(table.config.title)}</title><style>{_STYLE}</style>{''.join(names)}{''.join(panels)}</svg>\n"
    )


def _panel(table: ComparisonTable, name: str) -> str:
    low, high = _range(table.rows, name)
    bottom = _TOP + _ROW * len(table.rows)
    parts = [f'<text x="{_PANEL / 2}" y="16" text-anchor="middle">{MEASURES[name]}</text>']
    for value in (low, (low + high) / 2, high):
        x = _at(value, low, high)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text class="quiet" x="{x}" y="{bottom + 16}" text-anchor="middle">{value:.2f}</text>')
    for number, row in enumerate(table.rows):
        parts.append(_dot(row, name, _middle(number), low, high, row.key == table.config.reference))
    return "".join(parts)


def _dot(row: Row, name: str, y: float, low: float, high: float, is_reference: bool) -> str:
    cell, kind = row.cells[name], "reference" if is_reference else "other"
    if cell.mean is None:
        return f'<text class="quiet" x="{_PANEL / 2}" y="{y + 4}" text-anchor="middle">undefined</text>'
    line = ""
    if cell.interval:
        ends = (_at(cell.interval.low, low, high), _at(cell.interval.high, low, high))
        line = f'<line class="{kind}" stroke-width="2" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>'
    return f'{line}<circle class="{kind}" cx="{_at(cell.mean, low, high)}" cy="{y}" r="4"/>'


def _range(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Of all means and intervals, out to whole twentieths."""
    cells = [row.cells[name] for row in rows]
    values = [cell.mean for cell in cells if cell.mean is not None]
    values += [end for cell in cells if cell.interval for end in (cell.interval.low, cell.interval.high)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return floor(20 * low) / 20, (floor(20 * high) + 1) / 20


def _at(value: float, low: float, high: float) -> float:
    return round((value - low) / (high - low) * _PANEL, 1)


def _middle(number: int) -> float:
    return _TOP + _ROW * (number + 0.5)
