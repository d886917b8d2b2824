"""What a load is and what came of it: plan, report, table and plot of load.py."""

import math
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99, 99.9)
STEP_S = 0.5
"""Between two looks at how many requests are in flight."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What is sent. Raises ValueError unless there is a rate or a number of requests in flight."""

    url: str
    pages: str
    rate_per_s: float | None = None
    in_flight: int | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    seconds: float = 30.0
    """That count; before them come the warm-up's, sent alike."""
    warm_up_s: float = 3.0
    timeout_s: float = 30.0
    retries: int = 0
    key: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rate_per_s is None) == (self.in_flight is None):
            raise ValueError("give either a rate or a number of requests in flight")
        if (self.rate_per_s or self.in_flight or 0) <= 0:
            raise ValueError("the rate, or the number of requests in flight, must be above 0")
        if self.seconds <= 0:
            raise ValueError(f"the load must last some seconds, not {self.seconds:g}")

    def due_s(self) -> NDArray[np.float64]:
        """When the requests of an open loop are due, seconds from its begin."""
        assert self.rate_per_s is not None
        number = int((self.warm_up_s + self.seconds) * self.rate_per_s * 1.5) + 100
        gaps_s = np.full(number, 1 / self.rate_per_s)
        if self.arrivals == "poisson":
            gaps_s *= np.random.default_rng(self.seed).exponential(size=number)
        at_s = np.cumsum(gaps_s)
        return at_s[at_s < self.warm_up_s + self.seconds]


@dataclass
class Request:
    """One of them; times in seconds from the begin of the load."""

    page: int
    due_s: float
    sent_s: float = 0.0
    done_s: float = 0.0
    status: int = 0
    code: str = ""
    tries: int = 0

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def latency_ms(self) -> float:
        return 1000 * (self.done_s - self.due_s)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What came of the requests that were due after the warm-up."""

    plan: dict[str, Any]
    requests: int
    answered: int
    """With a status below 300."""
    errors: dict[str, int]
    """By status and code, such as `503 busy`; by the client's own error where no answer came."""
    requests_per_s: float
    """Answered within the time that counts, whenever they were due."""
    latency_ms: dict[str, float]
    """By percentile: p50 to p99.9 and max; empty where nothing was answered."""
    sent_late_ms: dict[str, float]
    """The generator's own delay."""
    retried: int
    most_in_flight: int
    in_flight: list[tuple[float, int]]
    """(seconds, requests due and not yet done), every `STEP_S`."""
    generator_cpu_share: float
    """Of one core, while the load lasted."""
    generator_memory_mb: float
    timeline: list[tuple[float, float]] = field(repr=False)
    """(seconds at which it was due, latency in ms) of every answer."""


def report_of(plan: LoadPlan, requests: list[Request], cpu_share: float) -> LoadReport:
    """What counts of all requests, the warm-up's among them."""
    begin_s, end_s = plan.warm_up_s, plan.warm_up_s + plan.seconds
    counted = [one for one in requests if begin_s <= one.due_s < end_s]
    good = [one for one in counted if one.is_good]
    errors = Counter(f"{one.status or 'no answer:'} {one.code}".strip() for one in counted if not one.is_good)
    in_flight = in_flight_of(requests, begin_s, end_s)
    return LoadReport(
        plan=asdict(replace(plan, key=None)),
        requests=len(counted),
        answered=len(good),
        errors=dict(errors.most_common()),
        requests_per_s=sum(one.is_good and begin_s <= one.done_s < end_s for one in requests) / plan.seconds,
        latency_ms=percentiles([one.latency_ms for one in good]),
        sent_late_ms=percentiles([1000 * (one.sent_s - one.due_s) for one in counted]),
        retried=sum(one.tries - 1 for one in counted),
        most_in_flight=max(number for _, number in in_flight),
        in_flight=in_flight,
        generator_cpu_share=cpu_share,
        generator_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        timeline=[(round(one.due_s, 3), round(one.latency_ms, 2)) for one in good],
    )


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """By name. Each is a value that was measured; where there are few, high ones are the largest."""
    if not values:
        return {}
    ordered = sorted(values)
    places = {f"p{which:g}": math.ceil(round(which / 100 * len(ordered), 6)) - 1 for which in PERCENTILES}
    return {name: round(ordered[place], 3) for name, place in places.items()} | {"max": round(ordered[-1], 3)}


def in_flight_of(requests: list[Request], begin_s: float, end_s: float) -> list[tuple[float, int]]:
    """How many are due and not yet done, at even times."""
    at_s = np.arange(begin_s, end_s, STEP_S)
    due_s, done_s = (np.sort([getattr(one, name) for one in requests]) for name in ("due_s", "done_s"))
    number = np.searchsorted(due_s, at_s, "right") - np.searchsorted(done_s, at_s, "right")
    return list(zip(at_s.tolist(), number.tolist(), strict=True))


def show(report: LoadReport) -> None:
    """As tables."""
    from rich.console import Console
    from rich.table import Table

    plan = report.plan
    asked = f"{plan['rate_per_s']:g} requests/s" if plan["rate_per_s"] else f"{plan['in_flight']} in flight"
    table = Table(title=f"{asked}, {plan['seconds']:g} s", title_justify="left")
    for column in ("", *report.sent_late_ms):
        table.add_column(column, justify="right" if column else "left")
    for name, found in (("latency, ms", report.latency_ms), ("sent late by, ms", report.sent_late_ms)):
        table.add_row(name, *(f"{value:,.1f}" for value in found.values()))
    console = Console()
    console.print(table)
    console.print(
        f"{report.answered:,} of {report.requests:,} requests answered, {report.requests_per_s:.1f}/s; "
        f"sent again {report.retried:,} times; at most {report.most_in_flight} in flight\n"
        f"the generator took {report.generator_cpu_share:.0%} of a core and {report.generator_memory_mb:.0f} MB"
    )
    for error, number in report.errors.items():
        console.print(f"{number:7,} x {error}")


def plot(report: LoadReport, path: Path) -> None:
    """Latency and requests in flight over time, and latency by percentile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    over_time, by_share = figure.subplots(1, 2)
    if report.timeline:
        at_s, latency_ms = np.array(report.timeline).T
        over_time.plot(at_s, latency_ms, ".", markersize=3)
        share = 1 - (np.arange(len(latency_ms)) + 0.5) / len(latency_ms)
        by_share.plot(1 / share, np.sort(latency_ms))
    over_time.set(xlabel="due at, s", ylabel="latency, ms", yscale="log")
    beside = over_time.twinx()
    beside.step(*zip(*report.in_flight, strict=True), color="tab:orange", where="post")
    beside.set_ylabel("in flight", color="tab:orange")
    nines = [1 / (1 - which / 100) for which in (0, 50, 90, 99, 99.9)]
    by_share.set(xlabel="percentile", ylabel="latency, ms", xscale="log", yscale="log")
    by_share.set_xticks(nines, ["0", "50", "90", "99", "99.9"])
    by_share.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
