"""Around every request: an id, the API key, security headers, a line in the log, and an answer where code fails."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Refused, problem_of, told_of

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

Authorize = Callable[[Mapping[str, str], str | None], str | None]
"""Headers and the client's address -> the name of the key, None where none is needed; raises Refused."""


@dataclass
class Exchange:
    """What is told of a request once it is answered: never its content."""

    request_id: str
    protocol: Literal["http", "grpc"]
    method: str
    route: str = ""
    """The template, not the path as sent: that may be anything."""
    key: str | None = None
    status: int = 500
    code: str = ""
    model: str = ""
    bundle_hash: str = ""
    pages: int = 0
    bytes_in: int = 0
    trace_id: str = ""
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


Watch = Callable[[Exchange, str | None], AbstractContextManager[object]]
"""Put around every request; also told of the client's `traceparent`."""


def unwatched(exchange: Exchange, traceparent: str | None) -> AbstractContextManager[object]:
    """Watches nothing."""
    return nullcontext()


class Guard:
    """ASGI middleware. Plain ASGI, because Starlette's BaseHTTPMiddleware hides a client that goes away."""

    def __init__(self, app: ASGIApp, authorize: Authorize, is_open: frozenset[str], watch: Watch):
        self._app, self._authorize, self._is_open, self._watch = app, authorize, is_open, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        exchange = Exchange(request_id_of(headers.get("x-request-id")), "http", scope["method"])
        scope.setdefault("state", {}).update(request_id=exchange.request_id, exchange=exchange)
        with self._watch(exchange, headers.get("traceparent")):
            await self._answer(exchange, headers, scope, receive, send)

    async def _answer(self, exchange: Exchange, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started, exchange.status = True, message["status"]
                answer = MutableHeaders(scope=message)
                answer.update(SECURITY_HEADERS)
                answer.setdefault("Cache-Control", "no-store")
            await send(message)

        async def receive_counted() -> Message:
            message = await receive()
            exchange.bytes_in += len(message.get("body", b""))
            return message

        try:
            # As routes see it: Serve leaves the application's own prefix in the path.
            if get_route_path(scope) not in self._is_open:
                client = scope.get("client")
                exchange.key = self._authorize(headers, client[0] if client else None)
            await self._app(scope, receive_counted, send_guarded)
        except Refused as refused:
            exchange.code = refused.code
            await problem_response(refused, exchange.request_id)(scope, receive, send_guarded)
        except asyncio.CancelledError:
            if not started:  # The client has gone, or Serve's time was up.
                exchange.status, exchange.code = 499, "cancelled"
            raise
        except Exception as error:
            refused = told_of(error, exchange.request_id)
            exchange.code = refused.code
            if started:
                raise
            await problem_response(refused, exchange.request_id)(scope, receive, send_guarded)
        finally:
            exchange.route = exchange.route or getattr(scope.get("route"), "path", "")


def get_route_path(scope: Scope) -> str:
    """The path below the root at which the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def request_id_of(given: str | None) -> str:
    """The client's id where it is harmless to repeat, or a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def problem_response(refused: Refused, request_id: str, extra_headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An RFC 9457 answer."""
    headers = dict(extra_headers or {})
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refused.retry_after_s)))
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem_of(refused, request_id).model_dump()
    return JSONResponse(body, refused.status, headers, media_type="application/problem+json")
