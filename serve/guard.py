"""Around every request: an id, security headers, and an answer where the code below fails."""

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .schemas import Problem

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Guard:
    """ASGI middleware. Plain ASGI, because Starlette's BaseHTTPMiddleware hides a client that goes away."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope.setdefault("state", {})["request_id"] = request_id = _request_id(Headers(scope=scope))
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except Exception:
            logging.getLogger("ray.serve").exception("request %s failed", request_id)
            if started:
                raise
            await _server_error(request_id)(scope, receive, send_guarded)


def _request_id(headers: Headers) -> str:
    """The client's id where it is harmless to repeat, or a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _server_error(request_id: str) -> JSONResponse:
    body = Problem(
        title="Internal Server Error",
        status=500,
        code="internal_error",
        detail="The server failed on this request. Its log has the cause under the request id.",
        request_id=request_id,
    )
    return JSONResponse(body.model_dump(), 500, media_type="application/problem+json")
