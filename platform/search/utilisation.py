"""What every node of the cluster did for a search: when, for which trial, and how much of what it could have done."""

from dataclasses import dataclass
from typing import Any

from .journal import Journal, Row, Trial


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A trial on a node without a break, in seconds since the search began; time in which no search ran is left out."""

    trial: Trial
    node: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class NodeUse:
    """Sums of a node."""

    node: str
    num_trials: int
    busy_device_s: float
    capacity_device_s: float | None
    """Devices times the time in which the search ran; None for a node that no start of the search knew."""

    @property
    def share(self) -> float | None:
        return self.busy_device_s / self.capacity_device_s if self.capacity_device_s else None


@dataclass(frozen=True, kw_only=True)
class Session:
    """From a start of the search to its last event before the next one."""

    begin: float
    end: float
    nodes: dict[str, float]
    """Devices."""
    before_s: float
    """Of all sessions before."""


def sessions(journal: Journal) -> list[Session]:
    """All of them, in order."""
    groups: list[list[dict[str, Any]]] = []
    for event in journal.events:
        if event["event"] == "start" or not groups:
            groups.append([])
        groups[-1].append(event)
    found: list[Session] = []
    for group in groups:
        begin, end = group[0]["at"], max(event["at"] for event in group)
        before = found[-1].before_s + found[-1].end - found[-1].begin if found else 0.0
        found.append(Session(begin=begin, end=end, nodes=dict(group[0].get("nodes", {})), before_s=before))
    return found


def stretches(journal: Journal) -> list[Stretch]:
    """Of all trials, confirming ones included, by when they begin; epochs that follow each other are one."""
    found: list[Stretch] = []
    for trial, node, begin, end in _epochs(journal):
        before = next((s for s in reversed(found) if s.trial is trial and s.node == node), None)
        if before and begin - before.end_s <= max(1.0, 0.1 * (end - begin)):
            found.remove(before)
            begin = before.begin_s
        found.append(Stretch(trial=trial, node=node, begin_s=begin, end_s=end))
    return sorted(found, key=lambda stretch: (stretch.begin_s, stretch.trial.id))


def _epochs(journal: Journal) -> list[tuple[Trial, str, float, float]]:
    found: list[tuple[Trial, str, float, float]] = []
    session, remaining = None, iter(sessions(journal))
    for event in journal.events:
        if event["event"] == "start" or session is None:
            session = next(remaining)
        if event["event"] == "epoch" and (trial := journal.trials.get(event["trial"])):
            end = session.before_s + event["at"] - session.begin
            begin = max(session.before_s, end - event["row"]["spent_s"])
            found += [(trial, node, begin, end) for node in _devices(event["row"])]
    return found


def _devices(row: Row) -> dict[str, float]:
    """Where an epoch ran, and on how many devices of each node: workers of a trial may be on several."""
    return row.get("nodes") or {str(row.get("node") or "unknown"): row["devices"]}


def node_uses(journal: Journal) -> list[NodeUse]:
    """Of every node that some start knew or some trial ran on, by name."""
    capacity: dict[str, float] = {}
    for session in sessions(journal):
        for node, devices in session.nodes.items():
            capacity[node] = capacity.get(node, 0.0) + devices * (session.end - session.begin)
    busy: dict[str, float] = {}
    trials: dict[str, set[str]] = {}
    for trial in journal.trials.values():
        for row in trial.rows:
            for node, devices in _devices(row).items():
                busy[node] = busy.get(node, 0.0) + row["spent_s"] * devices
                trials.setdefault(node, set()).add(trial.id)
    return [
        NodeUse(
            node=node,
            num_trials=len(trials.get(node, ())),
            busy_device_s=busy.get(node, 0.0),
            capacity_device_s=capacity.get(node),
        )
        for node in sorted({*capacity, *busy})
    ]


def span_s(journal: Journal) -> float:
    """Seconds in which the search ran."""
    return sum(session.end - session.begin for session in sessions(journal))
