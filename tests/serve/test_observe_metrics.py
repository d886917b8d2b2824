"""What a replica counts is what happened, with label values of ours alone, and cheap."""

import gc
import json
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from vizecg.platform.bundle_facts import Bundle
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.reference import bin_counts, probability_edges
from vizecg.serve.observe.metrics import ReplicaMetrics
from vizecg.serve.schemas import ModelInfo

LABELS = load_label_space("cinc2021-scored")
NUM_LABELS = len(LABELS.labels)
INFO = ModelInfo(name="default", architecture="vizecgnet", bundle_hash="ab" * 32, backend="torch-fp32", canary=False)
BUNDLE = Bundle.model_construct(label_space=LABELS, content_hash=INFO.bundle_hash, reference=None)
THRESHOLDS = [0.5, 0.25, *np.linspace(0.1, 0.9, NUM_LABELS - 2).tolist()]


def samples(metrics: ReplicaMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Value by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def value(metrics: ReplicaMetrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"vizecg_serve_{name}", frozenset(labels.items())))


def test_requests_by_what_became_of_them():
    metrics = ReplicaMetrics()
    for _ in range(3):
        metrics.request_done(
            protocol="http", route="/v1/predict", status=200, seconds=0.05, model="default", key="ward"
        )
    metrics.request_done(protocol="http", route="/v1/predict", status=503, seconds=9.0, code="busy", key="ward")
    metrics.page_refused("busy")
    common = {"protocol": "http", "route": "/v1/predict"}
    assert value(metrics, "requests_total", **common, status="200", code="", model="default") == 3
    assert value(metrics, "requests_total", **common, status="503", code="busy", model="") == 1
    assert value(metrics, "rejects_total", code="busy") == 2
    assert value(metrics, "key_requests_total", key="ward", status="200") == 3
    # A refusal takes no time, and would make a busy endpoint look fast.
    assert value(metrics, "request_duration_seconds_count", **common) == 3
    assert value(metrics, "request_duration_seconds_sum", **common) == pytest.approx(0.15)


def test_names_that_clients_make_up_share_one_series():
    metrics = ReplicaMetrics(["default", "night"])
    for number in range(1000):
        name = f"Jane Doe {number}"
        metrics.request_done(
            protocol="http", route="/v1/predict", status=404, seconds=0, code="no_such_model", model=name
        )
        metrics.observe_stage("decode", 0.1, name)
    metrics.observe_stage("decode", 0.1, "night")
    assert b"Jane" not in metrics.text() + metrics.snapshot()
    assert value(metrics, "stage_duration_seconds_count", stage="decode", model="other") == 1000
    assert value(metrics, "stage_duration_seconds_count", stage="decode", model="night") == 1


def test_pages_are_counted_as_the_reference_was():
    """Histograms as platform.reference counts them, findings as an answer names them."""
    metrics, rng = ReplicaMetrics(), np.random.default_rng(0)
    probability = rng.beta(0.3, 0.6, (500, NUM_LABELS)).astype(np.float32)
    # Also on a threshold, where an answer compares a single with a double, and on the edges of bins.
    probability[0] = THRESHOLDS
    probability[1 : 1 + len(probability_edges())] = probability_edges()[:, None]
    for page in probability:
        metrics.page_read(INFO, BUNDLE, page, THRESHOLDS)
    ((model, bundle, state),) = json.loads(metrics.snapshot())["scores"]
    assert (model, bundle, state["labels"]) == ("default", INFO.bundle_hash[:12], list(LABELS.keys))
    expected = [bin_counts(column, probability_edges()).tolist() for column in probability.T]
    assert state["histogram"] == expected
    assert value(metrics, "pages_total", model="default", bundle=bundle) == 500
    for number, (key, threshold) in enumerate(zip(LABELS.keys, THRESHOLDS, strict=True)):
        found = sum(float(p) >= threshold for p in probability[:, number])
        assert value(metrics, "findings_total", model="default", bundle=bundle, label=key) == found


def test_warnings_of_pages_are_counted_by_code():
    metrics = ReplicaMetrics()
    for codes in (["blurred", "unlike_training"], [], ["blurred"]):
        metrics.page_warned(codes, INFO)
    read_by = {"model": "default", "bundle": INFO.bundle_hash[:12]}
    assert value(metrics, "page_warnings_total", code="blurred", **read_by) == 2
    assert value(metrics, "page_warnings_total", code="unlike_training", **read_by) == 1


def test_what_is_there_now_is_looked_up():
    class Batcher:
        num_waiting = 3

    class Model:
        pass

    metrics, one, other, model = ReplicaMetrics(), Batcher(), Batcher(), Model()
    metrics.watch(one)
    metrics.watch(other)
    metrics.model_loaded(INFO, 2.5, model)
    facts = {"architecture": "vizecgnet", "backend": "torch-fp32", "canary": "false"}
    loaded = {"model": "default", "bundle": INFO.bundle_hash[:12], **facts}
    with metrics.in_work():
        assert value(metrics, "requests_in_work") == 1
        assert value(metrics, "pages_waiting") == 6
        assert value(metrics, "bundle_replicas", **loaded) == 1
    del one, model
    gc.collect()
    assert value(metrics, "requests_in_work") == 0
    assert value(metrics, "pages_waiting") == 3
    assert value(metrics, "bundle_replicas", **loaded) is None
    assert value(metrics, "model_load_duration_seconds_sum", model="default") == 2.5


def test_it_costs_next_to_nothing():
    metrics, probability = ReplicaMetrics(), np.full(NUM_LABELS, 0.3, np.float32)
    metrics.model_loaded(INFO, 1.0)

    def fastest_us(work: object, times: int = 300) -> float:
        assert callable(work)
        took = []
        for _ in range(times):
            started = time.perf_counter()
            work()
            took.append(time.perf_counter() - started)
        return 1e6 * min(took)

    def page() -> None:
        metrics.page_read(INFO, BUNDLE, probability, THRESHOLDS)

    def request() -> None:
        metrics.request_done(protocol="http", route="/v1/predict", status=200, seconds=0.05, model="default", key="k")

    assert fastest_us(page) < 20
    assert fastest_us(request) < 50
    for stage in ("queue", "decode", "predict", "explain", "total"):
        metrics.observe_stage(stage, 0.1, "default")
    assert len(metrics.snapshot()) < 32_000
    assert fastest_us(metrics.snapshot, 30) < 20_000


def test_nothing_is_shared_between_registries_or_with_the_process():
    one, other = ReplicaMetrics(), ReplicaMetrics()
    one.page_refused("damaged")
    assert value(other, "rejects_total", code="damaged") is None
    from prometheus_client import REGISTRY, generate_latest

    assert b"vizecg_serve" not in generate_latest(REGISTRY)
