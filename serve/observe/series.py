"""Metrics as numbers that add up: how those of many replicas become one, and how that reads in Prometheus' format."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[float, ...]
"""One series: its value, or of a histogram the cumulative count of every bucket and then the sum. All add up."""
Series = dict[tuple[str, ...], Values]
"""By the values of the labels."""


@dataclass(frozen=True)
class Family:
    """What a metric is."""

    name: str
    """Without the `_total` of counters."""
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    """Upper bounds of a histogram as Prometheus writes them, `+Inf` last."""


Table = dict[Family, Series]


def merge(tables: Iterable[Table]) -> Table:
    """What one registry would hold that had seen everything that all of them saw; they stay as they are."""
    merged: Table = {}
    for table in tables:
        for family, series in table.items():
            into = merged.setdefault(family, {})
            for labels, values in series.items():
                before = into.get(labels)
                into[labels] = values if before is None else tuple(map(float.__add__, before, values))
    return merged


def increase(now: Table, before: Table) -> Table:
    """What has been added since an earlier state of the same registry."""
    return {
        family: {
            labels: tuple(map(float.__sub__, values, before.get(family, {}).get(labels, (0.0,) * len(values))))
            for labels, values in series.items()
        }
        for family, series in now.items()
    }


def of_kinds(table: Table, *kinds: Kind) -> Table:
    return {family: series for family, series in table.items() if family.kind in kinds}


def without(table: Table, gone: Mapping[str, str]) -> Table:
    """Less the series that have all of these labels with these values."""
    return {
        family: {labels: values for labels, values in series.items() if not gone.items() <= _named(family, labels)}
        for family, series in table.items()
    }


def _named(family: Family, labels: tuple[str, ...]) -> set[tuple[str, str]]:
    return set(zip(family.labels, labels, strict=True))


def read_registry(registry: CollectorRegistry) -> Table:
    """The state of a registry with counters, gauges and histograms; a metric without series is left out."""
    table: Table = {}
    for metric in registry.collect():
        # The names of the samples that count: what else the client adds, such as `_created`, is about one process.
        counted = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum")}[metric.type]
        names = [metric.name + suffix for suffix in counted]
        rows: dict[tuple[str, ...], list[float]] = {}
        buckets: dict[str, None] = {}
        label_names: tuple[str, ...] = ()
        for sample in metric.samples:
            if sample.name not in names:
                continue
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            buckets |= {sample.labels["le"]: None} if "le" in sample.labels else {}
            label_names = tuple(labels)
            rows.setdefault(tuple(labels.values()), []).append(float(sample.value))
        if rows:
            kind = cast(Kind, metric.type)
            family = Family(metric.name, kind, metric.documentation, label_names, tuple(buckets))
            table[family] = {labels: tuple(values) for labels, values in rows.items()}
    return table


def exposition(table: Table) -> bytes:
    """Prometheus' text format. Of two layouts of one name, as after a change of the code, the later one is shown."""
    latest = {family.name: family for family in table}
    return generate_latest(_Collected([_metric(family, table[family]) for family in latest.values()]))


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]):
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _metric(family: Family, series: Series) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for labels, (*counts, total) in series.items():
            histogram.add_metric(labels, list(zip(family.buckets, counts, strict=True)), total)
        return histogram
    made = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}[family.kind]
    metric = made(family.name, family.text, labels=family.labels)
    for labels, (value,) in series.items():
        metric.add_metric(labels, value)
    return metric


def to_json(table: Table) -> list[Any]:
    """For json.dumps."""
    return [
        [family.name, family.kind, family.text, family.labels, family.buckets, list(series.items())]
        for family, series in table.items()
    ]


def from_json(values: list[Any]) -> Table:
    """What `to_json` made, after json.loads."""
    return {
        Family(name, kind, text, tuple(labels), tuple(buckets)): {
            tuple(label_values): tuple(map(float, numbers)) for label_values, numbers in series
        }
        for name, kind, text, labels, buckets, series in values
    }
