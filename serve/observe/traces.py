"""OpenTelemetry spans of what happens to a request, where the standard variables OTEL_... ask for them.

Ours and not those of Ray Serve 2.60 (`tracing_config`, ray/serve/_private/tracing_utils.py): Serve's end at the door of
the replica ("replica_handle_request"), hold no stage and no problem code, ask for a function of one's own as exporter,
know nothing of OTEL_..., and are written to files by default. The two get along: where Serve traces too, ours become
children of its span of the same trace. The provider is ours alone, so that neither takes the other's place.

Sampling and all else is the SDK's: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS and their like.
"""

import logging
import os
from contextvars import Token
from typing import TYPE_CHECKING, Self

from ..problems import Refused

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

Value = str | int | float | bool

ATTRIBUTES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "code": "error.type",
    "request_id": "vizecg.request_id",
    "key": "vizecg.key",
    "model": "vizecg.model",
    "bundle_hash": "vizecg.bundle_hash",
    "backend": "vizecg.backend",
    "page": "vizecg.page",
    "pages": "vizecg.pages",
    "batch_pages": "vizecg.batch_pages",
    "bytes_in": "vizecg.bytes_in",
    "labels": "vizecg.labels",
}
"""What a span may hold, and its name there. A closed list, so that nothing of a patient gets in by accident."""

_OTLP_PROTOCOL = "http/protobuf"


class Span:
    """Of a tracer that is off: does nothing, and one stands for all."""

    traceparent: str | None = None
    """To send on, as W3C Trace Context has it; None where nothing is traced."""
    trace_id: str = ""
    """32 hexadecimal digits; empty where nothing is traced."""

    def set(self, **attributes: Value) -> None:
        """Add attributes (ATTRIBUTES) that were not known at the beginning."""

    def rename(self, name: str) -> None:
        """Once the route of a request is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None: ...


_NO_SPAN = Span()


class Tracer:
    """Makes spans, and sends them on in the background."""

    def __init__(self, provider: "TracerProvider | None" = None):
        """Off without a provider."""
        self._provider = provider
        self._tracer = provider.get_tracer("vizecg.serve") if provider else None

    @staticmethod
    def from_environment(**resource: str) -> "Tracer":
        """As OTEL_TRACES_EXPORTER (otlp, console or none) and OTEL_EXPORTER_OTLP_ENDPOINT say; without them, off.

        What is asked for and cannot be done is one warning: an endpoint without traces is better than none.

        Args:
            resource: what all spans have in common, such as `replica`.
        """
        names = _exporter_names()
        if not names:
            return Tracer()
        try:
            return Tracer(_provider([_exporter(name) for name in names], resource))
        except (ImportError, ValueError) as error:
            logging.getLogger("ray.serve").warning("Requests are not traced: %s.", error)
            return Tracer()

    def span(self, name: str, parent: str | None = None, **attributes: Value) -> Span:
        """A span of work within a request, for `with`; below 1 us where tracing is off.

        Args:
            name: of a kind of work, such as `decode`; never of one request.
            parent: the `traceparent` of a span of another thread or process; without it, the current span.
            attributes: by the names in ATTRIBUTES.
        """
        if self._tracer is None:
            return _NO_SPAN
        return _RecordedSpan(self._tracer, name, parent, attributes)

    def request(self, name: str, parent: str | None, **attributes: Value) -> Span:
        """The span of a whole request, named by method and route; `parent` is its header `traceparent`."""
        if self._tracer is None:
            return _NO_SPAN
        return _RecordedSpan(self._tracer, name, parent, attributes, is_request=True)

    def close(self) -> None:
        """Send what is left; waits a few seconds at most."""
        if self._provider is not None:
            self._provider.shutdown()


class _RecordedSpan(Span):
    def __init__(
        self,
        tracer: "trace.Tracer",
        name: str,
        parent: str | None,
        attributes: dict[str, Value],
        *,
        is_request: bool = False,
    ):
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if is_request else SpanKind.INTERNAL
        self._span = tracer.start_span(name, _context(parent), kind, _named(attributes))
        self._token: Token[Context] | None = None
        context = self._span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def __enter__(self) -> Self:
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        self._token = attach(set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from opentelemetry.context import detach
        from opentelemetry.trace import StatusCode

        assert self._token is not None
        detach(self._token)
        if error is not None:
            # By its code or kind: the text of an exception may hold anything.
            self.set(code=error.code if isinstance(error, Refused) else type(error).__name__)
            # What a client did wrong is no error of this side.
            if not isinstance(error, Refused) or error.status >= 500:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {ATTRIBUTES[name]: value for name, value in attributes.items()}


def _context(parent: str | None) -> "Context | None":
    """Where a span belongs; None for the current one."""
    if parent is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())
    span, current = get_current_span(given).get_span_context(), get_current_span().get_span_context()
    # A current span of that trace is Serve's for this request, and nearer. A header that makes no sense is none.
    return given if span.is_valid and span.trace_id != current.trace_id else None


def _exporter_names() -> list[str]:
    """From the environment; empty where nobody asks for traces."""
    # The SDK reads the variables itself wherever it can; these two decide whether it is started at all.
    asked = os.environ.get("OTEL_TRACES_EXPORTER", "")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not asked and any(os.environ.get(name) for name in endpoints):
        asked = "otlp"
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return [] if is_off else [name for name in map(str.strip, asked.split(",")) if name not in ("", "none")]


def _exporter(name: str) -> "SpanExporter":
    """Raises ImportError where its package is missing, ValueError for one that is not known; each says what to do."""
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER is {name!r}; set it to otlp, console or none")
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", _OTLP_PROTOCOL)
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)
    if protocol != _OTLP_PROTOCOL:
        raise ValueError(f"the protocol of OTLP is set to {protocol!r}; only {_OTLP_PROTOCOL} is spoken")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        text = "opentelemetry-exporter-otlp-proto-http is not installed; `pip install 'vizecg[trace]'` brings it"
        raise ImportError(text) from None
    return OTLPSpanExporter()


def _provider(exporters: "list[SpanExporter]", resource: dict[str, str]) -> "TracerProvider":
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    facts = {"service.name": "vizecg", **{f"vizecg.{name}": value for name, value in resource.items()}}
    provider = TracerProvider(resource=Resource.create({**facts, **OTELResourceDetector().detect().attributes}))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
