"""Which trial ran where and when: a band for every node, with as many lanes as trials ran there at once."""

from .chart_epochs import unit_of
from .chart_parts import KINDS, Axis, Chart, line, rect, shortened, text
from .journal import Journal
from .leaderboard import status_of
from .ranking import Results
from .utilisation import Stretch, node_uses, sessions, span_s, stretches

_LEFT, _WIDTH, _GAP = 130, 860, 8


def nodes_chart(results: Results, journal: Journal) -> Chart:
    """Trials over the time in which the search ran."""
    found, total = stretches(journal), span_s(journal) or 1.0
    bands = {use.node: lanes([s for s in found if s.node == use.node]) for use in node_uses(journal)}
    count = sum(max(1, len(band)) for band in bands.values())
    lane_px = min(max(360 / count, 3.0), 14.0)
    parts: list[str] = []
    y = 4.0
    for node, band in bands.items():
        band_px = max(14.0, lane_px * max(1, len(band)))
        parts.append(text(_LEFT - 10, y + band_px / 2 + 4, shortened(node, 19), "name", "end"))
        parts.append(rect(_LEFT, y, _WIDTH, band_px, "idle"))
        for number, lane in enumerate(band):
            parts += [_bar(stretch, results, total, y + number * lane_px, lane_px) for stretch in lane]
        y += band_px + _GAP
    kinds = {_kind(stretch, results) for stretch in found}
    return Chart(
        name="nodes",
        title="Which node ran what",
        body="".join([*parts, _time_axis(journal, total, y)]),
        width=_LEFT + _WIDTH + 14,
        height=y + 38,
        note="A bar is a trial from its start, or its return, to its last epoch; what it was doing when it was cut off "
        "is not drawn. Dashed: the search was started again; the time in between is left out.",
        legend=[(kind, words) for kind, words in [*KINDS.items(), ("again", "other seeds")] if kind in kinds],
    )


def lanes(found: list[Stretch]) -> list[list[Stretch]]:
    """Stretches in as few lanes as hold them without overlap."""
    taken: list[list[Stretch]] = []
    for stretch in found:
        free = next((lane for lane in taken if lane[-1].end_s <= stretch.begin_s + 0.5), None)
        if free is None:
            taken.append([stretch])
        else:
            free.append(stretch)
    return taken


def _bar(stretch: Stretch, results: Results, total: float, y: float, lane_px: float) -> str:
    x, end = (_LEFT + _WIDTH * s / total for s in (stretch.begin_s, stretch.end_s))
    tip = f"{stretch.trial.id} on {stretch.node}: {stretch.end_s - stretch.begin_s:.0f} s, {status_of(stretch.trial)}"
    return rect(x + 0.4, y + 0.5, end - x - 0.8, lane_px - 1, f"{_kind(stretch, results)} bar", tip)


def _kind(stretch: Stretch, results: Results) -> str:
    if results.winner and stretch.trial is results.winner.trial:
        return "best"
    return "again" if stretch.trial.seed is not None else status_of(stretch.trial)


def _time_axis(journal: Journal, total: float, y: float) -> str:
    unit, seconds = unit_of(total)
    axis = Axis(low=0.0, high=total / seconds)
    parts = [line(_LEFT, y, _LEFT + _WIDTH, y, "rule")]
    for share, words in axis.ticks():
        x = _LEFT + _WIDTH * share
        parts += [line(x, y, x, y + 4, "rule"), text(x, y + 17, words, "", "middle")]
    for session in sessions(journal)[1:]:
        x = _LEFT + _WIDTH * session.before_s / total
        parts.append(line(x, 0, x, y, "dash"))
    return "".join([*parts, text(_LEFT + _WIDTH, y + 33, f"{unit} in which the search ran", "", "end")])
