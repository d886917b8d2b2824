"""The sum over replicas is what one would have counted that saw all; counters never fall; memory is bounded."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from scipy.special import expit

from vizecg.platform.bundle_facts import Bundle
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.drift import label_drift
from vizecg.platform.reference import Reference, reference_of
from vizecg.serve.observe.hub import MetricsHub
from vizecg.serve.observe.metrics import ReplicaMetrics
from vizecg.serve.observe.series import Table, from_json, increase, merge, read_registry, to_json
from vizecg.serve.schemas import ModelInfo

LABELS = load_label_space("practice")
NUM_LABELS = len(LABELS.labels)
THRESHOLDS = [0.5] * NUM_LABELS
HOUR_S = 3600.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Observe = Callable[[ReplicaMetrics], object]


def info(bundle_hash: str) -> ModelInfo:
    return ModelInfo(
        name="default", architecture="vizecgnet", bundle_hash=bundle_hash, backend="torch-fp32", canary=False
    )


def bundle_of(bundle_hash: str, reference: Reference | None = None) -> Bundle:
    return Bundle.model_construct(label_space=LABELS, content_hash=bundle_hash, reference=reference)


def samples(text: bytes) -> Samples:
    """Value by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(hub: MetricsHub, name: str, **labels: str) -> float | None:
    return samples(hub.collect()).get((f"vizecg_serve_{name}", frozenset(labels.items())))


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _request(status: int, seconds: float, key: str) -> Observe:
    code = "" if status < 400 else f"code_{status}"
    return lambda metrics: metrics.request_done(
        protocol="http", route="/v1/predict", status=status, seconds=seconds, code=code, model="default", key=key
    )


def _page(bundle_hash: str, quarters: Sequence[int]) -> Observe:
    probability = np.array(quarters, np.float32) / 4
    return lambda metrics: metrics.page_read(info(bundle_hash), bundle_of(bundle_hash), probability, THRESHOLDS)


# Halves and the like, whose sum is the same in any order.
SECONDS = st.integers(0, 64).map(lambda number: number / 64)
OBSERVATIONS = st.one_of(
    st.builds(_request, st.sampled_from([200, 415, 503]), SECONDS, st.sampled_from(["", "ward", "clinic"])),
    st.builds(_page, st.sampled_from(["a" * 64, "b" * 64]), st.tuples(*[st.integers(0, 4)] * NUM_LABELS)),
    st.builds(
        lambda stage, seconds: lambda metrics: metrics.observe_stage(stage, seconds, "default"),
        st.sampled_from(["queue", "decode", "predict", "explain", "total"]), SECONDS,
    ),
    st.builds(lambda pages: lambda metrics: metrics.observe_batch(pages, "default"), st.integers(1, 300)),
    st.just(lambda metrics: metrics.page_refused("damaged")),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), OBSERVATIONS, st.booleans()), max_size=40))
def test_any_split_over_replicas_adds_up_to_one_that_saw_all(events: list[tuple[int, Observe, bool]]):
    """Merged at once, and as a hub that hears of them now and then."""
    alone, replicas, hub = ReplicaMetrics(), [ReplicaMetrics() for _ in range(4)], MetricsHub()
    for replica, observe, pushes in events:
        observe(alone)
        observe(replicas[replica])
        if pushes:
            hub.push(f"r{replica}", replicas[replica].snapshot())
    tables = [read_registry(replica.registry) for replica in replicas]
    assert merge(tables) == read_registry(alone.registry)
    for number, replica in enumerate(replicas):
        hub.push(f"r{number}", replica.snapshot())
    own = ("vizecg_serve_replicas", "vizecg_serve_score_drift_pages")
    assert {key: count for key, count in samples(hub.collect()).items() if key[0] not in own} == samples(alone.text())


@settings(deadline=None, max_examples=40)
@given(st.lists(OBSERVATIONS, max_size=10), st.lists(OBSERVATIONS, max_size=10))
def test_merge_and_increase_undo_each_other_and_survive_the_wire(first: list[Observe], second: list[Observe]):
    metrics = ReplicaMetrics()
    for observe in first:
        observe(metrics)
    before = read_registry(metrics.registry)
    copy = from_json(json.loads(json.dumps(to_json(before))))
    assert copy == before and merge([before]) == before and merge([]) == {}
    for observe in second:
        observe(metrics)
    now = read_registry(metrics.registry)
    added = increase(now, before)
    assert merge([before, added]) == merge([added, before]) == now
    assert before == copy


def test_counters_stay_when_replicas_go_and_gauges_leave_with_them():
    clock = Clock()
    hub, one, other = MetricsHub(clock), ReplicaMetrics(), ReplicaMetrics()
    for metrics in (one, other):
        metrics.model_loaded(info("a" * 64), 1.0)
        metrics.page_refused("damaged")
    loaded = {
        "model": "default",
        "bundle": "a" * 12,
        "architecture": "vizecgnet",
        "backend": "torch-fp32",
        "canary": "false",
    }
    with one.in_work(), other.in_work():
        assert hub.push("one", one.snapshot()) == 1
        assert hub.push("other", other.snapshot()) == 2
        assert hub.push("gpu", ReplicaMetrics().snapshot(), "Classifier") == 1
    assert value(hub, "replicas", deployment="PageReader") == 2
    assert value(hub, "replicas", deployment="Classifier") == 1
    assert value(hub, "requests_in_work") == 2 == value(hub, "bundle_replicas", **loaded)
    clock.now = 9
    assert hub.push("other", other.snapshot()) == 2
    clock.now = 11
    assert value(hub, "replicas", deployment="PageReader") == 1
    assert value(hub, "bundle_replicas", **loaded) == 1 and value(hub, "requests_in_work") == 0
    assert value(hub, "rejects_total", code="damaged") == 2
    # It was only out of reach: nothing is counted twice.
    one.page_refused("damaged")
    assert hub.push("one", one.snapshot()) == 2
    assert value(hub, "rejects_total", code="damaged") == 3
    # Another process under the same name starts from zero.
    fresh = ReplicaMetrics()
    fresh.page_refused("damaged")
    hub.push("one", fresh.snapshot())
    assert value(hub, "rejects_total", code="damaged") == 4


def test_snapshots_that_overtake_each_other_count_once():
    hub, metrics = MetricsHub(), ReplicaMetrics()
    metrics.page_refused("damaged")
    early = metrics.snapshot()
    metrics.page_refused("damaged")
    late = metrics.snapshot()
    for snapshot in (late, early, late, early):
        hub.push("one", snapshot)
        assert value(hub, "rejects_total", code="damaged") == 2


def test_replicas_may_push_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    """Serve calls the methods of a deployment on several threads."""

    def slowly(tables: Iterable[Table]) -> Table:
        merged = merge(tables)
        time.sleep(0.001)
        return merged

    monkeypatch.setattr("vizecg.serve.observe.hub.merge", slowly)
    hub, pushes = MetricsHub(), list[list[bytes]]()
    for _ in range(4):
        metrics = ReplicaMetrics()
        pushes.append([])
        for _ in range(10):
            metrics.page_refused("damaged")
            pushes[-1].append(metrics.snapshot())

    def push(number: int) -> None:
        for snapshot in pushes[number]:
            hub.push(str(number), snapshot)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(4)))
    assert value(hub, "rejects_total", code="damaged") == 40


def _aged(snapshot: bytes, age_s: float) -> bytes:
    return json.dumps(json.loads(snapshot) | {"age_s": age_s}).encode()


def test_one_that_was_forgotten_is_not_counted_again_and_a_new_hub_counts_all():
    clock, metrics = Clock(), ReplicaMetrics()
    hub = MetricsHub(clock)
    for _ in range(5):
        _page("a" * 64, [1] * NUM_LABELS)(metrics)
    hub.push("one", _aged(metrics.snapshot(), 1))
    clock.now = 2 * HOUR_S
    hub.push("other", ReplicaMetrics().snapshot())
    hub.push("one", _aged(metrics.snapshot(), 2 * HOUR_S - 1))
    pages = {"model": "default", "bundle": "a" * 12}
    assert value(hub, "pages_total", **pages) == 5 == value(hub, "score_drift_pages", **pages)
    _page("a" * 64, [1] * NUM_LABELS)(metrics)
    hub.push("one", _aged(metrics.snapshot(), 2 * HOUR_S + 1))
    assert value(hub, "pages_total", **pages) == 6 == value(hub, "score_drift_pages", **pages)
    fresh = MetricsHub(clock)
    clock.now += 60
    fresh.push("one", _aged(metrics.snapshot(), 2 * HOUR_S + 60))
    assert value(fresh, "pages_total", **pages) == 6


def _probabilities(count: int, shift: float, seed: int) -> np.ndarray:
    return expit(np.random.default_rng(seed).normal(-2 + shift, 1.5, (count, NUM_LABELS))).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> Reference:
    probability = _probabilities(2000, 0, 0)
    known = np.ones_like(probability, bool)
    found = reference_of(probability, np.zeros_like(probability), known, np.array(THRESHOLDS))
    assert found is not None
    return found


def _answer(metrics: ReplicaMetrics, bundle: Bundle, probability: np.ndarray) -> None:
    for page in probability:
        metrics.page_read(info(bundle.content_hash), bundle, page, THRESHOLDS)


def test_drift_is_that_of_the_pages_of_all_replicas(reference: Reference):
    bundle, hub, replicas = bundle_of("a" * 64, reference), MetricsHub(), [ReplicaMetrics(), ReplicaMetrics()]
    parts = [_probabilities(900, 1.0, 1), _probabilities(400, 1.0, 2)]
    for number, (metrics, part) in enumerate(zip(replicas, parts, strict=True)):
        _answer(metrics, bundle, part)
        hub.push(f"r{number}", metrics.snapshot())
    alone = ReplicaMetrics()
    _answer(alone, bundle, np.concatenate(parts))
    ((_, _, state),) = json.loads(alone.snapshot())["scores"]
    for number, key in enumerate(LABELS.keys):
        counts = [np.array(histogram[number]) for histogram in (state["histogram"], reference.histogram)]
        expected = label_drift(*counts, 0, 0.0)
        assert expected is not None and expected.word == "very different"
        found = value(hub, "score_drift_psi", model="default", bundle="a" * 12, label=key)
        assert found == pytest.approx(expected.psi)


def test_drift_is_of_the_last_day_and_silent_where_pages_are_few(reference: Reference):
    clock, metrics, bundle = Clock(), ReplicaMetrics(), bundle_of("a" * 64, reference)
    hub = MetricsHub(clock)
    where = {"model": "default", "bundle": "a" * 12}
    psi = {**where, "label": LABELS.keys[0]}
    _answer(metrics, bundle, _probabilities(20, 0, 3))
    hub.push("one", metrics.snapshot())
    assert value(hub, "score_drift_psi", **psi) is None and value(hub, "score_drift_pages", **where) == 20
    _answer(metrics, bundle, _probabilities(1500, 3.0, 4))
    hub.push("one", metrics.snapshot())
    assert (value(hub, "score_drift_psi", **psi) or 0) > 0.25
    for hour in range(1, 26):
        clock.now = hour * HOUR_S + 1
        _answer(metrics, bundle, _probabilities(40, 0, 4 + hour))
        hub.push("one", metrics.snapshot())
        assert value(hub, "score_drift_pages", **where) == (1520 if hour < 25 else 0) + 40 * min(hour, 25)
    assert (value(hub, "score_drift_psi", **psi) or 0) < 0.05
    assert value(hub, "pages_total", **where) == 2520
    clock.now += 48 * HOUR_S
    assert value(hub, "score_drift_psi", **psi) is None and value(hub, "score_drift_pages", **where) == 0


def test_a_hub_that_is_started_anew_learns_the_reference(reference: Reference):
    metrics, hub = ReplicaMetrics(), MetricsHub()
    _answer(metrics, bundle_of("a" * 64, reference), _probabilities(900, 1.0, 1))
    sizes = [len(metrics.snapshot()) for _ in range(45)]
    assert sizes[0] > sizes[1] and sizes[30] > sizes[29], "the reference travels with every snapshot, or never again"
    for _ in range(31):
        hub.push("one", metrics.snapshot())
    assert value(hub, "score_drift_psi", model="default", bundle="a" * 12, label=LABELS.keys[0]) is not None


def test_memory_does_not_grow_with_replicas_and_bundles_that_come_and_go():
    clock = Clock()
    hub, seen = MetricsHub(clock), 0

    def days(count: int) -> None:
        nonlocal seen
        for _ in range(count):
            clock.now += 24 * HOUR_S
            for number in range(4):
                metrics = ReplicaMetrics()
                _page(f"{seen:012d}" + "0" * 52, [1] * NUM_LABELS)(metrics)
                _request(200, 0.5, "ward")(metrics)
                hub.push(f"{seen}-{number}", metrics.snapshot())
            seen += 1

    days(50)
    series = len(samples(hub.collect()))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    days(50)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert abs(len(samples(hub.collect())) - series) < 20
    assert grown < 2_000_000
    assert value(hub, "key_requests_total", key="ward", status="200") == 4 * seen


def test_a_storm_of_restarts_is_bounded_and_loses_nothing():
    clock = Clock()
    hub: Any = MetricsHub(clock)
    for number in range(400):
        clock.now += 1
        metrics = ReplicaMetrics()
        metrics.page_refused("damaged")
        hub.push(str(number), metrics.snapshot())
    assert value(hub, "rejects_total", code="damaged") == 400
    assert len(hub._replicas) <= 256 + 11
