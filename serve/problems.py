"""Errors as clients see them: one table of status and code for HTTP and gRPC alike."""

import logging
from http import HTTPStatus

from ..platform.errors import PageError
from .schemas import Problem

_STATUS_OF_REASON = {
    "empty": 400,
    "too_large": 413,
    "too_many_pixels": 413,
    "too_many_pages": 413,
    "not_an_image": 415,
    "unsupported": 415,
    "no_such_page": 404,
}
"""Status by PageError's reason; the others are pictures that were understood and cannot be used: 422."""

PROBLEMS = {
    400: "No body, no file in the multipart body, a broken one, or an option that makes no sense.",
    401: "No API key, or one that is not known or no longer valid.",
    404: "No such model, label, page or path.",
    409: "What is asked for no longer fits what is loaded.",
    413: "Too many bytes, pixels or pages.",
    415: "The bytes are not a picture of a kind that is read.",
    422: "A picture that is damaged, whose size no printed ECG has, that takes too long, or that shows no ECG.",
    429: "More requests than the key may make: try again after the seconds in Retry-After.",
    500: "A fault of the server.",
    503: "Busy or starting: try again after the seconds in Retry-After.",
}
"""What every status of the API means."""


class Refused(Exception):
    """A request that is answered with a Problem. `detail` is one sentence."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: float | None = None):
        super().__init__(detail)
        assert status in PROBLEMS, status
        self.status, self.code, self.detail = status, code, detail
        self.retry_after_s = retry_after_s if retry_after_s is not None else (1.0 if status == 503 else None)

    def __reduce__(self) -> tuple[type, tuple[int, str, str]]:
        return type(self), (self.status, self.code, self.detail)


def refusal_of(error: PageError) -> Refused:
    """A page that cannot be read, as an answer."""
    sentence = str(error)
    sentence = f"{sentence[:1].upper()}{sentence[1:]}{'' if sentence.endswith('.') else '.'}"
    return Refused(_STATUS_OF_REASON.get(error.reason, 422), error.reason, sentence)


def told_of(error: Exception, request_id: str) -> Refused:
    """What a client is told of any error; one of ours goes to the log."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, PageError):
        return refusal_of(error)
    logging.getLogger("ray.serve").error("request %s failed", request_id, exc_info=error)
    return Refused(
        500, "internal_error", "The server failed on this request. Its log has the cause under the request id."
    )


def problem_of(refused: Refused, request_id: str) -> Problem:
    """The body of its answer."""
    return Problem(
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        code=refused.code,
        detail=refused.detail,
        request_id=request_id,
    )
