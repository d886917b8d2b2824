"""Every panel asks for metrics and labels that the endpoint has, and Prometheus reads it once, with its key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import vizecg
from vizecg.platform.bundle_facts import Bundle
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.reference import reference_of
from vizecg.serve.observe.hub import MetricsHub
from vizecg.serve.observe.metrics import ReplicaMetrics
from vizecg.serve.schemas import ModelInfo

CLUSTER = Path(vizecg.__file__).parent / "cluster"
DASHBOARD: dict[str, Any] = json.loads((CLUSTER / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel.get("targets", [])]

METRIC = re.compile(r"(vizecg_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right) *\(([^)]*)\)")


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Labels by sample name, of an endpoint that has done everything once."""
    labels, metrics, hub = load_label_space("practice"), ReplicaMetrics(), MetricsHub()
    probability = np.random.default_rng(0).random((900, len(labels.labels)), np.float32)
    thresholds = np.full(len(labels.labels), 0.5)
    reference = reference_of(probability, np.zeros_like(probability), np.ones_like(probability, bool), thresholds)
    info = ModelInfo(name="default", architecture="a", bundle_hash="a" * 64, backend="b", canary=False)
    bundle = Bundle.model_construct(label_space=labels, content_hash=info.bundle_hash, reference=reference)
    metrics.model_loaded(info, 1.0)
    for page in probability:
        metrics.page_read(info, bundle, page, thresholds.tolist())
    metrics.request_done(protocol="http", route="/v1/predict", status=200, seconds=0.1, model="default", key="ward")
    metrics.observe_stage("total", 0.1, "default")
    metrics.observe_batch(4, "default")
    metrics.page_refused("damaged")
    metrics.page_warned(["blurred"], info)
    metrics.settings_refused()
    hub.push("one", metrics.snapshot())
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(hub.collect().decode())
        for sample in family.samples
    }


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Every metric of an expression with the (label, value) that its series are chosen by."""
    for name, matchers in METRIC.findall(expression):
        yield name, [(label, value) for label, _, value in MATCHER.findall(matchers or "")]


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_name_in_a_query_is_exposed(title: str, target: dict[str, str], exposed: dict[str, set[str]]):
    expression, labels = target["expr"], set[str]()
    for name, matchers in selectors(expression):
        assert name in exposed, f"{title} asks for {name}, which is not there"
        labels |= exposed[name]
        assert {label for label, _ in matchers} <= exposed[name], f"{title} chooses {name} by a label that it lacks"
    assert labels or "vizecg_" in expression
    grouped = {label for group in GROUPING.findall(expression) for label in re.findall(r"\w+", group)}
    assert grouped <= labels, f"{title} groups by a label that is not there"
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    # An aggregation keeps the labels that it names alone.
    kept = grouped if re.search(r"\b(sum|histogram_quantile)\b", expression) else labels
    assert shown <= kept, f"{title} shows a label that its query does not keep"


def test_no_metric_is_without_a_panel(exposed: dict[str, set[str]]):
    asked = " ".join(target["expr"] for _, target in QUERIES)
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    # Of these pages the drift is, which is missing where they are few.
    assert {stem for stem in stems if stem not in asked} == {"vizecg_serve_score_drift_pages"}


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[title for title, _ in QUERIES])
def test_counters_are_read_as_rates_and_gauges_as_they_are(title: str, target: dict[str, str]):
    for part in re.finditer(r"vizecg_serve_\w+(?:\{[^}]*\})?(\[)?", target["expr"]):
        name = re.match(r"\w+", part[0])
        assert name is not None
        is_counter = name[0].endswith(("_total", "_bucket", "_sum", "_count"))
        before = target["expr"][: part.start()]
        assert bool(part[1]) == is_counter == before.endswith(("rate(", "increase(")), title


def test_quantiles_keep_the_buckets():
    for title, target in QUERIES:
        if "histogram_quantile" in target["expr"]:
            assert re.search(r"by \(le\b", target["expr"]) and "_bucket" in target["expr"], title


def test_the_data_source_is_chosen_on_the_dashboard():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    used = {
        json.dumps(part["datasource"])
        for panel in PANELS
        if "datasource" in panel
        for part in (panel, *panel["targets"])
    }
    assert used == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    asked = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for _, target in QUERIES)))
    assert asked - {"__rate_interval"} <= variables.keys()


def test_panels_do_not_lie_on_each_other_and_have_names_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_prometheus_reads_the_sum_once_and_with_a_key():
    """A target for every pod would count each request as often as there are pods."""
    (job,) = yaml.safe_load((CLUSTER / "prometheus-scrape.yml").read_text())["scrape_configs"]
    manifest = yaml.safe_load((CLUSTER / "ray-service.predict.yaml").read_text())
    ((target,),) = [entry["targets"] for entry in job["static_configs"]]
    # The name that KubeRay gives the service of a RayService.
    assert target.startswith(f"{manifest['metadata']['name']}-serve-svc.") and target.endswith(":8000")
    assert job["metrics_path"] == "/metrics" and job["authorization"]["type"] == "Bearer"
    assert not [key for key in job if key.endswith("_sd_configs")]
