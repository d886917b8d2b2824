"""What Prometheus is told of a run, read over HTTP with Prometheus' own parser."""

import socket
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from vizecg.platform.errors import UserError
from vizecg.platform.score.job import Progress
from vizecg.platform.score.monitor import ScoreMetrics, metrics_endpoint

NOW = Progress(
    pages=120, scored=100, rejected={"not_an_ecg": 15, "truncated": 5}, items=110, num_items=1000, resumed_items=10,
    elapsed_s=12.5, pages_per_s=9.5, items_per_s=9.0, eta_s=98.0, predictors=4, nodes=2,
)  # fmt: skip


def told(metrics: ScoreMetrics) -> dict[tuple[str, str], float]:
    """(name, the values of its labels) -> value."""
    assert metrics.url is not None
    with urllib.request.urlopen(metrics.url, timeout=5) as answer:
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    return {
        (s.name, " ".join(s.labels[name] for name in sorted(s.labels))): s.value
        for family in families
        for s in family.samples
    }


def test_everything_is_told():
    with metrics_endpoint(0, bundle_hash="abc", backend="torch-fp32") as update:
        before = told(update)
        update(NOW)
        after = told(update)
    assert before == {("vizecg_score_info", "torch-fp32 abc"): 1.0}, "nothing is known yet, and no figure is made up"
    assert after == {
        ("vizecg_score_info", "torch-fp32 abc"): 1.0,
        ("vizecg_score_pages_total", "scored"): 100,
        ("vizecg_score_pages_total", "rejected"): 20,
        ("vizecg_score_rejected_total", "not_an_ecg"): 15,
        ("vizecg_score_rejected_total", "truncated"): 5,
        ("vizecg_score_items", ""): 1000,
        ("vizecg_score_items_done", ""): 110,
        ("vizecg_score_pages_per_second", ""): 9.5,
        ("vizecg_score_eta_seconds", ""): 98.0,
        ("vizecg_score_predictors", ""): 4,
        ("vizecg_score_nodes", ""): 2,
    }


def test_counters_never_go_down_and_gauges_do():
    with metrics_endpoint(0) as update:
        update(NOW)
        update(replace(NOW, scored=90, rejected={"truncated": 7}, predictors=1, eta_s=None))
        values = told(update)
    assert values["vizecg_score_pages_total", "scored"] == 100
    assert values["vizecg_score_pages_total", "rejected"] == 20
    assert values["vizecg_score_rejected_total", "not_an_ecg"] == 15
    assert values["vizecg_score_rejected_total", "truncated"] == 7
    assert values["vizecg_score_predictors", ""] == 1
    assert ("vizecg_score_eta_seconds", "") not in values


def test_every_run_has_its_own_and_leaves_nothing():
    global_before = set(REGISTRY._names_to_collectors)
    with metrics_endpoint(0, backend="one") as one, metrics_endpoint(0, backend="two") as two:
        one(NOW)
        assert ("vizecg_score_items", "") not in told(two)
    assert set(REGISTRY._names_to_collectors) == global_before
    with pytest.raises(urllib.error.URLError):
        told(one)


def test_without_a_port_nothing_is_opened():
    with metrics_endpoint(None) as update:
        update(NOW)
    assert update.url is None


def test_only_this_machine_is_answered():
    with metrics_endpoint(0) as update:
        assert update.url is not None and update.url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^metrics port {port} on 127.0.0.1 cannot be opened \(.*in use\); "):
            metrics_endpoint(port).__enter__()


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_out_of_range_is_one_sentence(port: int):
    with pytest.raises(UserError, match=rf"^metrics port {port}: ports go from 1 to 65535"):
        metrics_endpoint(port).__enter__()
