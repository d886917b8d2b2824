"""What a healthy endpoint never shows: a replica that is full, one that fails, and clients that do as they like."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from vizecg.serve.access import Access
from vizecg.serve.api import create_api
from vizecg.serve.guard import Exchange
from vizecg.serve.options import PredictOptions
from vizecg.serve.problems import Refused
from vizecg.serve.schemas import (
    BatchItem,
    ModelCard,
    ModelInfo,
    ModelList,
    PageFacts,
    PredictResponse,
    Timing,
)
from vizecg.serve.settings import AppArgs

ARGS = AppArgs(bundle="unused", max_ongoing_requests=1, max_body_bytes=4096)
MODEL = ModelInfo(name="default", architecture="none", bundle_hash="0", backend="none", canary=False)


def answer_to(request_id: str) -> PredictResponse:
    return PredictResponse(
        request_id=request_id, model=MODEL, labels=[], findings=[], calibrated=False,
        page=PageFacts(turned_deg=0, ecg_score=1.0), timing_ms=Timing(decode=0, predict=0, total=0),
    )  # fmt: skip


class Service:
    """Waits for `gate`, then fails with `error` or answers; remembers what it was asked."""

    def __init__(self, error: Exception | None = None, is_open: bool = True):
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.error, self.is_ready = error, True
        self.asked: list[tuple[bytes, PredictOptions]] = []

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        self.asked.append((data, options))
        await self.gate.wait()
        if self.error:
            raise self.error
        return answer_to(request_id)

    async def predict_files(
        self, files: list[tuple[str | None, bytes]], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        for index, (name, data) in enumerate(files):
            result = await self.predict(data, options, request_id)
            yield BatchItem(index=index, file_name=name, page=1, status=200, result=result)

    def models(self) -> ModelList:
        return ModelList(models=[])

    async def model_card(self, name: str) -> ModelCard:
        raise Refused(404, "no_such_model", f"There is no model {name!r}.")

    async def metrics(self) -> bytes:
        return b"up 1\n"


def client_of(service: Service, told: list[Exchange] | None = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
    @contextmanager
    def watch(exchange: Exchange, _: str | None) -> Iterator[None]:
        try:
            yield
        finally:
            (told if told is not None else []).append(exchange)

    api = create_api(service, ARGS, Access(None), watch)
    return httpx.AsyncClient(transport=httpx.ASGITransport(api, client=(address, 1)), base_url="http://localhost")


def ask(service: Service, *requests: tuple[str, str, dict[str, Any]], **options: Any) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        async with client_of(service, **options) as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(run())


def test_a_full_replica_says_when_to_come_back():
    async def ask_twice() -> tuple[httpx.Response, httpx.Response]:
        service = Service(is_open=False)
        async with client_of(service) as client:
            first = asyncio.create_task(client.post("/v1/predict", content=b"page"))
            await asyncio.sleep(0.05)
            second = await client.post("/v1/predict", content=b"page")
            service.gate.set()
            return await first, second

    first, second = asyncio.run(ask_twice())
    assert first.status_code == 200
    assert second.status_code == 503
    assert second.json()["code"] == "busy"
    assert second.headers["Retry-After"] == "1"


def test_a_fault_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture):
    post = ("POST", "/v1/predict", {"content": b"page", "headers": {"X-Request-ID": "r1"}})
    with caplog.at_level(logging.ERROR, "ray.serve"):
        # Twice: a fault must give its place back.
        responses = ask(Service(RuntimeError("secret cause")), post, post)
    for response in responses:
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert (response.json()["code"], response.json()["request_id"]) == ("internal_error", "r1")
        assert "secret cause" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "secret cause" in caplog.text


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>"])
def test_an_id_that_could_do_harm_is_not_repeated(given: str):
    (response,) = ask(Service(), ("GET", "/nowhere", {"headers": {"X-Request-ID": given}}))
    assert response.json()["request_id"] != given


def test_options_arrive_and_wrong_ones_are_one_sentence():
    service = Service()
    query = "?model=old&labels=AF,%20SB&explain=top&page=3&rectify=true&page_image=1"
    ask(service, ("POST", f"/v1/predict{query}", {"content": b"page"}))
    assert service.asked[0][1] == PredictOptions(
        model="old", labels=("AF", "SB"), explain=("top",), page=3, rectify=True, page_image=True
    )
    for wrong in ("page=0", "page=x", "rectify=perhaps", "explain=" + ",".join("abcdefghi"), "report=sr"):
        (response,) = ask(Service(), ("POST", f"/v1/predict?{wrong}", {"content": b"page"}))
        assert (response.status_code, response.json()["code"]) == (400, "bad_option"), wrong
        assert response.json()["detail"].endswith(".")


@pytest.mark.parametrize(("path", "option"), [("predict", "mdoel"), ("predict", "label"), ("predict:batch", "page")])
def test_an_option_that_is_not_known_is_not_passed_over(path: str, option: str):
    service = Service()
    (response,) = ask(service, ("POST", f"/v1/{path}?{option}=old", {"content": b"page"}))
    assert (response.status_code, response.json()["code"]) == (400, "bad_option")
    assert f"no option '{option}'" in response.json()["detail"] and "model" in response.json()["detail"]
    assert not service.asked


def test_a_batch_takes_every_file_in_order():
    files = [("images", (f"{n}.png", bytes([n]))) for n in range(5)]
    service = Service()
    (response,) = ask(service, ("POST", "/v1/predict:batch", {"files": files}))
    assert response.status_code == 200
    assert [item["file_name"] for item in response.json()["items"]] == [f"{n}.png" for n in range(5)]
    assert [data for data, _ in service.asked] == [bytes([n]) for n in range(5)]


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict:batch", "/v1/models", "/v1/models/x", "/metrics"])
def test_without_keys_others_than_this_machine_are_refused(path: str):
    method = "POST" if "predict" in path else "GET"
    (response,) = ask(Service(), (method, path, {}), address="192.0.2.7")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_health_and_page_need_no_key():
    paths = ["/healthz", "/readyz", "/", "/app.js", "/openapi.json"]
    assert {r.status_code for r in ask(Service(), *(("GET", path, {}) for path in paths), address="192.0.2.7")} == {200}


def test_a_replica_that_is_not_ready_says_so():
    service = Service()
    service.is_ready = False
    (response,) = ask(service, ("GET", "/readyz", {}))
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")


def test_what_is_told_of_a_request_holds_templates_and_no_content():
    told: list[Exchange] = []
    ask(
        Service(),
        ("POST", "/v1/predict?labels=Mustermann", {"content": b"page"}), ("GET", "/v1/models/Mustermann", {}),
        ("GET", "/Mustermann", {}), ("POST", "/v1/predict", {"content": b"x" * 5000}), told=told,
    )  # fmt: skip
    assert [(each.route, each.status, each.code) for each in told] == [
        ("/v1/predict", 200, ""), ("/v1/models/{name}", 404, "no_such_model"), ("", 404, "not_found"),
        ("/v1/predict", 413, "too_large"),
    ]  # fmt: skip
    assert told[0].bytes_in == 4 and told[0].pages == 1 and told[0].model == "default"
    assert "Mustermann" not in json.dumps([vars(each) for each in told])


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "multipart/FORM-data; boundary=\xff",
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"--x", b"--x\r\n\r\n--x--", b"--x\r\nContent-Disposition: form-data\r\n\r\nz\r\n--x--", bytes(range(256))],
)
def test_broken_forms_are_the_clients_fault(content_type: str, body: bytes):
    headers = {"Content-Type": content_type.encode("latin-1")}
    (response,) = ask(Service(), ("POST", "/v1/predict", {"content": body, "headers": headers}))
    assert response.status_code == 400, response.text


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/models", "/metrics", "/nowhere"])
def test_a_prefix_in_front_opens_nothing(path: str):
    async def run() -> list[int]:
        api = create_api(Service(), ARGS, Access(None))
        transport = httpx.ASGITransport(api, root_path="/ecg", client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await client.get(f"/ecg{place}")).status_code for place in (path, "/healthz")]

    assert asyncio.run(run()) == [401, 200]


def test_a_client_that_goes_away_is_no_fault_of_ours():
    told: list[Exchange] = []

    async def run() -> None:
        service = Service(is_open=False)
        async with client_of(service, told) as client:
            request = asyncio.create_task(client.post("/v1/predict", content=b"page"))
            await asyncio.sleep(0.05)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    asyncio.run(run())
    assert [(each.status, each.code) for each in told] == [(499, "cancelled")]
