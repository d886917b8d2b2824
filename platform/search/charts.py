"""All charts of a search, and those of its points: parallel coordinates, and metric against latency."""

from .chart_dimensions import dimension_charts
from .chart_epochs import growth_chart, learning_chart, survival_chart
from .chart_nodes import nodes_chart
from .chart_parts import KINDS, Axis, Chart, Frame, circle, line, path, shortened, text
from .config import SearchConfig
from .journal import Journal
from .leaderboard import status_of, text_of
from .ranking import Ranked, Results
from .space import named

_TOP, _HEIGHT = 44, 300
_STEPS = 5
"""Colours from the worst rank to the best."""


def draw_charts(search: SearchConfig, results: Results, journal: Journal) -> list[Chart]:
    """Those that these trials have something to show in."""
    found = [
        parallel_chart(search, results),
        *dimension_charts(search, results, journal),
        pareto_chart(results),
        survival_chart(journal),
        learning_chart(results, journal),
        growth_chart(results, journal),
        nodes_chart(results, journal),
    ]
    return [chart for chart in found if chart]


def parallel_chart(search: SearchConfig, results: Results) -> Chart:
    """One line a trial, through its value on the axis of every dimension and its metric on the last."""
    keys = list(search.space)
    axes = [Axis.of(search.space[key]) for key in keys] + [Axis.over(entry.value for entry in results.ranked)]
    names = [named(key, search.space[key]) for key in keys] + [results.metric]
    gap = max(104.0, 860 / len(keys))
    xs = [70 + gap * number for number in range(len(axes))]
    parts = [line(x, _TOP, x, _TOP + _HEIGHT, "rule") for x in xs]
    shares = {key: _shares(results, key, axis) for key, axis in zip(keys, axes, strict=False)}
    for entry in sorted(results.ranked, key=lambda entry: (entry is results.winner, -entry.rank)):
        ups = [*(shares[key][entry.trial.id] for key in keys), axes[-1].at(entry.value)]
        points = [(x, _TOP + _HEIGHT * (1 - up)) for x, up in zip(xs, ups, strict=True)]
        parts.append(path(points, _kind(entry, results), tip_of(entry, results, search)))
    for number, (axis, name, x) in enumerate(zip(axes, names, xs, strict=True)):
        parts.append(_labels(axis, name, x, number))
    return Chart(
        name="parallel",
        title="Every trial through its values",
        body="".join(parts),
        width=xs[-1] + 70,
        height=_TOP + _HEIGHT + 14,
        note="The darker, the better its rank. Faint lines did not run to their end, so their metric is that of fewer "
        "epochs. Trials with the same value stand beside each other, the best of them on top.",
        legend=[("best", KINDS["best"]), ("q4", "best fifth"), ("q2", "middle"), ("q0", "last fifth")],
    )


def _labels(axis: Axis, name: str, x: float, number: int) -> str:
    """Names stand on two levels, so that each has the room of two axes."""
    parts = [text(x, 14 + 15 * (number % 2), shortened(name, 30), "name", "middle")]
    for share, words in axis.ticks():
        y = _TOP + _HEIGHT * (1 - share)
        parts += [line(x - 3, y, x, y, "rule"), text(x - 6, y + 4, shortened(words, 16), "halo", "end")]
    return "".join(parts)


def _shares(results: Results, key: str, axis: Axis) -> dict[str, float]:
    """Where every trial crosses an axis; those with one of a few values next to each other, by rank."""
    crossing = {entry.trial.id: axis.at(entry.point[key]) for entry in results.ranked}
    if axis.values is None:
        return crossing
    for place in set(crossing.values()):
        same = [trial for trial, share in crossing.items() if share == place]
        step = 0.6 / len(axis.values) / len(same)
        for number, trial in enumerate(same):
            crossing[trial] = place + ((len(same) - 1) / 2 - number) * step
    return crossing


def _kind(entry: Ranked, results: Results) -> str:
    if entry is results.winner:
        return "best thick"
    step = _STEPS - 1 - (entry.rank - 1) * _STEPS // len(results.ranked)
    return f"q{step}" + ("" if entry.trial.status == "finished" else " faint")


def pareto_chart(results: Results) -> Chart | None:
    """Metric over latency, with the trials that no other one beats in both."""
    known = [entry for entry in results.ranked if entry.latency_ms is not None]
    if not known:
        return None
    x = Axis.over(entry.latency_ms or 0.0 for entry in known)
    frame = Frame(x=x, y=Axis.over(entry.value for entry in known), width=960, height=360)
    front = sorted((entry for entry in known if entry.on_front), key=lambda entry: entry.latency_ms or 0.0)
    corners: list[tuple[float, float]] = []
    for entry in front:
        place = (frame.x_at(entry.latency_ms), frame.y_at(entry.value))
        corners += [(place[0], corners[-1][1]), place] if corners else [place]
    marks = [path([*corners, (frame.width - frame.right, corners[-1][1])], "unfinished")]
    for entry in reversed(known):
        kind = "best" if entry is results.winner else status_of(entry.trial)
        place = (frame.x_at(entry.latency_ms), frame.y_at(entry.value))
        look, radius = ("dot", 5) if entry.on_front else ("ring", 3.5)
        marks.append(circle(*place, radius, f"{kind} {look}", _name(entry, results)))
        if entry.on_front:
            marks.append(text(place[0] + 7, place[1] + 13, entry.trial.id, "name halo"))
    kinds = {"best", *(status_of(entry.trial) for entry in known)}
    return Chart(
        name="pareto",
        title=f"{results.metric} against latency",
        body=frame.grid("ms for one page, image path") + "".join(marks),
        width=frame.width,
        height=frame.height,
        note="Filled, along the line: no trial has both a higher metric and a lower latency. Latency is the least "
        "measured of all trials of one architecture.",
        legend=[(kind, words) for kind, words in KINDS.items() if kind in kinds],
    )


def _name(entry: Ranked, results: Results) -> str:
    latency = f", {entry.latency_ms:.3g} ms" if entry.latency_ms is not None else ""
    return f"{entry.trial.id}: {entry.value:.4f}{latency}, number {entry.rank} of {len(results.ranked)}"


def tip_of(entry: Ranked, results: Results, search: SearchConfig) -> str:
    """What is shown where the pointer rests on a trial."""
    values = ", ".join(f"{named(key, search.space[key])} {text_of(value)}" for key, value in entry.point.items())
    return f"{_name(entry, results)}: {values}"
