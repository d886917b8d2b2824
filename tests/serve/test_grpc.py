"""The gRPC side: messages that mirror the schemas, streams in order, and all of it behind Ray Serve."""

import asyncio
import base64
import logging
import re
import socket
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel

from vizecg.serve import schemas
from vizecg.serve.grpc import vizecg_pb2 as pb
from vizecg.serve.grpc.in_order import in_order
from vizecg.serve.grpc.messages import message_of, options_of
from vizecg.serve.grpc.service import GrpcService
from vizecg.serve.grpc.vizecg_pb2_grpc import VizECGStub
from vizecg.serve.guard import Exchange, Watch
from vizecg.serve.options import PredictOptions
from vizecg.serve.problems import Refused
from vizecg.serve.schemas import BatchItem, ModelCard, ModelInfo, ModelList, ModelSummary, PredictResponse
from vizecg.serve.settings import AppArgs

ARGS = AppArgs(bundle="unused", max_body_bytes=8 << 20, max_batch_pages=6, max_batch_size=2, max_ongoing_requests=2)
SERVICER = "vizecg.serve.grpc.vizecg_pb2_grpc.add_VizECGServicer_to_server"
KEY = ("x-api-key", "secret")
INFO = ModelInfo(name="default", architecture="vizecgnet", bundle_hash="c0de", backend="torch", canary=False)
CARD = ModelCard(
    model=INFO, labels=[], page_width_px=2, page_height_px=1, calibrated=True, metrics={"auroc": 0.5}, card="# Card"
)


# Messages


ANSWERS = [schemas.PredictResponse, schemas.BatchItem, schemas.ModelList, schemas.ModelCard, schemas.Health]


@pytest.mark.parametrize("model", ANSWERS, ids=lambda model: model.__name__)
def test_every_field_has_its_twin(model: type[BaseModel]):
    _compare(model, pb.DESCRIPTOR.message_types_by_name[model.__name__])


def _compare(model: type[BaseModel], message: Any) -> None:
    assert list(model.model_fields) == [field.name for field in message.fields], model.__name__
    for name, field in model.model_fields.items():
        twin = message.fields_by_name[name]
        kind, is_list, is_optional = _kind(field.annotation)
        where = f"{model.__name__}.{name}"
        if typing.get_origin(kind) is dict:
            assert twin.message_type.GetOptions().map_entry, where
            continue
        assert twin.is_repeated == is_list, where
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert twin.message_type.name == kind.__name__, where
            _compare(kind, twin.message_type)
        else:
            is_image = name == "image"
            assert twin.type == {bool: 8, int: 5, float: 1, str: 12 if is_image else 9}[kind], where
            assert twin.has_presence == is_optional, where


def _kind(annotation: Any) -> tuple[Any, bool, bool]:
    """The type within, whether there is a list of it, and whether it may be None."""
    if isinstance(annotation, types.UnionType):
        (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
        return inner, False, True
    if typing.get_origin(annotation) is list:
        return typing.get_args(annotation)[0], True, False
    if typing.get_origin(annotation) is typing.Literal:
        return str, False, False
    return annotation, False, False


def test_every_option_has_its_twin():
    assert [field.name for field in fields(PredictOptions)] == list(pb.PredictOptions.DESCRIPTOR.fields_by_name)


def test_the_generated_code_is_that_of_the_file():
    text = (Path(sys.modules[pb.__name__].__file__ or "").parent / "vizecg.proto").read_text()
    written = {
        name: [(field, int(number)) for field, number in re.findall(r"(\w+) = (\d+);", body)]
        for name, body in re.findall(r"^message (\w+) \{(.*?)\}", text, re.MULTILINE | re.DOTALL)
    }
    generated = {
        name: [(field.name, field.number) for field in message.fields]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert written == generated
    methods = pb.DESCRIPTOR.services_by_name["VizECG"].methods_by_name
    assert re.findall(r"rpc (\w+)\(", text) == list(methods)
    assert all(hasattr(GrpcService, name) for name in methods)


def response(request_id: str = "r1", **changed: Any) -> PredictResponse:
    values: dict[str, Any] = {
        "request_id": request_id,
        "model": INFO,
        "labels": [
            schemas.LabelResult(
                key="AF",
                name="Atrial fibrillation",
                probability=1 / 3,
                threshold=0.0,
                positive=True,
                uncertain=False,
                codes=[schemas.Code(system="http://snomed.info/sct", code="164889003")],
            )
        ],
        "findings": [schemas.Finding(key="AF", display="Atrial fibrillation", code=None, probability=1 / 3)],
        "calibrated": False,
        "page": schemas.PageFacts(turned_deg=0, ecg_score=0.0, width_px=None),
        "timing_ms": schemas.Timing(decode=0.1, predict=0, total=3),
    }
    return PredictResponse(**values | changed)


def as_json(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_an_answer_comes_through_whole():
    picture = b"\x89PNG\x00\xff"
    image = base64.b64encode(picture).decode()
    answer = response(
        explanations=[schemas.Explanation(key="AF", image=image)], page_image=schemas.PageImage(image=image)
    )
    message: Any = type(message_of(answer)).FromString(message_of(answer).SerializeToString())
    assert as_json(message) == answer.model_dump(exclude_none=True)
    assert message.explanations[0].image == message.page_image.image == picture
    assert message.labels[0].probability == 1 / 3


def test_none_is_not_set_and_zero_is():
    message: Any = message_of(response())
    assert not message.page.HasField("width_px") and not message.HasField("page_image")
    assert message.page.HasField("ecg_score") and message.page.ecg_score == 0
    assert not message.findings[0].HasField("code")
    card = ModelCard(
        model=INFO,
        labels=[],
        page_width_px=1,
        page_height_px=1,
        calibrated=True,
        metrics={"a": None, "b": 0.0},
        card="",
    )
    sent: Any = message_of(card)
    assert dict(sent.metrics) == {"b": 0.0}


def test_options_are_read_with_their_defaults():
    assert options_of(pb.PredictOptions()) == PredictOptions()
    assert options_of(pb.PredictOptions(labels=["AF", "SB"], page=2, rectify=True)) == PredictOptions(
        labels=("AF", "SB"), page=2, rectify=True
    )
    with pytest.raises(Refused, match="Page 0 does not exist"):
        options_of(pb.PredictOptions(page=0))


# Streams


async def _numbers(count: int, taken: list[int]) -> AsyncIterator[int]:
    for number in range(count):
        taken.append(number)
        yield number


def test_answers_keep_the_order_of_the_requests():
    async def work(index: int, delay_ms: int) -> AsyncIterator[tuple[int, str]]:
        yield index, "at once"
        await asyncio.sleep(delay_ms / 1e3)
        yield index, "later"

    async def requests() -> AsyncIterator[int]:
        for delay_ms in (60, 0, 30, 5):
            yield delay_ms

    async def all_of() -> list[tuple[int, str]]:
        return [answer async for answer in in_order(requests(), work, 4)]

    assert asyncio.run(all_of()) == [(index, when) for index in range(4) for when in ("at once", "later")]


@pytest.mark.parametrize("most", [1, 3])
def test_few_requests_are_in_work_at_once(most: int):
    taken: list[int] = []
    begun = given = 0

    async def work(index: int, _: int) -> AsyncIterator[int]:
        nonlocal begun
        begun += 1
        assert begun - given <= most
        await asyncio.sleep(0)
        yield index

    async def run() -> None:
        nonlocal given
        async for _ in in_order(_numbers(20, taken), work, most):
            await asyncio.sleep(0.002)
            assert begun - given <= most and len(taken) - given <= most + 1
            given += 1

    asyncio.run(run())
    assert given == 20


def test_large_requests_take_the_places_of_many():
    in_work: set[int] = set()
    most: list[int] = []

    async def work(index: int, size: int) -> AsyncIterator[int]:
        in_work.add(index)
        most.append(sum(SIZES[each] for each in in_work))
        await asyncio.sleep(0.002)
        in_work.discard(index)
        yield index

    async def requests() -> AsyncIterator[int]:
        for size in SIZES:
            yield size

    async def run() -> list[int]:
        return [answer async for answer in in_order(requests(), work, 4, lambda size: size)]

    assert asyncio.run(run()) == [*range(len(SIZES))]
    assert max(most) == 4


SIZES = (1, 4, 1, 1, 3, 2, 4, 4, 1, 1, 1, 1)


def test_what_breaks_the_stream_is_raised_after_the_answers_before_it():
    async def requests() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("gone")

    async def work(index: int, number: int) -> AsyncIterator[int]:
        await asyncio.sleep(0.01)
        yield number

    async def run() -> list[int]:
        got: list[int] = []
        with pytest.raises(ConnectionError, match="gone"):
            async for answer in in_order(requests(), work, 4):
                got.append(answer)
        return got

    assert asyncio.run(run()) == [1]


def test_nothing_runs_on_when_the_client_goes_away():
    ended: list[int] = []

    async def work(index: int, _: int) -> AsyncIterator[int]:
        try:
            await asyncio.sleep(0 if index == 0 else 60)
            yield index
        finally:
            ended.append(index)

    async def run() -> int:
        answers = in_order(_numbers(10, []), work, 3)
        await anext(answers)
        await asyncio.sleep(0.01)
        await answers.aclose()
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
    assert sorted(ended) == [0, 1, 2]


# Calls


class FakePages:
    """Does what the bytes say. `|` parts the pages of a file."""

    is_ready = True

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        match data:
            case b"fault":
                raise RuntimeError("secret cause")
            case b"slow":
                await asyncio.sleep(0.3)
            case _ if data.isdigit():
                retry_after_s = 2.5 if data in (b"429", b"503") else None
                raise Refused(int(data), "some_code", "Nein – ab hier nicht.", retry_after_s=retry_after_s)
        page = schemas.PageFacts(number=options.page, turned_deg=0, ecg_score=None, note=f"{len(data)} {options}")
        return response(request_id, page=page)

    async def predict_files(
        self, files: list[tuple[str | None, bytes]], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        ((name, data),) = files
        for number, page in enumerate(data.split(b"|"), 1):
            result = await self.predict(page, options, request_id)
            yield BatchItem(index=0, file_name=name, page=number, status=200, result=result)

    def models(self) -> ModelList:
        return ModelList(models=[ModelSummary(name="default", architecture=None, loaded=False)])

    async def model_card(self, name: str) -> ModelCard:
        if name != "default":
            raise Refused(404, "no_such_model", f"No model is called {name!r}.")
        return CARD

    async def metrics(self) -> bytes:
        return b""


def authorize(headers: Mapping[str, str], client: str | None) -> str | None:
    assert client in ("127.0.0.1", "::1"), client
    if "secret" not in (headers.get("x-api-key"), headers.get("authorization", "").removeprefix("Bearer ")):
        raise Refused(401, "unauthorized", "No API key.")
    return "ward"


class Context:
    """What Serve hands over, without Serve."""

    def __init__(self, *metadata: tuple[str, str], peer: str = "ipv4:127.0.0.1:5000"):
        self._metadata, self._peer = metadata, peer
        self.code: Any = None

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self._metadata)

    def peer(self) -> str:
        return self._peer

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: list[tuple[str, str]]) -> None:
        self.trailing = dict(metadata)


def hearing(told: list[Exchange], traceparents: list[str | None] | None = None) -> Watch:
    """Notes every call once it has ended, and the trace that it belongs to."""

    @contextmanager
    def around(exchange: Exchange, traceparent: str | None) -> Iterator[None]:
        try:
            yield
        finally:
            told.append(exchange)
            if traceparents is not None:
                traceparents.append(traceparent)

    return around


def test_calls_belong_to_the_trace_of_their_client():
    told: list[Exchange] = []
    traceparents: list[str | None] = []
    service = GrpcService(FakePages(), authorize, ARGS, hearing(told, traceparents))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def ask() -> None:
        await service.Predict(pb.PredictRequest(image=b"page"), Context(KEY, ("traceparent", parent)))
        await service.ListModels(pb.ListModelsRequest(), Context(KEY))

    asyncio.run(ask())
    assert traceparents == [parent, None]


def test_of_a_call_it_is_told_who_asked_and_how_it_ended():
    told: list[Exchange] = []
    service = GrpcService(FakePages(), authorize, ARGS, hearing(told))

    async def ask() -> None:
        await service.Predict(pb.PredictRequest(image=b"four"), Context(KEY, ("x-request-id", "r7")))
        await service.Predict(pb.PredictRequest(image=b"422"), Context(KEY))
        await service.Predict(pb.PredictRequest(image=b"page"), Context())

    asyncio.run(ask())
    assert told[0].request_id == "r7"
    assert [(one.route, one.protocol) for one in told] == [("/vizecg.v1.VizECG/Predict", "grpc")] * 3
    assert [(one.key, one.status, one.code, one.pages, one.bytes_in) for one in told] == [
        ("ward", 200, "", 1, 4),
        ("ward", 422, "some_code", 0, 3),
        (None, 401, "unauthorized", 0, 0),
    ]
    assert (told[0].model, told[0].bundle_hash) == ("default", "c0de")


def test_a_full_replica_refuses_and_a_client_that_leaves_gives_its_place_back():
    told: list[Exchange] = []
    service = GrpcService(FakePages(), authorize, ARGS, hearing(told))

    async def ask() -> list[Context]:
        slow = [asyncio.create_task(service.Predict(pb.PredictRequest(image=b"slow"), Context(KEY))) for _ in "ab"]
        await asyncio.sleep(0.05)
        contexts = [Context(KEY), Context(KEY)]
        await service.Predict(pb.PredictRequest(image=b"page"), contexts[0])
        slow[0].cancel()
        await asyncio.sleep(0.05)
        await service.Predict(pb.PredictRequest(image=b"page"), contexts[1])
        await slow[1]
        return contexts

    full, free = asyncio.run(ask())
    assert full.code is grpc.StatusCode.UNAVAILABLE and full.trailing["vizecg-code"] == "busy"
    assert free.code is None
    assert sorted(one.status for one in told) == [200, 200, 499, 503]


def test_a_stream_that_sends_nothing_gives_its_place_back():
    told: list[Exchange] = []
    service = GrpcService(FakePages(), authorize, ARGS.model_copy(update={"max_upload_s": 0.05}), hearing(told))

    async def silent() -> AsyncIterator[Any]:
        yield pb.PredictRequest(image=b"page")
        await asyncio.Event().wait()

    async def ask() -> list[Any]:
        return [item async for item in service.PredictBatch(silent(), Context(KEY))]

    items = asyncio.run(asyncio.wait_for(ask(), 5))
    assert [item.status for item in items] == [200, 400] and items[1].problem.code == "incomplete_body"
    assert [(one.status, one.code) for one in told] == [(400, "incomplete_body")]


@pytest.mark.parametrize(("max_upload_s", "pause_s"), [(0.2, 0), (0.5, 0.3)], ids=["while it waits", "afterwards"])
def test_a_client_that_waits_for_its_answer_is_given_the_time_it_takes(max_upload_s: float, pause_s: float):
    service = GrpcService(FakePages(), authorize, ARGS.model_copy(update={"max_upload_s": max_upload_s}))
    answered = asyncio.Event()

    async def one_by_one() -> AsyncIterator[Any]:
        yield pb.PredictRequest(image=b"slow")
        await answered.wait()
        await asyncio.sleep(pause_s)
        yield pb.PredictRequest(image=b"page")

    async def ask() -> list[int]:
        got = []
        async for item in service.PredictBatch(one_by_one(), Context(KEY)):
            got.append(item.status)
            answered.set()
        return got

    assert asyncio.run(asyncio.wait_for(ask(), 5)) == [200, 200]


@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:1", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1", "ipv6:[::ffff:127.0.0.1]:1"])
def test_the_address_of_the_client_is_known(peer: str):
    context = Context(KEY, peer=peer)
    asyncio.run(GrpcService(FakePages(), authorize, ARGS).GetModel(pb.GetModelRequest(name="default"), context))
    assert context.code is None


# Behind Ray Serve


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(ray_cluster: None) -> Iterator[str]:
    from ray import cloudpickle, serve

    # Workers cannot import a test.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    @serve.deployment(max_ongoing_requests=20)
    class Reader(GrpcService):
        def __init__(self) -> None:
            super().__init__(FakePages(), authorize, ARGS.model_copy(update={"max_ongoing_requests": 16}))

    port, http_port = _free_port(), _free_port()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options={"port": port, "grpc_servicer_functions": [SERVICER], "request_timeout_s": 30},
        logging_config={"log_level": "ERROR"},
    )
    try:
        serve.run(Reader.bind(), name="grpc", route_prefix="/")
        yield f"127.0.0.1:{port}"
    finally:
        serve.shutdown()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return VizECGStub(channel)


def test_a_page_is_read(stub: Any):
    request = pb.PredictRequest(image=b"page", options=pb.PredictOptions(model="other", labels=["AF"], page=3))
    answer, call = stub.Predict.with_call(request, metadata=[KEY, ("x-request-id", "ward-7:1")])
    assert answer.request_id == dict(call.trailing_metadata())["x-request-id"] == "ward-7:1"
    assert answer.page.note == f"4 {PredictOptions(model='other', labels=('AF',), page=3)}"
    assert as_json(answer)["labels"] == response().model_dump()["labels"]


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<script>"])
def test_an_id_that_could_do_harm_is_not_repeated(stub: Any, given: str):
    answer = stub.Predict(pb.PredictRequest(image=b"page"), metadata=[KEY, ("x-request-id", given)])
    assert re.fullmatch("[0-9a-f]{32}", answer.request_id)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (415, "INVALID_ARGUMENT"),
        (422, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
def test_a_refusal_has_a_status_a_sentence_and_a_code(stub: Any, status: int, code: str):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(pb.PredictRequest(image=str(status).encode()), metadata=[KEY, ("x-request-id", "r1")])
    error: Any = caught.value
    assert (error.code().name, error.details()) == (code, "Nein – ab hier nicht.")
    trailing = dict(error.trailing_metadata())
    assert (trailing["vizecg-code"], trailing["x-request-id"]) == ("some_code", "r1")
    assert trailing.get("grpc-retry-pushback-ms") == ("2500" if status in (429, 503) else None)


def test_a_fault_is_not_shown(stub: Any):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(pb.PredictRequest(image=b"fault"), metadata=[KEY])
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    assert dict(error.trailing_metadata())["vizecg-code"] == "internal_error"
    assert "secret" not in error.details()


def test_large_files_are_read_up_to_the_limit(stub: Any):
    # Over gRPC's own default of 4 MiB.
    answer = stub.Predict(pb.PredictRequest(image=bytes(6 << 20)), metadata=[KEY])
    assert answer.page.note.startswith(f"{6 << 20} ")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(pb.PredictRequest(image=bytes((8 << 20) + 1)), metadata=[KEY])
    assert dict(caught.value.trailing_metadata())["vizecg-code"] == "too_large"  # pyrefly: ignore[missing-attribute]


@pytest.mark.parametrize("metadata", [[("authorization", "Bearer secret")], [("x-api-key", "secret")]])
def test_a_key_opens(stub: Any, metadata: list[tuple[str, str]]):
    assert stub.ListModels(pb.ListModelsRequest(), metadata=metadata).models[0].name == "default"


def test_without_a_key_only_health_is_told(stub: Any):
    assert stub.GetHealth(pb.GetHealthRequest()).status == "ok"
    calls = [
        lambda: stub.Predict(pb.PredictRequest(image=b"page")),
        lambda: list(stub.PredictBatch(iter([pb.PredictRequest(image=b"page")]))),
        lambda: stub.ListModels(pb.ListModelsRequest()),
        lambda: stub.GetModel(pb.GetModelRequest(name="default")),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(error.trailing_metadata())["vizecg-code"] == "unauthorized"


def test_a_card_is_given(stub: Any):
    card = stub.GetModel(pb.GetModelRequest(name="default"), metadata=[KEY])
    assert (card.model.bundle_hash, dict(card.metrics), card.card) == ("c0de", {"auroc": 0.5}, "# Card")
    with pytest.raises(grpc.RpcError, match="No model is called 'other'"):
        stub.GetModel(pb.GetModelRequest(name="other"), metadata=[KEY])


def test_a_batch_is_answered_in_order_and_a_bad_file_stops_nothing(stub: Any):
    images = [b"slow", b"415", b"a|b", b"fault", bytes((8 << 20) + 1)]
    requests = [pb.PredictRequest(image=image, file_name=f"{i}.png") for i, image in enumerate(images)]
    requests[0].ClearField("file_name")
    items = list(stub.PredictBatch(iter(requests), metadata=[KEY, ("x-request-id", "r1")]))
    assert [(item.index, item.page, item.status) for item in items] == [
        (0, 1, 200), (1, 1, 415), (2, 1, 200), (2, 2, 200), (3, 1, 500), (4, 1, 413),
    ]  # fmt: skip
    assert [item.HasField("result") for item in items] == [item.status == 200 for item in items]
    assert [item.problem.code for item in items] == ["", "some_code", "", "", "internal_error", "too_large"]
    assert [item.file_name for item in items] == ["", "1.png", "2.png", "2.png", "3.png", "4.png"]
    assert not items[0].HasField("file_name")
    assert {item.result.request_id or item.problem.request_id for item in items} == {"r1"}


def test_a_page_is_answered_before_the_next_is_sent(stub: Any):
    answered = threading.Event()

    def requests() -> Iterator[Any]:
        yield pb.PredictRequest(image=b"page")
        assert answered.wait(timeout=10)
        yield pb.PredictRequest(image=b"page", options=pb.PredictOptions(page_image=True))

    items = stub.PredictBatch(requests(), metadata=[KEY], timeout=15)
    assert next(items).index == 0
    answered.set()
    second = next(items)
    assert second.index == 1 and "page_image=True" in second.result.page.note
    assert list(items) == []
    assert items.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("images", "num_read", "code"), [([b"page"] * 9, 6, "too_many_pages"), ([], 0, "missing_image")]
)
def test_a_stream_may_be_refused(stub: Any, images: list[bytes], num_read: int, code: str):
    items = stub.PredictBatch((pb.PredictRequest(image=image) for image in images), metadata=[KEY])
    got: list[Any] = []
    with pytest.raises(grpc.RpcError):
        for item in items:
            got.append(item)
    assert items.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(items.trailing_metadata())["vizecg-code"] == code
    assert [item.status for item in got[:num_read]] == [200] * num_read
    # With HAProxy the refusal is an item, too.
    assert [item.problem.code for item in got[num_read:]] in ([], [code])


def test_the_service_describes_itself(channel: grpc.Channel):
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(channel)
    assert "vizecg.v1.VizECG" in database.get_services()
    service = DescriptorPool(database).FindServiceByName("vizecg.v1.VizECG")
    assert [method.name for method in service.methods] == [
        "Predict", "PredictBatch", "ListModels", "GetModel", "GetHealth",
    ]  # fmt: skip
