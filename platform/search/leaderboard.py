"""Trials as tables (CSV, Markdown) and the best of them as a configuration that `train` takes."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import yaml

from ..settings import look_up
from .config import SearchConfig
from .journal import Journal, Trial
from .ranking import Ranked, Results, spread_of

Cells = dict[str, Any]


def leaderboard(search: SearchConfig, results: Results) -> list[Cells]:
    """A line for every trial with a metric, best first. No time stands in it but a latency that was searched for: the
    same trials give the same file."""
    confirmed = any(entry.num_seeds for entry in results.ranked)
    return [_line(search, results.metric, entry, confirmed) for entry in results.ranked]


def _line(search: SearchConfig, metric: str, entry: Ranked, confirmed: bool) -> Cells:
    cells: Cells = {
        "rank": entry.rank,
        "trial": entry.trial.id,
        metric: entry.value,
        "best_epoch": entry.best_epoch,
        "epochs": entry.trial.epochs,
        "status": status_of(entry.trial),
    }
    if confirmed:
        cells |= {"mean": entry.mean, "std": entry.std, "seeds": entry.num_seeds}
    if search.minimize_latency:
        cells |= {"latency_ms": entry.latency_ms, "on_front": entry.on_front}
    return cells | {column: _plain(entry.point[key]) for key, column in columns(search).items()}


def all_trials(search: SearchConfig, results: Results, journal: Journal) -> list[Cells]:
    """Everything known of every trial, in the order of their start."""
    return [_everything(search, results.metric, trial) for trial in journal.trials.values()]


def _everything(search: SearchConfig, metric: str, trial: Trial) -> Cells:
    best = trial.best(metric) or {}
    last = trial.rows[-1] if trial.rows else {}
    latencies = [row["latency_ms"] for row in trial.rows if row.get("latency_ms") is not None]
    config = search.trial_config(trial.point, trial.seed)
    settings = {key: look_up(config.model_dump(mode="json"), key) for key in _settings(search)}
    return {
        "trial": trial.id,
        "status": status_of(trial),
        "confirms": trial.confirms,
        "seed": config.seed,
        metric: best.get(metric),
        "best_epoch": best.get("epoch"),
        "epochs": trial.epochs,
        **{column: _plain(trial.point[key]) for key, column in columns(search).items()},
        **settings,
        "device_s": round(trial.device_s, 3),
        "nodes": " ".join(dict.fromkeys(str(row["node"]) for row in trial.rows if row.get("node"))),
        "latency_ms": min(latencies, default=None),
        "num_parameters": last.get("num_parameters"),
        "source": trial.source["trial"] if trial.source else None,
        "failures": len(trial.failures),
        "reason": one_line(trial.reason or " | ".join(trial.failures)),
    }


def columns(search: SearchConfig) -> dict[str, str]:
    """Dimension -> heading; a ratio is called what it is, since its key alone names one of its two sides."""
    return {key: f"{key} / {parameter.to}" if parameter.to else key for key, parameter in search.space.items()}


def _settings(search: SearchConfig) -> list[str]:
    """Keys of the configuration that the dimensions set and that are no dimension's own heading."""
    ratios = [(key, parameter.to) for key, parameter in search.space.items() if parameter.to]
    return [key for pair in ratios for key in pair]


def status_of(trial: Trial) -> str:
    """As people read it."""
    return "unfinished" if trial.status == "running" else trial.status


def _plain(value: Any) -> Any:
    """True, false and null are written as in YAML, so that no other value of a table looks like them."""
    return text_of(value) if value is None or isinstance(value, bool) else value


def as_csv(lines: Sequence[Cells]) -> str:
    """Lines with the same names; None leaves a cell empty."""
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: text_of(v) if isinstance(v, bool) else v for name, v in line.items()} for line in lines)
    return table.getvalue()


def text_of(value: Any) -> str:
    """A value as YAML has it, in four digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def one_line(text: str) -> str:
    """A reason without the line breaks of a traceback."""
    return " ".join(text.split())


def leaderboard_markdown(search: SearchConfig, results: Results, lines: Sequence[Cells]) -> str:
    """The leaderboard, then what failed: why, and its configuration."""
    parts = [f"# {len(lines)} trials by {results.metric}", results.best_reason]
    if lines:
        names = list(lines[0])
        parts.append(_table(names, [[_markdown_cell(line[name]) for name in names] for line in lines]))
    if results.failed:
        parts.append("## Failed trials")
    for trial in results.failed:
        settings = ", ".join(f"{columns(search)[key]} {text_of(value)}" for key, value in trial.point.items())
        parts.append(f"- {trial.id} in epoch {trial.epochs + 1}: {one_line(trial.reason or 'unknown')}  \n  {settings}")
    return "\n\n".join(parts) + "\n"


def _markdown_cell(value: Any) -> str:
    if value is None:
        return ""
    return (f"{value:.4f}" if isinstance(value, float) and 0.1 <= value < 1 else text_of(value)).replace("|", "\\|")


def _table(names: list[str], rows: list[list[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def config_yaml(search: SearchConfig, results: Results, entry: Ranked, reason: str) -> str:
    """The configuration of a trial, which `train` takes as it is."""
    place = f"{results.metric} {entry.value:.4f} in epoch {entry.best_epoch} of {entry.trial.epochs}"
    facts = ", ".join(filter(None, [place, spread_of(entry)]))
    header = f"# {reason}\n# Number {entry.rank} of {len(results.ranked)} trials: {facts}."
    config = search.trial_config(entry.point)
    values = yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    return f"{header.replace('±', '+-')}\n{values}"
