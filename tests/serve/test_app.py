"""The application as a whole: several bundles, predictors apart from decoders, changes while it runs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import torch

from vizecg.models.registry import build_model
from vizecg.platform.bundle import read_facts, save_bundle
from vizecg.platform.predictor import Predictor
from vizecg.serve.app import DEPLOYMENT
from vizecg.serve.listening import claim_port


@pytest.fixture(scope="module")
def second_folder(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights."""
    facts = read_facts(bundle_folder)
    torch.manual_seed(1)
    model = build_model(facts.model.name, facts.model.size, len(facts.label_space.labels))
    folder = tmp_path_factory.mktemp("second") / "bundle"
    save_bundle(folder, facts, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def arguments(bundle_folder: Path, second_folder: Path) -> dict[str, Any]:
    return {
        "bundle": str(bundle_folder), "models": {"second": str(second_folder)}, "backend": "torch-fp32",
        "num_threads": 1, "num_cpus": 0.5, "split": True,
    }  # fmt: skip


@pytest.fixture(scope="module")
def client(ray_cluster: None, arguments: dict[str, Any]) -> Iterator[httpx.Client]:
    """Of an application deployed as a file would: only so Serve tells what restarts replicas from what does not."""
    from ray import serve

    port = claim_port("127.0.0.1", 0)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        deploy(arguments)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        serve.shutdown()


def deploy(arguments: dict[str, Any], **live: Any) -> None:
    """What `serve deploy` does with a file of these arguments and this `user_config`."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    reader = {"name": DEPLOYMENT, "user_config": live}
    application = {
        "name": "vizecg", "route_prefix": "/", "import_path": "vizecg.serve.app:build", "args": arguments,
        "deployments": [reader],
    }  # fmt: skip
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
    deadline = time.monotonic() + 180
    while (found := serve.status().applications["vizecg"]).status != "RUNNING":
        assert time.monotonic() < deadline and found.status != "DEPLOY_FAILED", found.message
        time.sleep(0.2)


def readers() -> set[int]:
    return {p.pid for p in psutil.process_iter(["cmdline"]) if "PageReader" in " ".join(p.info["cmdline"] or [])}


def ask(client: httpx.Client, page: bytes, until: Any = None, **query: str) -> dict[str, Any]:
    """The answer; with `until` the first for which that holds, since live changes reach a replica within seconds."""
    deadline = time.monotonic() + 30
    while True:
        response = client.post("/v1/predict", content=page, params=query)
        assert response.status_code == 200, response.text
        if until is None or until(answer := response.json()):
            return response.json()
        assert time.monotonic() < deadline, answer


def assert_says_what(folder: Path, page: bytes, answer: dict[str, Any]) -> None:
    predictor = Predictor.load(folder)
    expected = predictor.predict_pages(predictor.read(page).pixels[None])[0]
    assert answer["model"]["bundle_hash"] == predictor.bundle.content_hash
    np.testing.assert_allclose([label["probability"] for label in answer["labels"]], expected, atol=1e-5)


def test_each_request_is_answered_by_the_model_it_names(
    client: httpx.Client, pages: list[bytes], bundle_folder: Path, second_folder: Path
):
    assert_says_what(bundle_folder, pages[0], ask(client, pages[0]))
    assert_says_what(second_folder, pages[0], ask(client, pages[0], model="second"))
    names = [model["name"] for model in client.get("/v1/models").json()["models"]]
    assert names == ["default", "second"]
    assert client.get("/v1/models/second").json()["model"]["name"] == "second"


def test_thresholds_and_a_canary_change_without_a_restart(
    client: httpx.Client, pages: list[bytes], arguments: dict[str, Any], bundle_folder: Path, second_folder: Path
):
    def threshold(answer: dict[str, Any]) -> float:
        return next(label["threshold"] for label in answer["labels"] if label["key"] == "AF")

    before = readers()
    assert before
    deploy(arguments, thresholds={"default": {"AF": 0.0123}})
    answer = ask(client, pages[0], until=lambda answer: threshold(answer) == 0.0123)
    assert next(label["positive"] for label in answer["labels"] if label["key"] == "AF")
    deploy(arguments, canary={"bundle": str(second_folder), "share": 1.0})
    answer = ask(client, pages[1], until=lambda answer: answer["model"]["canary"])
    assert_says_what(second_folder, pages[1], answer)
    deploy(arguments)
    assert_says_what(bundle_folder, pages[1], ask(client, pages[1], until=lambda answer: not answer["model"]["canary"]))
    assert readers() == before


def test_a_mistake_in_live_settings_leaves_those_before_in_force(
    client: httpx.Client, pages: list[bytes], arguments: dict[str, Any]
):
    before = readers()
    deploy(arguments, thresholds={"default": {"NOTHING": 0.5}})
    deadline = time.monotonic() + 30
    while "vizecg_serve_settings_refused_total 1.0" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(ask(client, pages[0])["labels"]) == 7
    assert readers() == before


def test_batches_of_classifiers_are_counted(client: httpx.Client, pages: list[bytes]):
    files = [("images", (f"{n}.png", page)) for n, page in enumerate(4 * pages)]
    answer = client.post("/v1/predict:batch", files=files).json()
    assert answer["num_read"] == 16
    deadline = time.monotonic() + 15
    while 'vizecg_serve_batch_pages_count{model="default"}' not in (text := client.get("/metrics").text):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert 'vizecg_serve_replicas{deployment="Classifier"} 1.0' in text
    assert 'vizecg_serve_replicas{deployment="PageReader"} 1.0' in text
