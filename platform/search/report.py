"""report.html: what a search found, as one page that loads nothing else."""

import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from .chart_epochs import unit_of
from .chart_parts import DARK, LIGHT, STYLE, Chart
from .config import SearchConfig
from .importance import Importance
from .journal import Journal, Trial
from .leaderboard import one_line, status_of, text_of
from .ranking import Ranked, Results
from .space import named
from .utilisation import node_uses, span_s

_OPEN = 20
"""Trials of the leaderboard that are open at first."""


def render_report(
    out: Path,
    search: SearchConfig,
    results: Results,
    journal: Journal,
    charts: list[Chart],
    importances: list[Importance],
) -> str:
    """The page; `results` has a winner."""
    by_name = {chart.name: chart for chart in charts}
    return _template().render(
        light=Markup(LIGHT),
        dark=Markup(DARK),
        chart_style=Markup(STYLE),
        search=search,
        results=results,
        best=_settings(search, results.best),
        headings=_headings(search, results),
        board=[_row(search, results, entry) for entry in results.ranked],
        open_rows=_OPEN,
        counts=_counts(search, results, journal),
        confirmed=_confirmed(results, journal),
        charts=by_name,
        dimensions=[chart for chart in charts if chart.name.startswith("metric-over-")],
        importances=importances,
        names={key: named(key, parameter) for key, parameter in search.space.items()},
        nodes=node_uses(journal),
        failed=[(trial, _reasons(trial), _settings(search, trial.point)) for trial in results.failed],
        failed_again=[(trial, _reasons(trial)) for trial in journal.confirming if trial.status == "failed"],
        retried=[(t, _reasons(t)) for t in journal.trials.values() if t.failures and t.status != "failed"],
        commands=_commands(out, search, results),
    )  # fmt: skip


def _headings(search: SearchConfig, results: Results) -> list[str]:
    again = ["mean of seeds"] if any(entry.num_seeds for entry in results.ranked) else []
    cost = ["ms a page"] if search.minimize_latency else []
    return ["rank", "trial", results.metric, *again, *cost, *_settings(search, results.best), "best epoch", "status"]


def _row(search: SearchConfig, results: Results, entry: Ranked) -> dict[str, Any]:
    """Cells under the headings."""
    mean = f"{entry.mean:.4f}" if entry.mean is not None else "–"
    latency = f"{entry.latency_ms:.3g}{' *' if entry.on_front else ''}" if entry.latency_ms is not None else "–"
    return {
        "won": entry is results.winner,
        "cells": [
            *(str(entry.rank), entry.trial.id, f"{entry.value:.4f}"),
            *([mean] if any(other.num_seeds for other in results.ranked) else []),
            *([latency] if search.minimize_latency else []),
            *_settings(search, entry.point).values(),
            *(f"{entry.best_epoch} of {entry.trial.epochs}", status_of(entry.trial)),
        ],
    }


def _counts(search: SearchConfig, results: Results, journal: Journal) -> dict[str, str]:
    """What the search cost, in a few words each."""
    trials = journal.main
    ends = [status_of(trial) for trial in trials]
    kinds = [f"{ends.count(kind)} {kind}" for kind in ("finished", "stopped", "failed", "unfinished") if kind in ends]
    full = sum(search.trial_config(trial.point).epochs for trial in trials)
    run = sum(len(trial.rows) for trial in trials)
    found = {f"trials: {', '.join(kinds)}": str(len(trials))}
    if journal.confirming:
        found["more trained again with other seeds"] = str(len(journal.confirming))
    found |= {"of device time": duration(journal.device_s), "on the clock": duration(span_s(journal))}
    found[f"of the epochs of {len(trials)} full trials: {run} of {full}"] = f"{100 * run / full:.0f} %"
    return found


def _confirmed(results: Results, journal: Journal) -> list[dict[str, Any]]:
    """Trials trained again, highest mean first."""
    again = [entry for entry in results.ranked if entry.num_seeds]
    lines = []
    for entry in sorted(again, key=lambda entry: (-(entry.mean or 0.0), entry.rank)):
        others = [trial for trial in journal.confirming if trial.confirms == entry.trial.id]
        values = [
            row[results.metric]
            for trial in others
            if trial.status == "finished" and (row := trial.best(results.metric))
        ]
        lines.append({"entry": entry, "values": values, "left": sum(trial.status != "finished" for trial in others)})
    return lines


def _settings(search: SearchConfig, point: dict[str, Any]) -> dict[str, str]:
    return {named(key, search.space[key]): text_of(value) for key, value in point.items()}


def _reasons(trial: Trial) -> list[str]:
    """Every error of a trial, the one that ended it last."""
    return [one_line(reason) for reason in [*trial.failures, *([trial.reason] if trial.reason else [])]]


def _commands(out: Path, search: SearchConfig, results: Results) -> dict[str, str]:
    """What may be run next -> the command."""
    folder = quote(str(out))
    commands = {"Train the result whole, to a bundle": f"vizecg train SHARDS RUN --config {folder}/best.yaml"}
    tune = f"vizecg tune SHARDS {folder} --config FILE"
    if results.unfinished:
        commands["Go on with the trials that are unfinished"] = tune
    if search.searcher != "grid":
        commands["Add trials to this search"] = f"{tune} --set num_trials={2 * search.trials_wanted}"
    if search.confirm is None and len(results.ranked) > 1:
        commands["Train the best five again with three other seeds"] = (
            f"{tune} --set confirm.top=5 --set confirm.seeds=3"
        )
    return commands


def duration(seconds: float) -> str:
    """In the greatest unit of which there is more than one."""
    unit, length = unit_of(seconds)
    short = {"hours": "h", "minutes": "min", "seconds": "s"}[unit]
    return f"{seconds / length:.{0 if unit == 'seconds' else 1}f} {short}"


def _breakable(name: str) -> Markup:
    """A name that a line may end in after its underscores and dots."""
    return Markup(re.sub("(?<=[_.])", "<wbr>", str(escape(name))))


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "duration": duration,
        "breakable": _breakable,
        "drawn": lambda chart: Markup(chart.inline()),
    }
    environment.filters |= filters
    return environment.get_template("report.html.j2")


def _source(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
