"""The endpoint through HTTP, Serve's proxy and a replica."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from vizecg.platform.errors import UserError
from vizecg.platform.predictor import Predictor
from vizecg.serve.schemas import PredictResponse, Problem
from vizecg.serve.server import running_endpoint

JPEG_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
MAX_BODY_BYTES = 2 << 20


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


def test_answer_says_what_was_read_and_by_what(client: httpx.Client, pages: list[bytes], predictor: Predictor):
    response = client.post("/v1/predict", content=pages[0], headers={"X-Request-ID": "visit-7"})
    answer = PredictResponse.model_validate_json(response.content)
    bundle = predictor.bundle
    assert [label.key for label in answer.labels] == list(bundle.label_space.keys)
    assert [label.threshold for label in answer.labels] == bundle.thresholds
    assert [label.positive for label in answer.labels] == [
        label.probability >= label.threshold for label in answer.labels
    ]
    assert (answer.model.name, answer.model.bundle_hash) == (bundle.model.name, bundle.content_hash)
    assert answer.timing_ms.decode > 0 and answer.timing_ms.predict > 0
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


def test_healthz(client: httpx.Client, predictor: Predictor):
    health = client.get("/healthz").json()
    assert health["status"] == "ok"
    assert health["model"]["bundle_hash"] == predictor.bundle.content_hash


def test_openapi_describes_both_bodies_and_every_error(client: httpx.Client):
    document = client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]) == {"/v1/predict", "/healthz"}
    predict = document["paths"]["/v1/predict"]["post"]
    assert {"image/png", "image/jpeg", "multipart/form-data"} <= set(predict["requestBody"]["content"])
    assert set(predict["responses"]) == {"200", "400", "413", "415", "422", "500", "503"}
    for status, response in predict["responses"].items():
        assert list(response["content"]) == ["application/json" if status == "200" else "application/problem+json"]


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
