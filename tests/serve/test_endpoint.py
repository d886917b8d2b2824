"""The endpoint through HTTP, Serve's proxy and a replica."""

import base64
import io
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from vizecg.platform.errors import UserError
from vizecg.platform.predictor import Predictor
from vizecg.serve.problems import PROBLEMS
from vizecg.serve.schemas import BatchResponse, PredictResponse, Problem
from vizecg.serve.server import running_endpoint

JPEG_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
MAX_BODY_BYTES = 2 << 20
MAX_BATCH_PAGES = 8


def probabilities(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return [label.probability for label in PredictResponse.model_validate_json(response.content).labels]


def expected(predictor: Predictor, page: bytes) -> list[float]:
    return predictor.predict_pages(predictor.prepare(page)[None])[0].tolist()


def assert_problem(response: httpx.Response, status: int, code: str) -> Problem:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail.endswith(".")
    assert "Traceback" not in response.text
    return problem


def test_raw_body_and_multipart_give_the_predictors_numbers(
    client: httpx.Client, pages: list[bytes], predictor: Predictor
):
    raw = client.post("/v1/predict", content=pages[0], headers={"Content-Type": "image/png"})
    form = client.post("/v1/predict", files={"image": ("page.png", pages[0], "image/png")}, data={"note": "x"})
    np.testing.assert_allclose(probabilities(raw), expected(predictor, pages[0]), atol=1e-5)
    assert probabilities(raw) == probabilities(form)


def test_a_page_upside_down_is_read_and_something_else_refused(
    client: httpx.Client, pages: list[bytes], predictor: Predictor
):
    page = cv2.imdecode(np.frombuffer(pages[0], np.uint8), cv2.IMREAD_COLOR)
    turned = client.post(
        "/v1/predict", content=cv2.imencode(".png", np.ascontiguousarray(page[::-1, ::-1]))[1].tobytes()
    )
    np.testing.assert_allclose(probabilities(turned), expected(predictor, pages[0]), atol=1e-5)
    assert turned.json()["page"]["turned_deg"] == 180
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert_problem(client.post("/v1/predict", content=cv2.imencode(".png", noise)[1].tobytes()), 422, "not_an_ecg")


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_every_page_says_what_the_predictor_says(
    client: httpx.Client, pages: list[bytes], predictor: Predictor, page: int
):
    answer = probabilities(client.post("/v1/predict", content=pages[page]))
    np.testing.assert_allclose(answer, expected(predictor, pages[page]), atol=1e-5)


def test_answer_says_what_was_read_and_by_what(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    response = client.post("/v1/predict", content=pages[0], headers={"X-Request-ID": "visit-7"})
    answer = PredictResponse.model_validate_json(response.content)
    bundle = predictor.bundle
    assert [label.key for label in answer.labels] == list(bundle.label_space.keys)
    assert [label.threshold for label in answer.labels] == bundle.thresholds
    assert [label.positive for label in answer.labels] == [
        label.probability >= label.threshold for label in answer.labels
    ]
    model = answer.model
    assert (model.name, model.architecture, model.bundle_hash) == ("default", bundle.model.name, bundle.content_hash)
    assert (model.backend, model.canary) == ("torch-fp32", False)
    timing = answer.timing_ms
    assert timing.decode > 0 and timing.predict > 0 and timing.total >= timing.predict
    assert {finding.key for finding in answer.findings} == {label.key for label in answer.labels if label.positive}
    for finding in answer.findings:
        assert finding.code is not None and finding.code.system == "http://snomed.info/sct"
    assert (answer.page.width_px, answer.page.height_px, answer.page.num_pages) == (800, 600, 1)
    assert answer.request_id == response.headers["X-Request-ID"] == "visit-7"
    assert "research" in answer.notice


def test_a_request_without_id_gets_one_of_its_own(client: httpx.Client, pages: list[bytes]):
    ids = {client.post("/v1/predict", content=pages[0]).json()["request_id"] for _ in range(2)}
    assert len(ids) == 2


def test_many_at_once_get_their_own_answers(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda page: probabilities(client.post("/v1/predict", content=page)), 4 * pages))
    np.testing.assert_allclose(answers, 4 * [expected(predictor, page) for page in pages], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty"),
        (b"Dear colleague, the ECG is attached.", 415, "not_an_image"),
        (b"%PDF-1.7 \n", 422, "truncated"),
        (b"PK\3\4 a zip", 415, "not_an_image"),
        (JPEG_START, 422, "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(MAX_BODY_BYTES), 413, "too_large"),
    ],
)
def test_a_body_that_is_no_page(client: httpx.Client, body: bytes, status: int, code: str):
    assert_problem(client.post("/v1/predict", content=body), status, code)
    if body:
        assert_problem(client.post("/v1/predict", files={"image": ("page.png", body)}), status, code)


def test_a_truncated_picture(client: httpx.Client, pages: list[bytes]):
    assert_problem(client.post("/v1/predict", content=pages[0][: len(pages[0]) // 2]), 422, "truncated")


def test_a_large_body_is_refused_while_it_arrives(client: httpx.Client):
    # Without Content-Length: only counting what arrives can stop it.
    response = client.post("/v1/predict", content=(bytes(1 << 16) for _ in range(MAX_BODY_BYTES >> 15)))
    assert_problem(response, 413, "too_large")


def test_a_form_without_image(client: httpx.Client, pages: list[bytes]):
    assert_problem(client.post("/v1/predict", files={"picture": ("page.png", pages[0])}), 400, "missing_image")
    headers = {"Content-Type": "multipart/form-data"}
    assert_problem(client.post("/v1/predict", content=pages[0], headers=headers), 400, "bad_multipart")


def test_wrong_method_and_unknown_path(client: httpx.Client):
    assert_problem(client.get("/v1/predict"), 405, "method_not_allowed")
    assert_problem(client.get("/v2/predict"), 404, "not_found")
    assert_problem(client.get("/../serve.yaml"), 404, "not_found")


def test_a_bad_request_does_not_disturb_the_next(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    for page in pages:
        client.post("/v1/predict", content=b"no page")
        answer = probabilities(client.post("/v1/predict", content=page))
        np.testing.assert_allclose(answer, expected(predictor, page), atol=1e-5)


def test_health(client: httpx.Client):
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_only_the_labels_asked_for(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    answer = client.post("/v1/predict?labels=SB,AF", content=pages[0]).json()
    keys = predictor.bundle.label_space.keys
    assert [label["key"] for label in answer["labels"]] == sorted(("SB", "AF"), key=keys.index)
    assert_problem(client.post("/v1/predict?labels=XYZ", content=pages[0]), 404, "no_such_label")
    assert_problem(client.post("/v1/predict?model=other", content=pages[0]), 404, "no_such_model")
    assert_problem(client.post("/v1/predict?page=2", content=pages[0]), 404, "no_such_page")


def picture_of(base64_png: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(base64_png), np.uint8), cv2.IMREAD_COLOR_RGB)


def test_an_explanation_tints_the_page_that_the_model_saw(
    client: httpx.Client, pages: list[bytes], predictor: Predictor
):
    answer = client.post("/v1/predict?explain=top,AF&page_image=true", content=pages[1]).json()
    seen = predictor.read(pages[1]).pixels.transpose(1, 2, 0)
    assert (picture_of(answer["page_image"]["image"]) == seen).all()
    top = max(answer["labels"], key=lambda label: label["probability"])["key"]
    assert [each["key"] for each in answer["explanations"]] == list(dict.fromkeys([top, "AF"]))
    for each in answer["explanations"]:
        tinted = picture_of(each["image"])
        assert tinted.shape == seen.shape and (tinted <= seen).all()


def test_a_batch_reads_every_page_of_every_file(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    document = io.BytesIO()
    first, *others = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages[:3]]
    first.save(document, "PDF", save_all=True, append_images=others, resolution=100)
    files = [
        ("images", ("one.png", pages[0], "image/png")),
        ("images", ("letter.txt", b"Dear colleague", "text/plain")),
        ("images", ("three.pdf", document.getvalue(), "application/pdf")),
    ]
    answer = BatchResponse.model_validate_json(client.post("/v1/predict:batch", files=files).content)
    assert [(item.index, item.page, item.status) for item in answer.items] == [
        (0, 1, 200), (1, 1, 415), (2, 1, 200), (2, 2, 200), (2, 3, 200),
    ]  # fmt: skip
    assert (answer.num_read, answer.num_refused) == (4, 1)
    assert [item.file_name for item in answer.items] == ["one.png", "letter.txt", *3 * ["three.pdf"]]
    first_item, refused = answer.items[0], answer.items[1]
    assert first_item.result is not None and refused.problem is not None
    np.testing.assert_allclose(
        [label.probability for label in first_item.result.labels], expected(predictor, pages[0]), atol=1e-5
    )
    assert refused.problem.code == "not_an_image"
    whole = client.post("/v1/predict:batch", content=document.getvalue()).json()
    assert [item["result"]["page"]["number"] for item in whole["items"]] == [1, 2, 3]


def test_a_batch_of_too_many_pages_is_refused(client: httpx.Client, pages: list[bytes]):
    small = [("images", (f"{n}.png", pages[0][:100])) for n in range(MAX_BATCH_PAGES)]
    assert client.post("/v1/predict:batch", files=small).json()["num_refused"] == MAX_BATCH_PAGES
    response = client.post("/v1/predict:batch", files=[*small, ("images", ("more.png", b"x"))])
    assert_problem(response, 400, "bad_multipart")


@pytest.mark.parametrize(
    ("accept", "query", "start"),
    [
        ("application/pdf", "", b"%PDF"),
        ("application/dicom", "", bytes(128) + b"DICM"),
        ("application/dicom", "?report=pdf", bytes(128) + b"DICM"),
    ],
)
def test_an_answer_as_a_document(client: httpx.Client, pages: list[bytes], accept: str, query: str, start: bytes):
    response = client.post(f"/v1/predict{query}", content=pages[0], headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == accept
    assert response.content.startswith(start)


def test_models_and_their_cards(client: httpx.Client, predictor: Predictor):
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["bundle_hash"]) == ("default", predictor.bundle.content_hash)
    card = client.get("/v1/models/default").json()
    assert [label["key"] for label in card["labels"]] == list(predictor.bundle.label_space.keys)
    assert card["card"].startswith("# ")
    assert_problem(client.get("/v1/models/nobody"), 404, "no_such_model")


def test_metrics_count_what_was_asked(client: httpx.Client, pages: list[bytes]):
    def requests(status: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
            if sample.name == "vizecg_serve_requests_total"
            and sample.labels["route"] == "/v1/predict" and sample.labels["status"] == status
        )  # fmt: skip

    before = requests("200"), requests("415")
    for page in pages:
        client.post("/v1/predict", content=page)
    client.post("/v1/predict", content=b"no page")
    assert (requests("200"), requests("415")) == (before[0] + len(pages), before[1] + 1)


def test_openapi_describes_bodies_keys_and_every_error(client: httpx.Client):
    document = client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]) == {
        "/v1/predict", "/v1/predict:batch", "/v1/models", "/v1/models/{name}", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    predict = document["paths"]["/v1/predict"]["post"]
    assert {"image/png", "application/dicom", "multipart/form-data"} <= set(predict["requestBody"]["content"])
    assert set(predict["responses"]) == {"200", *map(str, PROBLEMS)}
    assert {"bearer": []} in predict["security"]
    for status, response in predict["responses"].items():
        assert ("application/problem+json" in response["content"]) == (status != "200")
    assert set(document["components"]["schemas"]) >= {"PredictResponse", "BatchResponse", "ModelCard", "Problem"}


@pytest.mark.parametrize(
    ("path", "media_type"), [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")]
)
def test_the_page_is_served_under_a_strict_policy(client: httpx.Client, path: str, media_type: str):
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "https://" not in response.text, "the page asks nobody else for anything"


def test_a_second_endpoint_on_one_cluster_is_refused(endpoint: str, bundle_folder: Path):
    with pytest.raises(UserError, match="runs on this cluster already"), running_endpoint(str(bundle_folder)):
        pass
    assert httpx.get(f"{endpoint}/healthz").status_code == 200, "the first one goes on"


def test_it_listens_on_loopback_alone(endpoint: str):
    port = httpx.URL(endpoint).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Sends nothing; asks which of our addresses would be used.
        address = probe.getsockname()[0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}:{port}/healthz")


def test_real_prints_get_an_answer_or_a_clear_refusal(client: httpx.Client, real_prints: list[Path]):
    read = 0
    for file in real_prints:
        response = client.post("/v1/predict", content=file.read_bytes())
        if response.status_code == 200:
            read += 1
            assert PredictResponse.model_validate_json(response.content).page.ecg_score
        else:
            assert response.status_code in (413, 422), response.text
            assert Problem.model_validate_json(response.content).detail.endswith(".")
    small = [file for file in real_prints if file.stat().st_size <= MAX_BODY_BYTES]
    assert read >= 0.9 * len(small)


def test_the_web_page_shows_the_predictors_numbers(
    endpoint: str, browser: Any, pages: list[bytes], predictor: Predictor
):
    """In Chromium; test_page.py has all else that the page does, on a stub. Last here: see the browser's fixture."""
    page = browser.new_page()
    page.goto(endpoint)
    page.set_input_files("#file", {"name": "page.png", "mimeType": "image/png", "buffer": pages[0]})
    page.locator("#result").wait_for(timeout=30_000)
    names = page.locator("#labels .name").all_inner_texts()
    lines = page.locator("#labels .label").all_inner_texts()
    labels, probability = predictor.bundle.label_space.labels, expected(predictor, pages[0])
    by_name = {label.name: 100 * p for label, p in zip(labels, probability, strict=True)}
    shown = {name: float(re.findall(r"([\d.]+)\s*%", line)[0]) for name, line in zip(names, lines, strict=True)}
    assert shown == pytest.approx(by_name, abs=1.0)
