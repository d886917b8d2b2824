"""The HTTP side of a replica: routes, error bodies and their description. Knows nothing of Ray.

POST /v1/predict    one page, as the raw body or as the multipart field `image`
GET  /healthz       whether the replica is ready
GET  /openapi.json  all of this for programs
GET  /              a page for people
"""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from .. import __version__
from ..platform.errors import PageError
from .guard import Guard
from .schemas import NOTICE, AppArgs, Health, LabelResult, ModelInfo, PageFacts, PredictResponse, Problem, Timing

PAGE_FOLDER = Path(__file__).parent / "page"
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}

STATUS_OF_REASON = {"empty": 400, "too_large": 413, "too_many_pixels": 413, "not_an_image": 415, "unsupported": 415}
"""Status by PageError's reason; the others are pictures that were understood and cannot be used: 422."""

PROBLEMS = {
    400: "No body, no multipart field `image`, or a broken multipart body.",
    413: "Too many bytes or pixels.",
    415: "The bytes are not a picture of a kind that is read.",
    422: "A picture that is damaged, whose size no printed ECG has, or that shows no ECG.",
    500: "A fault of the server.",
    503: "Busy: try again after the seconds in Retry-After.",
}


class PageReader(Protocol):
    """What answers behind the routes (app.py)."""

    @property
    def model(self) -> ModelInfo: ...

    async def read(self, data: bytes) -> tuple[list[LabelResult], PageFacts, Timing]:
        """Labels of one encoded image; PageError where it is none of an ECG."""
        ...


class Refused(Exception):
    """A request that is answered with a Problem."""

    def __init__(self, status: int, code: str, detail: str):
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def create_api(reader: PageReader, args: AppArgs) -> FastAPI:
    """The routes over `reader`."""
    api = FastAPI(title="VizECG", version=__version__, docs_url=None, redoc_url=None)
    api.add_middleware(Guard)
    _handle_errors(api)
    _add_page(api)
    _add_routes(api, reader, args)
    api.openapi = lambda: _openapi(api)  # pyrefly: ignore[method-assign]
    return api


def _add_routes(api: FastAPI, reader: PageReader, args: AppArgs) -> None:
    places = asyncio.Semaphore(args.max_ongoing_requests)

    @api.post("/v1/predict", openapi_extra={"requestBody": _request_body()}, responses=_problem_responses(PROBLEMS))
    async def predict(request: Request) -> PredictResponse:
        """Read one picture of a printed 12-lead ECG: PNG, JPEG, BMP, TIFF, WebP, GIF or PDF, known by its content."""
        if places.locked():
            raise Refused(503, "busy", f"{args.max_ongoing_requests} requests are in work here; try again in a second.")
        async with places:
            data = await _read_image(request, args.max_body_bytes)
            labels, page, timing = await reader.read(data)
        return PredictResponse(
            labels=labels, page=page, model=reader.model, timing_ms=timing, request_id=request.state.request_id
        )

    @api.get("/healthz")
    async def healthz() -> Health:
        """Ready: the model is loaded and has predicted once."""
        return Health(model=reader.model)


def _add_page(api: FastAPI) -> None:
    def add(path: str, content: bytes, media_type: str) -> None:
        async def send(_: Request) -> Response:
            return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

        api.add_route(path, send)

    for path, (name, media_type) in PAGE_FILES.items():
        add(path, (PAGE_FOLDER / name).read_bytes(), media_type)


async def _read_image(request: Request, max_bytes: int) -> bytes:
    """The bytes of the picture, wherever the request has them; refuses as soon as the limit is passed."""
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise _too_large(max_bytes)
    body = _bounded(request, max_bytes)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _multipart_image(request, body, max_bytes)
    return b"".join([chunk async for chunk in body])


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise _too_large(max_bytes)
            yield chunk
    except ClientDisconnect:
        raise Refused(400, "incomplete_body", "The connection closed before the whole body had arrived.") from None


async def _multipart_image(request: Request, body: AsyncGenerator[bytes, None], max_bytes: int) -> bytes:
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=16)
    parser.spool_max_size = max_bytes + 1  # Pictures of patients are never written to a disk.
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, "bad_multipart", f"The multipart body cannot be read: {error.message}") from None
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise Refused(400, "missing_image", "The multipart body has no file field `image`.")
    return await image.read()


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, "too_large", f"The body is too large; at most {max_bytes:,} bytes are read.")


def _handle_errors(api: FastAPI) -> None:
    async def page_error(request: Request, error: Any) -> Response:
        sentence = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return problem(request, STATUS_OF_REASON.get(error.reason, 422), error.reason, sentence)

    async def refused(request: Request, error: Any) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return problem(request, error.status, error.code, error.detail, headers)

    async def http_error(request: Request, error: Any) -> Response:
        code = HTTPStatus(error.status_code).name.lower()
        detail = f"{request.method} {request.url.path}: {error.detail}."
        return problem(request, error.status_code, code, detail, error.headers)

    api.add_exception_handler(PageError, page_error)
    api.add_exception_handler(Refused, refused)
    api.add_exception_handler(HTTPException, http_error)


def problem(request: Request, status: int, code: str, detail: str, headers: Any = None) -> Response:
    """An RFC 9457 answer."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request.state.request_id,
    )
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def _request_body() -> dict[str, Any]:
    picture = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["image"], "properties": {"image": picture}}
    raw = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
    content = {media_type: {"schema": picture} for media_type in raw} | {"multipart/form-data": {"schema": form}}
    return {"required": True, "description": "The picture as the whole body, or as one file field.", "content": content}


def _problem_responses(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in descriptions.items()}


def _openapi(api: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=api.title, version=api.version, summary=NOTICE, routes=api.routes)
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    return document
