"""The HTTP side of a replica: routes over a PageService. Knows nothing of Ray.

POST /v1/predict          one page, as the raw body or as the multipart field `image`
POST /v1/predict:batch    many, as multipart fields `images`, or all pages of a PDF
GET  /v1/models           what requests may name; /v1/models/{name}: its card
GET  /healthz /readyz     alive; ready to answer
GET  /metrics             of all replicas, for Prometheus
GET  /openapi.json        all of this for programs
GET  /                    a page for people
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from http import HTTPStatus
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from .. import __version__
from .guard import Authorize, Exchange, Guard, Watch, problem_response, unwatched
from .intake import read_image, read_images
from .openapi import batch_body, describe, image_body, problem_responses
from .options import PredictOptions
from .places import Places
from .problems import Refused
from .reports import Report, report_of, wanted_report
from .schemas import BatchResponse, Health, ModelCard, ModelList, PredictResponse
from .service import PageService
from .settings import DEFAULT_MODEL, AppArgs

Body = TypeVar("Body")

PAGE_FOLDER = Path(__file__).parent / "page"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

MAX_FILES = 64
_OPEN = ("/healthz", "/readyz", "/openapi.json")
"""What needs no key, beside the web page."""


def create_api(
    service: PageService, args: AppArgs, authorize: Authorize, watch: Watch = unwatched, places: Places | None = None
) -> FastAPI:
    """The routes over `service`; `watch` is put around every request, `places` may be shared with other protocols."""
    api = FastAPI(title="VizECG", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    is_open = frozenset({*_OPEN, *_page_files()})
    api.add_middleware(Guard, authorize=authorize, is_open=is_open, watch=watch)
    _handle_errors(api)
    _add_page(api)
    places = places or Places(args.max_ongoing_requests)
    _add_predict(api, service, args, places)
    _add_batch(api, service, args, places)
    _add_models(api, service)
    _add_health(api, service)
    api.openapi = lambda: describe(api)  # pyrefly: ignore[method-assign]
    return api


def _page_files() -> dict[str, Path]:
    """By the path under which they are served."""
    files = [file for file in sorted(PAGE_FOLDER.iterdir()) if file.suffix in _MEDIA_TYPES]
    return {"/" if file.name == "index.html" else f"/{file.name}": file for file in files}


async def _options(
    model: Annotated[str, Query(description="Name of a served model.", max_length=64)] = DEFAULT_MODEL,
    labels: Annotated[str, Query(description="Keys of the labels to answer, with commas; all without it.")] = "",
    explain: Annotated[
        str, Query(description="Keys of labels to explain by a highlighted page, with commas; `top`: the likeliest.")
    ] = "",
    rectify: Annotated[bool, Query(description="Undo rotation, skew and perspective of photos.")] = False,
    page_image: Annotated[bool, Query(description="Also give the page as the model saw it, upright.")] = False,
) -> PredictOptions:
    # Async without need: FastAPI starts what is not on a thread of its own.
    return PredictOptions(
        model=model, labels=_listed(labels), explain=_listed(explain), rectify=rectify, page_image=page_image
    )


Options = Annotated[PredictOptions, Depends(_options)]
_OPTIONS = tuple(signature(_options).parameters)


def _refuse_unknown(request: Request, known: set[str]) -> None:
    # A mistyped `model` would be answered by another one.
    if unknown := [name for name in request.query_params if name not in known]:
        text = f"There is no option {unknown[0][:40]!r}; there are {', '.join(sorted(known))}."
        raise Refused(400, "bad_option", text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _add_predict(api: FastAPI, service: PageService, args: AppArgs, places: Places) -> None:
    @api.post(
        "/v1/predict",
        response_model=PredictResponse,
        openapi_extra={"requestBody": image_body()},
        responses=problem_responses(),
    )
    async def predict(
        request: Request,
        options: Options,
        page: Annotated[int, Query(description="Of a document, from 1.", ge=1, le=10_000)] = 1,
        report: Annotated[
            Report | None, Query(description="With `Accept: application/dicom`: what the object holds.")
        ] = None,
    ) -> Response:
        """Read one page of a printed 12-lead ECG: PNG, JPEG, BMP, TIFF, WebP, GIF, PDF or DICOM, known by its content.

        With `Accept: application/pdf` or `application/dicom` the answer is a report instead of JSON.
        """
        _refuse_unknown(request, {*_OPTIONS, "page", "report"})
        kind = wanted_report(request.headers.get("accept"), report)
        options = replace(options, page=page) if kind is None else kind.completed(replace(options, page=page))
        async with places.take():
            data = await _received(read_image(request, args.max_body_bytes), args.max_upload_s)
            answer = await service.predict(data, options, request.state.request_id)
            _note(request, [answer])
            return _json(answer) if kind is None else await report_of(kind, answer, data)


def _add_batch(api: FastAPI, service: PageService, args: AppArgs, places: Places) -> None:
    @api.post(
        "/v1/predict:batch",
        response_model=BatchResponse,
        openapi_extra={"requestBody": batch_body()},
        responses=problem_responses(),
    )
    async def predict_batch(request: Request, options: Options) -> Response:
        """Read many pages; each has its own status, and what is wrong with one of them stops no other."""
        _refuse_unknown(request, {*_OPTIONS})
        async with places.take():
            files = await _received(
                read_images(request, args.max_body_bytes, min(MAX_FILES, args.max_batch_pages)), args.max_upload_s
            )
            items = [item async for item in service.predict_files(files, options, request.state.request_id)]
        read = [item.result for item in items if item.result is not None]
        _note(request, read)
        answer = BatchResponse(
            request_id=request.state.request_id, num_read=len(read), num_refused=len(items) - len(read), items=items
        )
        return _json(answer)


def _add_models(api: FastAPI, service: PageService) -> None:
    @api.get("/v1/models", responses=problem_responses(401, 429, 500))
    async def models() -> ModelList:
        """What requests may name."""
        return service.models()

    @api.get("/v1/models/{name}", responses=problem_responses(401, 404, 429, 500, 503))
    async def model_card(name: str) -> ModelCard:
        """Labels, thresholds, measures and the model card of one of them."""
        return await service.model_card(name)


def _add_health(api: FastAPI, service: PageService) -> None:
    @api.get("/healthz")
    async def healthz() -> Health:
        """The process answers."""
        return Health()

    @api.get("/readyz", responses=problem_responses(503))
    async def readyz() -> Health:
        """The model is loaded and has predicted once."""
        if not service.is_ready:
            raise Refused(503, "not_ready", "The model is not loaded, or this replica is going away.")
        return Health()

    @api.get("/metrics", response_class=Response, responses=_text_response() | problem_responses(401, 429, 500, 503))
    async def metrics() -> Response:
        """Counters, histograms and gauges over all replicas, in Prometheus' text format."""
        return Response(await service.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _text_response() -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}}


async def _received(body: Awaitable[Body], max_s: float) -> Body:
    """A body that arrives in time; raises Refused for one that does not."""
    try:
        async with asyncio.timeout(max_s):
            return await body
    except TimeoutError:
        text = f"The body did not arrive within {max_s:g} s."
        raise Refused(400, "incomplete_body", text) from None


def _note(request: Request, answers: list[PredictResponse]) -> None:
    exchange: Exchange = request.state.exchange
    exchange.pages = len(answers)
    if answers:
        exchange.model, exchange.bundle_hash = answers[0].model.name, answers[0].model.bundle_hash


def _json(answer: PredictResponse | BatchResponse) -> Response:
    # Written by pydantic itself: FastAPI would check it a second time.
    return Response(answer.model_dump_json(), media_type="application/json")


def _add_page(api: FastAPI) -> None:
    def add(path: str, content: bytes, media_type: str) -> None:
        async def send(_: Request) -> Response:
            return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

        api.add_route(path, send, methods=["GET", "HEAD"])

    for path, file in _page_files().items():
        add(path, file.read_bytes(), _MEDIA_TYPES[file.suffix])


def _handle_errors(api: FastAPI) -> None:
    def told(request: Request, refused: Refused, headers: Any = None) -> Response:
        request.state.exchange.code = refused.code
        return problem_response(refused, request.state.request_id, headers)

    async def refused(request: Request, error: Any) -> Response:
        return told(request, error)

    async def bad_option(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        return told(request, Refused(400, "bad_option", f"Option {first['loc'][-1]!r}: {first['msg']}."))

    async def http_error(request: Request, error: Any) -> Response:
        request.state.exchange.code = code = HTTPStatus(error.status_code).name.lower()
        body = {
            "type": "about:blank", "title": HTTPStatus(error.status_code).phrase, "status": error.status_code,
            "code": code, "detail": f"{request.method} {request.url.path[:200]}: {error.detail}.",
            "request_id": request.state.request_id,
        }  # fmt: skip
        return JSONResponse(body, error.status_code, error.headers, media_type="application/problem+json")

    api.add_exception_handler(Refused, refused)
    api.add_exception_handler(RequestValidationError, bad_option)
    api.add_exception_handler(HTTPException, http_error)
