"""What a healthy endpoint never shows: a replica that is full, and one that fails."""

import asyncio
import logging

import httpx
import pytest

from vizecg.serve.api import create_api
from vizecg.serve.schemas import AppArgs, LabelResult, ModelInfo, PageFacts, Timing

ARGS = AppArgs(bundle="unused", max_ongoing_requests=1)


class Reader:
    """Waits for `gate`, then fails with `error` or answers."""

    model = ModelInfo(name="none", bundle_hash="0")

    def __init__(self, error: Exception | None = None):
        self.gate = asyncio.Event()
        self.error = error

    async def read(self, data: bytes) -> tuple[list[LabelResult], PageFacts, Timing]:
        await self.gate.wait()
        if self.error:
            raise self.error
        return [], PageFacts(turned_deg=0, ecg_score=1.0, note=None), Timing(decode=0, predict=0)


def client_of(reader: Reader) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_api(reader, ARGS))
    return httpx.AsyncClient(transport=transport, base_url="http://replica")


def test_a_full_replica_says_when_to_come_back():
    async def ask_twice() -> tuple[httpx.Response, httpx.Response]:
        reader = Reader()
        async with client_of(reader) as client:
            first = asyncio.create_task(client.post("/v1/predict", content=b"page"))
            await asyncio.sleep(0.05)
            second = await client.post("/v1/predict", content=b"page")
            reader.gate.set()
            return await first, second

    first, second = asyncio.run(ask_twice())
    assert first.status_code == 200
    assert second.status_code == 503
    assert second.json()["code"] == "busy"
    assert second.headers["Retry-After"] == "1"


def test_a_fault_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture):
    async def ask() -> list[httpx.Response]:
        reader = Reader(RuntimeError("secret cause"))
        reader.gate.set()
        async with client_of(reader) as client:
            # Twice: a fault must give its place back.
            return [await client.post("/v1/predict", content=b"page", headers={"X-Request-ID": "r1"}) for _ in "ab"]

    with caplog.at_level(logging.ERROR, "ray.serve"):
        responses = asyncio.run(ask())
    for response in responses:
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert (response.json()["code"], response.json()["request_id"]) == ("internal_error", "r1")
        assert "secret cause" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "secret cause" in caplog.text


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>"])
def test_an_id_that_could_do_harm_is_not_repeated(given: str):
    async def ask() -> httpx.Response:
        async with client_of(Reader()) as client:
            return await client.get("/nowhere", headers={"X-Request-ID": given})

    assert asyncio.run(ask()).json()["request_id"] != given
