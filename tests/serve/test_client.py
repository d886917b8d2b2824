"""The client: what it sends, what it sends again, and what it tells when that is of no use."""

import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from vizecg.serve import client as client_module
from vizecg.serve import schemas
from vizecg.serve.api import create_api
from vizecg.serve.client import ApiError, Client
from vizecg.serve.options import PredictOptions
from vizecg.serve.problems import Refused
from vizecg.serve.schemas import BatchItem, ModelCard, ModelInfo, ModelList, ModelSummary, PredictResponse
from vizecg.serve.settings import AppArgs

INFO = ModelInfo(name="default", architecture="vizecgnet", bundle_hash="c0de", backend="torch", canary=False)


def response(request_id: str = "r1", note: str = "") -> PredictResponse:
    return PredictResponse(
        request_id=request_id,
        model=INFO,
        labels=[],
        findings=[],
        calibrated=True,
        page=schemas.PageFacts(turned_deg=0, ecg_score=None, note=note),
        timing_ms=schemas.Timing(decode=1, predict=1, total=2),
    )


# What fails on the way


GOOD = response().model_dump_json().encode()


def problem(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = {"title": "", "status": status, "code": code, "detail": "One sentence.", "request_id": "theirs"}
    return status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


OK = (200, {"Content-Type": "application/json"}, GOOD)
DIED = (500, {"Content-Type": "text/plain"}, b"Internal Server Error")
BUSY = (503, {"Retry-After": "7"}, b"busy")
CUT = "cut"
GONE = "gone"


class Stub:
    """Answers by a script, one entry a request; keeps what came in."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    @property
    def request_ids(self) -> set[str]:
        return {headers["x-request-id"] for _, headers, _ in self.requests}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append((handler.path, headers, body))
        match self.script.pop(0):
            case "gone":
                handler.connection.shutdown(socket.SHUT_RDWR)
            case "cut":
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(GOOD)))
                handler.end_headers()
                handler.wfile.write(GOOD[: len(GOOD) // 2])
                handler.wfile.flush()
                handler.connection.shutdown(socket.SHUT_RDWR)
            case status, sent, content:
                handler.send_response(status)
                for name, value in {**sent, "Content-Length": str(len(content))}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(content)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            stub.answer(self)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield stub
        server.shutdown()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have waited."""
    waits: list[float] = []
    monkeypatch.setattr(client_module, "time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.mark.parametrize(
    "failure",
    [GONE, CUT, DIED, BUSY, problem(429, "too_many_requests"), (502, {}, b""), (504, {}, b"")],
    ids=["gone", "cut", "died", "busy", "too many", "502", "504"],
)
def test_what_may_pass_is_sent_again_under_the_same_id(stub: Stub, waits: list[float], failure: Any):
    stub.script = [failure, failure, failure, OK]
    with Client(stub.url) as client:
        assert client.predict(b"page") == response()
    assert len(stub.requests) == 4
    assert [body for _, _, body in stub.requests] == [b"page"] * 4
    assert len(stub.request_ids) == 1
    assert len(waits) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500])
def test_what_would_be_refused_again_is_not_sent_again(stub: Stub, waits: list[float], status: int):
    stub.script = [problem(status, "some_code")]
    with Client(stub.url) as client, pytest.raises(ApiError) as caught:
        client.predict(b"page")
    error = caught.value
    assert (error.status, error.code, error.detail, error.request_id) == (
        status, "some_code", "One sentence.", "theirs",
    )  # fmt: skip
    assert len(stub.requests) == 1 and not waits
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


@pytest.mark.parametrize("max_retries", [0, 2])
def test_it_gives_up_in_the_end(stub: Stub, waits: list[float], max_retries: int):
    stub.script = [DIED] * 9
    with Client(stub.url, max_retries=max_retries) as client, pytest.raises(ApiError, match="Internal Server Error"):
        client.predict(b"page")
    assert len(stub.requests) == 1 + max_retries == 1 + len(waits)


def test_an_endpoint_that_is_not_there_is_told(waits: list[float]):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client:
            with pytest.raises(ApiError) as caught:
                client.models()
            assert not client.is_ready()
    assert (caught.value.status, caught.value.code) == (None, "unreachable")
    assert url in str(caught.value)
    assert len(waits) == 3


def test_a_server_that_never_answers_is_asked_again(stub: Stub, waits: list[float], monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()
    monkeypatch.setattr(stub, "answer", lambda handler: released.wait(5))
    with Client(stub.url, timeout_s=0.05, max_retries=1) as client, pytest.raises(ApiError, match="cannot be reached"):
        client.predict(b"page")
    released.set()
    assert len(waits) == 1


def test_waits_grow_and_are_drawn(stub: Stub, waits: list[float], monkeypatch: pytest.MonkeyPatch):
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(client_module.random, "uniform", uniform)
    stub.script = [DIED] * 9 + [OK]
    with Client(stub.url, max_retries=9) as client:
        client.predict(b"page")
    assert {low for low, _ in drawn} == {0}
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])


def test_it_waits_as_long_as_it_is_told_but_no_longer_than_it_is_willing(stub: Stub, waits: list[float]):
    stub.script = [BUSY, OK, (429, {"Retry-After": "31"}, b"later")]
    with Client(stub.url, timeout_s=30) as client:
        client.predict(b"page")
        assert 7 <= waits[0] <= 7.2
        with pytest.raises(ApiError, match="later"):
            client.predict(b"page")
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0, 0),
        ("soon", 0, 0),
        ("-3", 0, 0),
    ],
)
def test_retry_after_may_be_a_date_or_nonsense(stub: Stub, waits: list[float], text: str, least: int, most: int):
    assert least <= waited_after(stub, waits, text) <= most + 0.2


def test_retry_after_may_be_a_date_to_come(stub: Stub, waits: list[float]):
    text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1000))
    assert 900 <= waited_after(stub, waits, text) <= 1000.2


def waited_after(stub: Stub, waits: list[float], retry_after: str) -> float:
    stub.script = [(503, {"Retry-After": retry_after}, b""), OK]
    with Client(stub.url, timeout_s=2000) as client:
        client.predict(b"page")
    return waits[0]


def test_an_answer_of_something_else_is_no_result(stub: Stub):
    stub.script = [(200, {"Content-Type": "text/html"}, b"<html>Log in</html>")]
    with Client(stub.url) as client, pytest.raises(ApiError, match="something else than a PredictResponse") as caught:
        client.predict(b"page")
    assert (caught.value.status, caught.value.code) == (200, "not_vizecg")
    assert caught.value.request_id in stub.request_ids


# Against the API itself


class Pages:
    """Answers with what it was asked."""

    is_ready = True

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        if data == b"broken":
            raise Refused(422, "damaged", "The picture is damaged.")
        return response(request_id, note=f"{data!r} {options}")

    async def predict_files(
        self, files: list[tuple[str | None, bytes]], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        for index, (name, data) in enumerate(files):
            result = await self.predict(data, options, request_id)
            yield BatchItem(index=index, file_name=name, page=1, status=200, result=result)

    def models(self) -> ModelList:
        return ModelList(models=[ModelSummary(name="default", architecture=None, loaded=False)])

    async def model_card(self, name: str) -> ModelCard:
        return ModelCard(
            model=INFO,
            labels=[],
            page_width_px=1,
            page_height_px=1,
            calibrated=True,
            metrics={"auroc": None},
            card=name,
        )

    async def metrics(self) -> bytes:
        return b""


def authorize(headers: Any, client: str | None) -> str | None:
    if headers.get("authorization") != "Bearer secret":
        raise Refused(401, "unauthorized", "No API key.")
    return "ward"


@contextmanager
def running(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_api(Pages(), AppArgs(bundle="unused"), authorize)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, api_key="secret") as client:
        yield client


def test_options_arrive_as_they_are_meant(client: Client):
    answer = client.predict(
        b"page", model="other", labels=["AF", "SB"], explain=["top"], page=2, rectify=True, page_image=False
    )
    meant = PredictOptions(model="other", labels=("AF", "SB"), explain=("top",), page=2, rectify=True)
    assert answer.page.note == f"{b'page'!r} {meant}"
    assert client.predict(b"page").page.note == f"{b'page'!r} {PredictOptions()}"


@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_a_file_is_sent_by_its_path(client: Client, tmp_path: Path, kind: Callable[[Path], str | Path]):
    (tmp_path / "page.png").write_bytes(b"\x89PNG")
    assert str(client.predict(kind(tmp_path / "page.png")).page.note).startswith(repr(b"\x89PNG"))
    with pytest.raises(FileNotFoundError):
        client.predict(kind(tmp_path / "other.png"))


def test_a_batch_is_one_request(client: Client, tmp_path: Path):
    (tmp_path / "page.png").write_bytes(b"first")
    answer = client.predict_batch([tmp_path / "page.png", b"second"], labels=["AF"])
    assert [(item.index, item.file_name) for item in answer.items] == [(0, "page.png"), (1, "1")]
    notes = [item.result.page.note for item in answer.items if item.result]
    assert notes == [f"{data!r} {PredictOptions(labels=('AF',))}" for data in (b"first", b"second")]
    assert {item.result.request_id for item in answer.items if item.result} == {answer.request_id}


def test_models_and_their_cards_are_known(client: Client):
    assert [model.name for model in client.models()] == ["default"]
    assert client.model_card("other").card == "other"
    assert client.model_card("default").metrics == {"auroc": None}
    assert client.is_ready()


def test_a_key_is_needed_and_never_shown(url: str):
    with Client(url, api_key="wrong") as client:
        with pytest.raises(ApiError) as caught:
            client.models()
        assert (caught.value.status, caught.value.code) == (401, "unauthorized")
        assert "wrong" not in repr(client) + str(caught.value)


def test_many_are_read_in_order_and_a_bad_one_stops_nothing(client: Client):
    images = [b"0", b"1", b"broken", b"3", b"4", b"5"]
    answers = list(client.predict_many(images, max_concurrent=3, labels=["AF"]))
    assert [source for source, _ in answers] == images
    for source, answer in answers:
        if source == b"broken":
            assert isinstance(answer, ApiError) and answer.code == "damaged"
        else:
            assert isinstance(answer, PredictResponse)
            assert answer.page.note == f"{source!r} {PredictOptions(labels=('AF',))}"
    assert len({answer.request_id for _, answer in answers}) == len(images)


@pytest.mark.parametrize("most", [1, 3])
def test_of_many_few_are_on_their_way(client: Client, monkeypatch: pytest.MonkeyPatch, most: int):
    lock, asked = threading.Lock(), 0
    at_once: list[int] = []

    def predict(image: bytes) -> PredictResponse:
        nonlocal asked
        with lock:
            asked += 1
            at_once.append(asked)
        time.sleep(0.01 * (5 - len(image)))  # The later the faster.
        with lock:
            asked -= 1
        return response(str(len(image)))

    monkeypatch.setattr(client, "predict", predict)
    drawn = 0

    def images() -> Iterator[bytes]:
        nonlocal drawn
        for number in range(12):
            drawn += 1
            yield b"x" * (number % 5)

    taken = 0
    for source, answer in client.predict_many(images(), max_concurrent=most):
        assert answer.request_id == str(len(source)), "the answer of another image"
        taken += 1
        assert drawn - taken < 2 * most
    assert taken == 12
    assert max(at_once) == most


def test_who_stops_early_leaves_nothing_behind(client: Client):
    endless = iter(lambda: b"page", None)
    many = client.predict_many(endless)
    next(many)
    many.close()  # pyrefly: ignore[missing-attribute]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vizecg-client")]


def test_it_needs_no_ray_and_no_torch():
    code = (
        "import sys, vizecg.serve.client; "
        "print([name for name in ('ray', 'torch', 'cv2', 'numpy', 'grpc', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
