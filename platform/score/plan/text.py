"""A plan for people: its table and its sentences."""

from collections.abc import Callable, Iterator
from math import isfinite

from rich import box
from rich.table import Table

from .facts import OVERNIGHT_H, Plan
from .work import Estimate, Option

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_WIDE = 128
"""Characters that the whole table takes; narrower ones do without some columns."""
_NOT_IF_NARROW = ("95 % interval", "core-hours")


def headings(plan: Plan) -> list[str]:
    """Of the table."""
    return [
        "nodes", "cores", "time", "95 % interval", "pages/s", "core-hours", f"cost, {plan.prices.currency}",
        "95 % interval", "limited by",
    ]  # fmt: skip


def plan_table(plan: Plan, width: int = _WIDE) -> Table:
    """A line for every size of cluster, in so many characters."""
    title = f"{plan.source}: {plan.num_items:,} items, about {plan.pages.value:,.0f} pages"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    names = headings(plan)
    shown = [n for n, name in enumerate(names) if width >= _WIDE or name not in _NOT_IF_NARROW]
    for n in shown:
        table.add_column(names[n], justify="left" if n == len(names) - 1 else "right", no_wrap=True)
    for option in plan.options:
        row = cells(option)
        table.add_row(*(row[n] for n in shown))
    return table


def cells(option: Option) -> list[str]:
    """A line of the table."""
    return [
        f"{option.nodes:,}", f"{option.cores:,}{f' + {option.gpus:,} GPU' if option.gpus else ''}",
        span(option.hours.value), f"{span(option.hours.low)} – {span(option.hours.high)}", rate(option.pages_per_s),
        rate(option.core_hours), money(option.cost.value), f"{money(option.cost.low)} – {money(option.cost.high)}",
        option.limited_by,
    ]  # fmt: skip


def decisions(plan: Plan) -> list[tuple[str, str]]:
    """What most people ask: cheapest, fastest, overnight."""
    overnight = f"no number of nodes: starting and reading alone take longer than {OVERNIGHT_H:g} h"
    if plan.overnight is not None:
        overnight = f"{_option(plan, plan.overnight)}; within {OVERNIGHT_H:g} h also at the slow end of the interval"
    return [
        ("cheapest", _option(plan, plan.cheapest)),
        ("fastest", _option(plan, plan.fastest)),
        ("overnight", overnight),
    ]


def facts(plan: Plan) -> list[tuple[str, str]]:
    """What was measured, and what it says of the archive."""
    predict_ms, scored_share = 1000 * plan.predict_core_s, 1 - plan.rejected_share.value
    reading_ms = max(1000 * plan.page_core_s.value - predict_ms * scored_share, 0)
    per_item = size(plan.input_bytes / max(plan.num_items, 1))
    return [
        ("archive", f"{plan.num_items:,} items, {size(plan.input_bytes)}, {per_item} an item on average"),
        ("pages", _interval(plan.pages, lambda value: f"{value:,.0f}")),
        ("rejected", _interval(plan.rejected_share, lambda value: f"{100 * value:.1f} %")),
        ("output", _interval(plan.output_bytes, size)),
        ("sample", f"{plan.sample_pages:,} pages of {plan.sample_items:,} items, from all over the archive"),
        ("backend", plan.backend),
        ("a page takes", f"{_interval(plan.page_core_s, lambda value: f'{1000 * value:.1f} ms')} of a core"),
        (
            "of this",
            f"{reading_ms:.1f} ms reading, decoding and checking; {predict_ms:.1f} ms in the network if scored",
        ),
        ("start-up", span(plan.start_s / 3600)),
        ("storage", _storage(plan)),
    ]


def assumptions(plan: Plan) -> Iterator[str]:
    """What the figures rest on, said plainly."""
    yield (
        f"Every logical core works as fast as one of this machine's {plan.measured_cores} did while all of them were "
        f"busy, and a run keeps {100 * plan.efficiency:.0f} % of that speed on any number of nodes."
    )
    yield _about_storage(plan)
    gpu_price = f", a GPU {plan.prices.gpu:g}" if plan.gpu_pages_per_s else ""
    yield (
        f"A core costs {plan.prices.core:g} {plan.prices.currency} an hour{gpu_price} ({plan.prices.source}). Storage, "
        "requests and traffic are not in it; other prices can be told."
    )
    if plan.gpu_pages_per_s:
        yield f"A node with a GPU has one, which predicts {rate(plan.gpu_pages_per_s)} pages/s here; its cores decode."
    else:
        yield "GPUs were not measured: this machine has none, so there is no line for them."
    yield "Nodes are there when the run starts and go when it ends: its start-up is paid for, and no time after it."
    yield (
        "Intervals are those of the sample (95 % of 2,000 bootstrap resamples of its stretches). They know nothing of "
        "other machines, of other work on this one, or of nodes that fail."
    )


def _about_storage(plan: Plan) -> str:
    if not isfinite(plan.storage_bytes_per_s):
        return "How fast the storage reads could not be measured, so it limits nothing here; its speed can be told."
    whence = "told" if plan.is_storage_told else "what it gave to this machine alone; what it gives to many can be told"
    return (
        f"All nodes read from one storage that gives {size(plan.storage_bytes_per_s)}/s to all of them together "
        f"({whence}). From about {plan.storage_cores:,} cores on it is the bottleneck, and more cores only cost more."
    )


def span(hours: float) -> str:
    """Such as 40 s, 12 min, 3.4 h or 5.2 days."""
    for length_h, unit in ((24.0, "days"), (1.0, "h"), (1 / 60, "min")):
        if hours >= (2 if unit == "days" else 1) * length_h:
            return f"{hours / length_h:,.{0 if hours / length_h >= 100 else 1}f} {unit}"
    return f"{3600 * hours:.0f} s"


def size(num_bytes: float) -> str:
    """Such as 34.1 kB or 1.2 TB, in powers of ten."""
    if not isfinite(num_bytes):
        return "unknown"
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.3g} {_UNITS[power]}"


def money(amount: float) -> str:
    """Two digits after the point where it is little."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:,.2f}"


def rate(value: float) -> str:
    """Three digits where it is little."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _interval(estimate: Estimate, shown: Callable[[float], str]) -> str:
    low, value, high = shown(estimate.low), shown(estimate.value), shown(estimate.high)
    return value if low == high else f"{value} ({low} – {high})"


def _option(plan: Plan, option: Option) -> str:
    gpus = " with a GPU each" if option.gpus else ""
    nodes = f"{option.nodes:,} node{'' if option.nodes == 1 else 's'}{gpus} ({option.cores:,} cores)"
    return f"{nodes}, {span(option.hours.value)}, {money(option.cost.value)} {plan.prices.currency}"


def _storage(plan: Plan) -> str:
    if not isfinite(plan.storage_bytes_per_s):
        return "not measured"
    how = "as told" if plan.is_storage_told else "as this machine read it"
    return f"{size(plan.storage_bytes_per_s)}/s, {how}; enough for about {plan.storage_cores:,} cores"
