"""How far trials came, how they learned, and how the best of them grew with the time that was spent."""

from .chart_parts import KINDS, Axis, Chart, Frame, circle, path, rect, text
from .journal import Journal, Trial
from .leaderboard import status_of
from .ranking import Results

_ENDS = ("finished", "stopped", "failed", "unfinished")
_MAX_NAMED = 12
"""More epochs are not all named on an axis."""
_UNITS = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def survival_chart(journal: Journal) -> Chart:
    """How many trials reached each epoch, and what became of those that came no further."""
    trials = journal.main
    last = max(trial.epochs for trial in trials)
    frame = Frame(x=_places(last), y=Axis.over([0, len(trials)]), width=480, height=260)
    wide = (frame.width - frame.left - frame.right) / last
    parts = []
    for epoch in range(1, last + 1):
        here = [trial for trial in trials if trial.epochs >= epoch]
        x, below = frame.x_at(epoch) - wide * 0.5 + min(1, wide * 0.1), 0
        ended = [trial for trial in here if trial.epochs == epoch]
        counts = {"q2": len(here) - len(ended)} | {e: sum(status_of(t) == e for t in ended) for e in _ENDS}
        for kind, count in counts.items():
            if count:
                top, bottom = frame.y_at(below + count), frame.y_at(below)
                tip = f"epoch {epoch}: {count} {'went on' if kind == 'q2' else KINDS[kind]}"
                parts.append(rect(x, top, wide - 2 * min(1, wide * 0.1), bottom - top, f"{kind} bar", tip))
                below += count
        if ended or epoch == 1:
            parts.append(text(frame.x_at(epoch), frame.y_at(len(here)) - 4, str(len(here)), "name halo", "middle"))
    before = len(trials) - sum(trial.epochs > 0 for trial in trials)
    note = f"{before} of {len(trials)} trials reached no end of an epoch." if before else ""
    ended_as = [kind for kind in _ENDS if any(trial.epochs and status_of(trial) == kind for trial in trials)]
    return Chart(
        name="survival",
        title="How many trials reached each epoch",
        body=frame.grid("epoch") + "".join(parts),
        width=frame.width,
        height=frame.height,
        note=note,
        legend=[("q2", "went on"), *((kind, KINDS[kind]) for kind in ended_as)],
    )


def learning_chart(results: Results, journal: Journal) -> Chart:
    """The metric of every trial over its epochs."""
    metric = results.metric
    curves = [(trial, _curves(trial, metric)) for trial in journal.main]
    points = [point for _, pieces in curves for piece in pieces for point in piece]
    last = int(max(x for x, _ in points))
    frame = Frame(x=_places(last), y=Axis.over(y for _, y in points), width=480, height=260)
    winner = results.winner.trial if results.winner else None
    parts: list[str] = []
    order = {"stopped": 0, "failed": 1, "unfinished": 2, "finished": 3}
    for trial, pieces in sorted(curves, key=lambda pair: (pair[0] is winner, order[status_of(pair[0])])):
        kind = "best thick" if trial is winner else status_of(trial) + (" faint" if trial.status != "finished" else "")
        for piece in pieces:
            places = [(frame.x_at(x), frame.y_at(y)) for x, y in piece]
            tip = f"{trial.id}: {max(y for _, y in piece):.4f}"
            parts.append(path(places, kind, tip) if len(places) > 1 else circle(*places[0], 2.5, f"{kind} dot", tip))
    seen = {status_of(trial) for trial, pieces in curves if pieces and trial is not winner}
    return Chart(
        name="learning",
        title=f"{metric} over epochs",
        body=frame.grid("epoch") + "".join(parts),
        width=frame.width,
        height=frame.height,
        legend=[(kind, words) for kind, words in KINDS.items() if kind in {"best", *seen}],
    )


def _curves(trial: Trial, metric: str) -> list[list[tuple[float, float]]]:
    """Epoch and metric in pieces: anew where an epoch has no metric, or where a trial went back to an earlier one."""
    pieces: list[list[tuple[float, float]]] = [[]]
    last = 0
    for row in trial.rows:
        value = row.get(metric)
        if value is None or row["epoch"] <= last:
            pieces.append([])
        if value is not None:
            pieces[-1].append((row["epoch"], value))
        last = row["epoch"]
    return [piece for piece in pieces if piece]


def _places(last: int) -> Axis:
    """Every epoch in the middle of a place of its own."""
    return Axis(values=tuple(range(1, last + 1))) if last <= _MAX_NAMED else Axis(low=0.5, high=last + 0.5)


def growth_chart(results: Results, journal: Journal) -> Chart:
    """The best metric so far over the device-time spent in the trials of the search, and every epoch as a dot."""
    spent, best = 0.0, float("-inf")
    steps: list[tuple[float, float]] = []
    dots: list[tuple[float, float, Trial]] = []
    for event in journal.events:
        trial = journal.trials.get(event.get("trial", ""))
        if event["event"] != "epoch" or trial is None or trial.seed is not None:
            continue
        row = event["row"]
        spent += row["spent_s"] * row["devices"]
        if (value := row.get(results.metric)) is None:
            continue
        dots.append((spent, value, trial))
        if value > best:
            steps += [(spent, best), (spent, value)] if steps else [(spent, value)]
            best = value
    steps.append((spent, best))
    unit, seconds = unit_of(spent)
    frame = Frame(x=Axis(low=0, high=spent / seconds or 1.0), y=Axis.over(y for _, y, _ in dots), width=960, height=300)
    marks = [
        circle(frame.x_at(x / seconds), frame.y_at(y), 2, f"{status_of(trial)} dot faint", f"{trial.id}: {y:.4f}")
        for x, y, trial in dots
    ]
    line_ = path([(frame.x_at(x / seconds), frame.y_at(y)) for x, y in steps], "best thick")
    return Chart(
        name="growth",
        title=f"Best {results.metric} so far",
        body=frame.grid(f"device-{unit} in trials of the search") + "".join(marks) + line_,
        width=frame.width,
        height=frame.height,
        note="A dot is an epoch of a trial, in the order in which they came in.",
        legend=[
            ("best", "best so far"),
            ("finished", "of trials that finished"),
            ("stopped", "of trials stopped early"),
        ],
    )


def unit_of(seconds: float) -> tuple[str, float]:
    """The greatest unit of which there is more than one, and its length in seconds."""
    return next(((name, length) for name, length in _UNITS.items() if seconds >= 1.5 * length), ("seconds", 1.0))
