"""A client of the endpoint: `with Client("http://127.0.0.1:8000") as client: client.predict("page.png").findings`.

Needs neither Ray nor torch. What fails on the way is sent again, under the same request id.
"""

import random
import ssl
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from .schemas import BatchResponse, ModelCard, ModelList, ModelSummary, PredictResponse, Problem

Image = bytes | str | Path
"""The bytes of a file, or its path."""
Answer = TypeVar("Answer", bound=BaseModel)
Source = TypeVar("Source", bound=Image)

_FIRST_DELAY_S = 0.2
_MAX_DELAY_S = 10.0
_TRY_AGAIN = {429, 502, 503, 504}


class BatchOptions(TypedDict, total=False):
    """As options.PredictOptions says, for every page."""

    model: str
    labels: Iterable[str]
    explain: Iterable[str]
    rectify: bool
    page_image: bool


class Options(BatchOptions, total=False):
    """As options.PredictOptions says."""

    page: int


class ApiError(Exception):
    """The endpoint refused, or could not be reached.

    Attributes:
        status: of the answer; None where there was none.
        code: stable word of the problem; `unreachable` without an answer, `not_vizecg` of one that is none of VizECG.
        detail: one sentence.
        request_id: by which the endpoint's log knows the request.
    """

    def __init__(self, status: int | None, code: str, detail: str, request_id: str):
        super().__init__(f"{detail} ({status or 'no answer'}, {code}, request {request_id})")
        self.status, self.code, self.detail, self.request_id = status, code, detail, request_id

    def __reduce__(self) -> tuple[type, tuple[int | None, str, str, str]]:
        return type(self), (self.status, self.code, self.detail, self.request_id)


class Client:
    """Every method raises ApiError, and OSError for a file that cannot be read. May be shared by threads."""

    def __init__(
        self, url: str, api_key: str | None = None, timeout_s: float = 30, max_retries: int = 3,
        ca_file: Path | str | None = None,
    ):  # fmt: skip
        """
        Args:
            url: of the endpoint, without the path, such as `https://ecg.example.org`.
            timeout_s: longest wait for the connection, for every part of an answer, and for the endpoint's own
                Retry-After: one that asks for more is told to the caller instead.
            max_retries: tries after the first; 0 sends everything once.
            ca_file: certificate of the authority that signed the endpoint's, PEM, where that is the hospital's own.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
        trusted = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, verify=trusted)
        self._timeout_s, self._max_retries = timeout_s, max_retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, image: Image, **options: Unpack[Options]) -> PredictResponse:
        """One page of a picture, PDF or DICOM file."""
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._send("POST", "/v1/predict", content=content, params=_query(options), headers=headers)
        return _read(answer, PredictResponse)

    def predict_many(
        self, images: Iterable[Source], max_concurrent: int = 4, **options: Unpack[Options]
    ) -> Iterator[tuple[Source, PredictResponse | ApiError]]:
        """Every image with its answer or what came instead, in order; `images` is read on as answers are taken."""
        ahead: deque[tuple[Source, Future[PredictResponse | ApiError]]] = deque()
        pool = ThreadPoolExecutor(max_concurrent, thread_name_prefix="vizecg-client")
        try:
            for image in images:
                ahead.append((image, pool.submit(self._try_predict, image, options)))
                if len(ahead) == 2 * max_concurrent:  # One slow page should not leave the others idle.
                    source, answer = ahead.popleft()
                    yield source, answer.result()
            while ahead:
                source, answer = ahead.popleft()
                yield source, answer.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _try_predict(self, image: Image, options: Options) -> PredictResponse | ApiError:
        try:
            return self.predict(image, **options)
        except ApiError as error:
            return error

    def predict_batch(self, files: Iterable[Image], **options: Unpack[BatchOptions]) -> BatchResponse:
        """All pages of a few files in one request; what is wrong with one of them is in its item."""
        parts = [
            ("images", (f"{index}", file) if isinstance(file, bytes) else (Path(file).name, Path(file).read_bytes()))
            for index, file in enumerate(files)
        ]
        return _read(self._send("POST", "/v1/predict:batch", files=parts, params=_query(options)), BatchResponse)

    def models(self) -> list[ModelSummary]:
        """What `model` may name."""
        return _read(self._send("GET", "/v1/models"), ModelList).models

    def model_card(self, name: str) -> ModelCard:
        """What is known of one of them."""
        return _read(self._send("GET", f"/v1/models/{quote(name, safe='')}"), ModelCard)

    def is_ready(self) -> bool:
        """Whether the endpoint answers requests now; asks once and raises nothing."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **content: Any) -> httpx.Response:
        """The answer, if it is one of success."""
        request_id = uuid.uuid4().hex
        headers = {**(headers or {}), "X-Request-ID": request_id}
        tries_left = self._max_retries
        delay_s = _FIRST_DELAY_S
        while True:
            wait_s: float | None = 0.0
            try:
                answer = self._http.request(method, path, headers=headers, **content)
                if answer.is_success:
                    return answer
                error, wait_s = _error_of(answer, request_id), _wait_s(answer)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException) as failure:
                detail = f"{self._http.base_url} cannot be reached: {failure or type(failure).__name__}"
                error = ApiError(None, "unreachable", detail, request_id)
            if not tries_left or wait_s is None or wait_s > self._timeout_s:
                raise error
            time.sleep(wait_s + random.uniform(0, delay_s))
            tries_left, delay_s = tries_left - 1, min(2 * delay_s, _MAX_DELAY_S)


def _query(options: Options | BatchOptions) -> dict[str, str]:
    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(value) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)

    return {name: text(value) for name, value in options.items()}


def _read(answer: httpx.Response, kind: type[Answer]) -> Answer:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        detail = f"{answer.url} answered with something else than a {kind.__name__}: {error.errors()[0]['msg']}"
        raise ApiError(answer.status_code, "not_vizecg", detail, answer.request.headers["X-Request-ID"]) from None


def _error_of(answer: httpx.Response, request_id: str) -> ApiError:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        # Serve, or a gateway in front of it, speaks for itself.
        text = answer.text[:200].strip() or answer.reason_phrase
        return ApiError(answer.status_code, "not_vizecg", text, request_id)
    return ApiError(answer.status_code, problem.code, problem.detail, problem.request_id)


def _wait_s(answer: httpx.Response) -> float | None:
    """How long the answer asks to wait; None where the same request would be answered the same again."""
    # A fault that VizECG tells itself is one of this page; in plain text it is Serve's, whose replica died.
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    if answer.status_code not in _TRY_AGAIN and (answer.status_code != 500 or is_problem):
        return None
    text = answer.headers.get("retry-after", "0")
    try:
        return max(0.0, float(text) if text.strip().isdigit() else _seconds_until(parsedate_to_datetime(text)))
    except (ValueError, TypeError):  # No date, or one without its time zone.
        return 0.0


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
