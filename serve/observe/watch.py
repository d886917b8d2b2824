"""A request from its head to its answer: counted, traced, and told of in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..guard import Exchange
from .logs import log_request
from .metrics import ReplicaMetrics
from .traces import Tracer

_NO_ROUTE = "none"


class RequestWatch:
    """Around requests of every protocol."""

    def __init__(self, metrics: ReplicaMetrics, tracer: Tracer):
        self._metrics, self._tracer = metrics, tracer

    @contextmanager
    def around(self, exchange: Exchange, traceparent: str | None) -> Iterator[None]:
        """For `with`; `traceparent` is the client's, where it traces."""
        told = {"method": exchange.method, "request_id": exchange.request_id}
        with self._metrics.in_work(), self._tracer.request(exchange.method, traceparent, **told) as span:
            exchange.trace_id = span.trace_id
            try:
                yield
            finally:
                route = exchange.route or _NO_ROUTE
                span.rename(f"{exchange.method} {route}")
                span.set(route=route, status=exchange.status, **({"code": exchange.code} if exchange.code else {}))
                self.done(exchange)

    def done(self, exchange: Exchange) -> None:
        """It was answered."""
        seconds, route = exchange.seconds, exchange.route or _NO_ROUTE
        self._metrics.request_done(
            protocol=exchange.protocol, route=route, status=exchange.status, seconds=seconds, code=exchange.code,
            model=exchange.model, key=exchange.key or "",
        )  # fmt: skip
        log_request(
            request_id=exchange.request_id, protocol=exchange.protocol, method=exchange.method, endpoint=route,
            status=exchange.status, duration_ms=1e3 * seconds, code=exchange.code, key=exchange.key or "",
            bytes_in=exchange.bytes_in, pages=exchange.pages, model=exchange.model,
            bundle_hash=exchange.bundle_hash, trace_id=exchange.trace_id,
        )  # fmt: skip
