"""The OpenAPI document beyond what FastAPI knows: bodies, problems, keys, and what holds for all of it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .problems import PROBLEMS
from .schemas import NOTICE, Problem

_RAW = (
    "image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "image/gif", "application/pdf",
    "application/dicom", "application/octet-stream",
)  # fmt: skip
_BINARY = {"type": "string", "format": "binary"}
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {}]
"""Any of these; none is needed where the endpoint has no keys."""
_OPEN = ("/healthz", "/readyz")


def image_body() -> dict[str, Any]:
    """The body of `/v1/predict`."""
    form = {"type": "object", "required": ["image"], "properties": {"image": _BINARY}}
    return _body("The picture as the whole body, or as one file field.", form)


def batch_body() -> dict[str, Any]:
    """The body of `/v1/predict:batch`."""
    form = {
        "type": "object",
        "required": ["images"],
        "properties": {"images": {"type": "array", "items": _BINARY, "minItems": 1}},
    }
    return _body("A document, all of whose pages are read, as the whole body; or any number of file fields.", form)


def _body(description: str, form: dict[str, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": _BINARY} for media_type in _RAW} | {"multipart/form-data": {"schema": form}}
    return {"required": True, "description": description, "content": content}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What may go wrong, as FastAPI takes it; every status without any."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
    return {
        status: {
            "description": PROBLEMS[status], "content": content, **({"headers": retry} if status in (429, 503) else {})
        }
        for status in statuses or PROBLEMS
    }  # fmt: skip


def describe(api: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title=api.title,
        version=api.version,
        summary="Reads pictures of printed 12-lead ECGs.",
        description=f"{NOTICE} Errors are RFC 9457 problems with a stable `code`.",
        routes=api.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    # Wrong options are answered with a Problem and status 400, not as FastAPI does by itself.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation["security"] = _SECURITY[:0] if path in _OPEN else _SECURITY
    for response in operation["responses"].values():
        if "#/components/schemas/HTTPValidationError" in str(response):
            response.update(description=PROBLEMS[422], content=problem)
        response.setdefault("headers", {})["X-Request-ID"] = {
            "description": "Of the request, or made for it.",
            "schema": {"type": "string"},
        }
    if path == "/v1/predict":
        operation["responses"]["200"]["content"] |= {
            kind: {"schema": _BINARY} for kind in ("application/pdf", "application/dicom")
        }
