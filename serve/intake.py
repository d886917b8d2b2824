"""Bodies of requests, within their limits: one picture or several, raw or as a form; never written to a disk."""

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .problems import Refused

_MAX_FIELDS = 16
_NAME_CHARACTERS = 200


async def read_image(request: Request, max_bytes: int) -> bytes:
    """The one picture of a request: its whole body, or the multipart field `image`.

    Raises:
        Refused: too large, broken, or without a picture; as soon as that is known.
    """
    body = _bounded(request, max_bytes)
    if not _is_form(request):
        return b"".join([chunk async for chunk in body])
    files = await _form_files(request, body, max_bytes, "image", max_files=1)
    return files[0][1]


async def read_images(request: Request, max_bytes: int, max_files: int) -> list[tuple[str | None, bytes]]:
    """(name, bytes) of every multipart field `images`, or the whole body as the only one; raises Refused."""
    body = _bounded(request, max_bytes)
    if not _is_form(request):
        return [(None, b"".join([chunk async for chunk in body]))]
    return await _form_files(request, body, max_bytes, "images", max_files)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise _too_large(max_bytes)
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise _too_large(max_bytes)
            yield chunk
    except ClientDisconnect:
        raise Refused(400, "incomplete_body", "The connection closed before the whole body had arrived.") from None


async def _form_files(
    request: Request, body: AsyncGenerator[bytes, None], max_bytes: int, field: str, max_files: int
) -> list[tuple[str | None, bytes]]:
    parser = MultiPartParser(request.headers, body, max_files=max_files, max_fields=_MAX_FIELDS)
    parser.spool_max_size = max_bytes + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, "bad_multipart", f"The multipart body cannot be read: {error.message}") from None
    except (KeyError, ValueError, UnicodeError):
        raise Refused(400, "bad_multipart", "The multipart body cannot be read: its headers are broken.") from None
    uploads = [upload for upload in form.getlist(field) if isinstance(upload, UploadFile)]
    if not uploads:
        raise Refused(400, "missing_image", f"The multipart body has no file field `{field}`.")
    return [((upload.filename or "")[:_NAME_CHARACTERS] or None, await upload.read()) for upload in uploads]


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, "too_large", f"The body is too large; at most {max_bytes:,} bytes are read.")
