"""What people look at after a search: leaderboard, best.yaml, plots and a report, all written from the journal."""

from pathlib import Path

from ..errors import UserError
from ..files import write_atomically
from . import leaderboard as tables
from .charts import draw_charts
from .config import SearchConfig
from .importance import importances
from .journal import Journal
from .ranking import Ranked, Results, rank
from .report import render_report

__all__ = ["Ranked", "Results", "rank", "write_results"]


def write_results(out: Path, search: SearchConfig, journal: Journal) -> Results:
    """Write OUT/leaderboard.csv, leaderboard.md, trials.csv, best.yaml, importance.csv, plots/ and report.html; with
    `minimize_latency` pareto/TRIAL.yaml for every trial on the front, too.

    Raises:
        UserError: no trial has a metric; trials.csv is written even so.
    """
    results = rank(search, journal)
    if journal.trials:
        write_atomically(out / "trials.csv", tables.as_csv(tables.all_trials(search, results, journal)))
    if results.winner is None:
        raise UserError(f"{out}: {_why_nothing(results, journal)}")
    lines = tables.leaderboard(search, results)
    write_atomically(out / "leaderboard.csv", tables.as_csv(lines))
    write_atomically(out / "leaderboard.md", tables.leaderboard_markdown(search, results, lines))
    best = tables.config_yaml(search, results, results.winner, results.best_reason)
    write_atomically(out / "best.yaml", best)
    if search.minimize_latency:
        _write_front(out / "pareto", search, results)
    explained = importances(search, journal.main, results.metric)
    shares = [
        {"at": i.title, "trials": i.num_trials, "dimension": k, "share": s}
        for i in explained
        for k, s in i.shares.items()
    ]
    if shares:
        write_atomically(out / "importance.csv", tables.as_csv(shares))
    charts = draw_charts(search, results, journal)
    (out / "plots").mkdir(exist_ok=True)
    for chart in charts:
        write_atomically(out / "plots" / f"{chart.name}.svg", chart.standalone())
    write_atomically(out / "report.html", render_report(out, search, results, journal, charts, explained))
    return results


def _why_nothing(results: Results, journal: Journal) -> str:
    if any(trial.rows for trial in journal.main):
        return f"{results.metric} is undefined in every epoch of every trial; choose another metric, or more records"
    reasons = [reason for trial in journal.main for reason in (*trial.failures, trial.reason) if reason]
    return f"no trial finished an epoch; the first error was: {tables.one_line(reasons[0]) if reasons else 'none'}"


def _write_front(folder: Path, search: SearchConfig, results: Results) -> None:
    folder.mkdir(exist_ok=True)
    front = {entry.trial.id: entry for entry in results.ranked if entry.on_front}
    for old in folder.glob("*.yaml"):
        if old.stem not in front:
            old.unlink()
    for name, entry in front.items():
        reason = f"Trial {name} on the Pareto front: {entry.latency_ms:.3g} ms a page."
        write_atomically(folder / f"{name}.yaml", tables.config_yaml(search, results, entry, reason))
