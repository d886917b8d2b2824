"""Spans arrive where traces are asked for, follow W3C Trace Context, and cost nothing where they are off."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from vizecg.serve.observe.traces import Tracer
from vizecg.serve.problems import Refused

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Recorder:
    """A tracer whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = Tracer(provider)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Of trace, span and parent."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{parent.span_id:016x}" if parent else None


def test_a_request_continues_the_trace_of_its_header_and_holds_its_stages():
    recorder = Recorder()
    with recorder.tracer.request("POST", PARENT, method="POST", request_id="req-1") as request:
        with recorder.tracer.span("decode", page=2):
            pass
        request.set(route="/v1/predict", status=200)
        request.rename("POST /v1/predict")
    spans = recorder.spans()
    trace, span, parent = ids(spans["POST /v1/predict"])
    assert (trace, parent) == (TRACE_ID, "b7ad6b7169203331")
    assert ids(spans["decode"])[::2] == (TRACE_ID, span)
    assert request.traceparent == f"00-{TRACE_ID}-{span}-01" and request.trace_id == TRACE_ID
    assert spans["POST /v1/predict"].kind is SpanKind.SERVER and spans["decode"].kind is SpanKind.INTERNAL
    assert spans["POST /v1/predict"].attributes == {
        "http.request.method": "POST", "vizecg.request_id": "req-1", "http.route": "/v1/predict",
        "http.response.status_code": 200,
    }  # fmt: skip


def test_requests_of_one_loop_do_not_mix_and_threads_take_the_parent():
    recorder = Recorder()

    async def request(number: int) -> None:
        with recorder.tracer.request(f"request {number}", None) as span:
            await asyncio.sleep(0.001 * (number % 3))

            def work() -> None:
                with recorder.tracer.span(f"decode {number}", span.traceparent):
                    pass

            await asyncio.get_running_loop().run_in_executor(None, work)

    async def all_of_them() -> None:
        await asyncio.gather(*map(request, range(8)))

    asyncio.run(all_of_them())
    spans = recorder.spans()
    for number in range(8):
        trace, span, parent = ids(spans[f"request {number}"])
        assert parent is None and ids(spans[f"decode {number}"])[::2] == (trace, span)
    assert len({ids(span)[0] for span in spans.values()}) == 8


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", "00-Jane-Doe-01", PARENT + "x"]
)
def test_a_header_that_makes_no_sense_begins_a_trace(header: str):
    recorder = Recorder()
    with recorder.tracer.request("r", header):
        pass
    assert ids(recorder.spans()["r"])[2] is None


def test_the_span_of_serve_is_the_parent_where_it_is_of_that_trace():
    """Serve reads the same header, and its span is current when a replica is called."""
    serve, ours = Recorder(), Recorder()
    with serve.tracer.request("replica_handle_request", PARENT) as outer, ours.tracer.request("r", PARENT):
        pass
    assert outer.traceparent is not None
    assert ids(ours.spans()["r"])[2] == outer.traceparent.split("-")[2]
    with serve.tracer.request("another", None), ours.tracer.request("s", PARENT):
        pass
    assert ids(ours.spans()["s"])[::2] == (TRACE_ID, "b7ad6b7169203331")


def test_what_went_wrong_is_said_without_its_text():
    recorder = Recorder()
    refused, busy = Refused(415, "not_an_image", "Jane.docx is no picture."), Refused(503, "busy", "Busy.")
    for name, error in (("refused", refused), ("busy", busy), ("failed", ValueError("Jane"))):
        with pytest.raises(type(error)), recorder.tracer.request(name, None):
            raise error
    spans = recorder.spans()
    assert "Jane" not in "".join(span.to_json() for span in spans.values())
    assert [(spans[name].attributes or {})["error.type"] for name in spans] == ["not_an_image", "busy", "ValueError"]
    is_error = [spans[name].status.status_code is StatusCode.ERROR for name in spans]
    assert is_error == [False, True, True]


def test_an_attribute_that_is_not_on_the_list_is_a_mistake():
    with pytest.raises(KeyError, match="patient"):
        Recorder().tracer.span("r", patient="Jane")


class Receiver(HTTPServer):
    """Of OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str | None, ExportTraceServiceRequest]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        message = ExportTraceServiceRequest.FromString(body)
        self.server.received.append((self.path, self.headers["Authorization"], message))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def test_spans_arrive_at_the_receiver(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    tracer = Tracer.from_environment(replica="r1")
    with tracer.request("POST /v1/predict", PARENT, model="default"), tracer.span("decode"):
        pass
    tracer.close()
    ((path, authorization, message),) = receiver.received
    assert (path, authorization) == ("/v1/traces", "Bearer secret")
    (of_resource,) = message.resource_spans
    resource = {fact.key: fact.value.string_value for fact in of_resource.resource.attributes}
    assert resource["service.name"] == "vizecg" and resource["vizecg.replica"] == "r1"
    spans = of_resource.scope_spans[0].spans
    assert [span.name for span in spans] == ["decode", "POST /v1/predict"]
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID} and spans[0].parent_span_id == spans[1].span_id


def test_a_receiver_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracer, started = Tracer.from_environment(), time.monotonic()
    for _ in range(100):
        with tracer.span("decode"):
            pass
    assert time.monotonic() - started < 1
    tracer.close()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_off_is_off_and_free(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracer, took = Tracer.from_environment(), []
    for _ in range(50):
        started = time.perf_counter()
        for _ in range(100):
            with tracer.span("decode", None, model="default", page=1):
                pass
        took.append((time.perf_counter() - started) / 100)
    assert min(took) < 1e-6
    with tracer.request("r", PARENT) as span:
        span.set(status=200)
        span.rename("POST /v1/predict")
        assert span.traceparent is None and span.trace_id == ""
    tracer.close()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; set it to otlp, console or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'grpc'; only http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}, "pip install 'vizecg[trace]'"),
    ],
)
def test_what_cannot_be_done_is_one_warning(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    # Heard here alone, whatever Ray has made of its loggers.
    logger = logging.getLogger("ray.serve")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "filters", [])
    caplog.set_level(logging.WARNING, "ray.serve")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Tracer.from_environment().span("decode") as span:
        assert span.traceparent is None
    (record,) = caplog.records
    assert record.levelname == "WARNING" and words in record.getMessage()
