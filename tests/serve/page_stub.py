"""An endpoint whose pages are read for real and whose model is a table: what the web page is developed and tested on.

    python tests/serve/page_stub.py [PORT]

Shapes: H x W pixels.
"""

import asyncio
import base64
import hashlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import uvicorn
from numpy.typing import NDArray

from vizecg.platform.data.read_page import PageSpec, Reading, ReadPage, read_page
from vizecg.platform.data.reading.pictures import num_pages
from vizecg.platform.errors import PageError
from vizecg.serve.api import create_api
from vizecg.serve.options import PredictOptions
from vizecg.serve.problems import Refused, refusal_of
from vizecg.serve.schemas import (
    BatchItem,
    Code,
    Explanation,
    Finding,
    LabelResult,
    ModelCard,
    ModelInfo,
    ModelList,
    ModelSummary,
    PageFacts,
    PageImage,
    PageWarning,
    PredictResponse,
    ThresholdSource,
    Timing,
)
from vizecg.serve.settings import AppArgs

Row = tuple[str, str, str, float, float, bool]
"""Key, name, SNOMED CT code, probability, threshold, whether that is uncertain."""

TABLE: tuple[Row, ...] = (
    ("NORM", "Sinus rhythm", "426783006", 0.064, 0.50, False),
    ("SB", "Sinus bradycardia", "426177001", 0.021, 0.38, False),
    ("ST", "Sinus tachycardia", "427084000", 0.118, 0.36, False),
    ("AF", "Atrial fibrillation", "164889003", 0.874, 0.42, False),
    ("1dAVb", "First-degree AV block", "270492004", 0.034, 0.35, False),
    ("LBBB", "Left bundle branch block", "164909002", 0.473, 0.44, True),
    ("RBBB", "Right bundle branch block", "59118001", 0.428, 0.46, True),
)


@dataclass
class PageStub:
    """A PageService; tests change its fields while it runs."""

    key: str | None = None
    """The API key that requests need."""
    refusal: Refused | None = None
    """What every picture is answered with."""
    delay_s: float = 0.0
    warnings: tuple[tuple[str, str], ...] = ()
    table: tuple[Row, ...] = TABLE
    set_here: tuple[str, ...] = ()
    """Labels whose thresholds are of who runs the endpoint."""
    models_served: tuple[str, ...] = ("default",)
    spec: PageSpec = field(default_factory=PageSpec)
    asked: list[PredictOptions] = field(default_factory=list)
    """What predictions were asked for, the latest last."""

    def authorize(self, headers: Mapping[str, str], address: str | None) -> str | None:
        given = headers.get("x-api-key")
        if self.key is None or given == self.key:
            return "tests" if self.key else None
        if given is None:
            raise Refused(401, "unauthorized", "This endpoint needs an API key.")
        raise Refused(401, "unauthorized", "This API key is not known here.")

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        self.asked.append(options)
        await asyncio.sleep(self.delay_s)
        if self.refusal:
            raise self.refusal
        page, pages = await asyncio.to_thread(self._read, data, options)
        labels = [_label(row, "endpoint" if row[0] in self.set_here else "bundle") for row in self.table]
        top = max(labels, key=lambda label: label.probability).key
        wanted = [top if key == "top" else key for key in options.explain]
        return PredictResponse(
            request_id=request_id,
            model=_model(options.model),
            labels=labels,
            findings=_findings(labels),
            calibrated=True,
            page=self._facts(page, options.page, pages),
            explanations=[Explanation(key=key, image=_png(_highlighted(page.pixels, key))) for key in wanted],
            page_image=PageImage(image=_png(page.pixels.transpose(1, 2, 0))) if options.page_image else None,
            timing_ms=Timing(decode=21.4, predict=38.2, total=61.0),
        )

    def _read(self, data: bytes, options: PredictOptions) -> tuple[ReadPage, int]:
        try:
            pages = num_pages(data)
            if options.page > pages:
                raise PageError("no_such_page", f"there is no page {options.page}: the document has {pages}")
            return read_page(data, self.spec, Reading(rectify=options.rectify), page=options.page - 1), pages
        except PageError as error:
            raise refusal_of(error) from None

    def _facts(self, page: ReadPage, number: int, pages: int) -> PageFacts:
        assert page.finding
        return PageFacts(
            number=number,
            num_pages=pages,
            turned_deg=page.finding.turned_deg,
            ecg_score=round(page.finding.ecg_score, 4),
            layout="3x4+1",
            warnings=[PageWarning(code=code, text=text) for code, text in self.warnings],
            note=page.note,
        )

    async def predict_files(
        self, files: list[tuple[str | None, bytes]], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        raise NotImplementedError
        yield

    def models(self) -> ModelList:
        return ModelList(
            models=[ModelSummary(name=name, architecture="vizecgnet", loaded=True) for name in self.models_served]
        )

    async def model_card(self, name: str) -> ModelCard:
        raise NotImplementedError

    @property
    def is_ready(self) -> bool:
        return True

    async def metrics(self) -> bytes:
        return b""


def _model(name: str) -> ModelInfo:
    content_hash = hashlib.sha256(name.encode()).hexdigest()
    return ModelInfo(name=name, architecture="vizecgnet", bundle_hash=content_hash, backend="stub", canary=False)


def _label(row: Row, source: ThresholdSource) -> LabelResult:
    key, name, code, probability, threshold, uncertain = row
    codes = [Code(system="http://snomed.info/sct", code=code)]
    return LabelResult(
        key=key, name=name, probability=probability, threshold=threshold, positive=probability >= threshold,
        uncertain=uncertain, codes=codes, threshold_source=source,
    )  # fmt: skip


def _findings(labels: list[LabelResult]) -> list[Finding]:
    found = [
        Finding(key=label.key, display=label.name, code=label.codes[0], probability=label.probability)
        for label in labels
        if label.positive
    ]
    return sorted(found, key=lambda finding: -finding.probability)


def _highlighted(pixels: NDArray[np.uint8], key: str) -> NDArray[np.uint8]:
    """(3, H, W) -> (H, W, 3), with a blue cloud whose place depends on the key."""
    height, width = pixels.shape[1:]
    x, y = sum(key.encode()) * 37 % 80 / 100 + 0.1, 0.55
    rows, columns = np.mgrid[:height, :width]
    heat = np.exp(-(((columns / width - x) / 0.12) ** 2) - ((rows / height - y) / 0.2) ** 2)
    absorbed = 0.8 * (1 - np.array([20, 90, 215]) / 255)
    return np.rint(pixels.transpose(1, 2, 0) * (1 - heat[..., None] * absorbed)).astype(np.uint8)


def _png(picture: NDArray[np.uint8]) -> str:
    """RGB (H, W, 3) -> base64."""
    written, data = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR))
    assert written
    return base64.b64encode(data.tobytes()).decode()


@contextmanager
def serving(stub: PageStub, port: int = 0) -> Iterator[str]:
    """The address at which it answers, from a thread of its own, until the context ends."""
    api = create_api(stub, AppArgs(bundle="unused"), stub.authorize)
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)


if __name__ == "__main__":
    with serving(PageStub(spec=PageSpec(width_px=1024, height_px=768)), int(sys.argv[1]) if sys.argv[1:] else 0) as url:
        print(url, flush=True)
        threading.Event().wait()
