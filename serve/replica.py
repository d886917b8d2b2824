"""What a replica does with a page: decode and check it on threads, predict in batches, explain. No HTTP, no Ray.

Shapes: K labels, H x W pixels.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np

from ..platform.data.read_page import Reading
from .answer import explained_labels, explanation, findings_of, label_results, page_facts, page_image
from .batcher import Predicted
from .decoding import DecodedPage, Decoders
from .models import ModelShelf, ServedModel
from .observe.metrics import ReplicaMetrics
from .observe.traces import Tracer
from .options import TOP, PredictOptions
from .problems import Refused, problem_of, told_of
from .schemas import BatchItem, Explanation, LabelFacts, ModelCard, ModelList, PredictResponse, Timing
from .settings import AppArgs

Named = tuple[str | None, bytes]
"""A file of a batch: its name where it has one, and its bytes."""


class PageReplica:
    """Implements service.PageService."""

    def __init__(
        self, args: AppArgs, shelf: ModelShelf, metrics: ReplicaMetrics, collect: Callable[[], Awaitable[bytes]],
        tracer: Tracer,
    ):  # fmt: skip
        """`collect` gives the metrics of all replicas."""
        self._tracer = tracer
        self._args, self._shelf, self._metrics, self._collect = args, shelf, metrics, collect
        self._decoders = Decoders(args.decoding_threads, args.max_decode_s, args.max_body_bytes, args.max_pixels)
        self._explainers = ThreadPoolExecutor(1, thread_name_prefix="explain")

    @property
    def is_ready(self) -> bool:
        """Models are loaded before there is a replica; what is left is that a page could be decoded."""
        return not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """No thread is left that could decode."""
        return self._decoders.is_stuck

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        """One page. Raises Refused for what the client did wrong."""
        started = time.perf_counter()
        model = await self._shelf.choose(options.model, request_id)
        for key in (*options.labels, *(key for key in options.explain if key != TOP)):
            model.label_index(key)
        with self._tracer.span("decode", page=options.page):
            reading, bundle = self._reading(options), model.bundle
            decoded = await self._decoders.read(data, options.page, bundle.page, reading, bundle.learned_pages)
        self._metrics.observe_stage("decode", decoded.decode_s, model.name)
        predicted, predict_s = await self._predicted(model, decoded)
        explanations, explain_s = await self._explained(model, decoded, predicted, options)
        total_s = time.perf_counter() - started
        self._metrics.observe_stage("total", total_s, model.name)
        timing = Timing(
            decode=_ms(decoded.decode_s), predict=_ms(predict_s), explain=_ms(explain_s), total=_ms(total_s)
        )
        return self._response(model, decoded, predicted, explanations, timing, options, request_id)

    def _reading(self, options: PredictOptions) -> Reading:
        return Reading(check=self._args.check_pages, rectify=options.rectify, quality=True)

    async def _predicted(self, model: ServedModel, decoded: DecodedPage) -> tuple[Predicted, float]:
        started = time.perf_counter()
        with self._tracer.span("predict", model=model.name, backend=model.backend) as span:
            predicted = await model.predict(decoded.pixels)
            span.set(batch_pages=predicted.batch_pages)
        if not np.isfinite(predicted.probability).all():
            raise Refused(422, "not_a_number", "The model gave a probability that is no number for this page.")
        seconds = time.perf_counter() - started
        self._metrics.observe_stage("queue", max(0.0, seconds - predicted.predict_s), model.name)
        self._metrics.observe_stage("predict", predicted.predict_s, model.name)
        return predicted, seconds

    async def _explained(
        self, model: ServedModel, decoded: DecodedPage, predicted: Predicted, options: PredictOptions
    ) -> tuple[list[Explanation], float]:
        if not options.explain:
            return [], 0.0
        started = time.perf_counter()
        labels = explained_labels(model, predicted.probability, options.explain)
        run = asyncio.get_running_loop().run_in_executor
        with self._tracer.span("explain", model=model.name, labels=len(labels)):
            made = [await run(self._explainers, explanation, model, decoded.pixels, label) for label in labels]
        seconds = time.perf_counter() - started
        self._metrics.observe_stage("explain", seconds, model.name)
        return made, seconds

    def _response(
        self, model: ServedModel, decoded: DecodedPage, predicted: Predicted, explanations: list[Explanation],
        timing: Timing, options: PredictOptions, request_id: str,
    ) -> PredictResponse:  # fmt: skip
        thresholds = self._shelf.thresholds(model)
        labels = label_results(model, predicted.probability, thresholds, options.labels)
        values = [threshold.value for threshold in thresholds]
        self._metrics.page_read(model.info, model.bundle, predicted.probability, values)
        page = page_facts(decoded)
        self._metrics.page_warned((warning.code for warning in page.warnings), model.info)
        return PredictResponse(
            request_id=request_id,
            model=model.info,
            labels=labels,
            findings=findings_of(labels),
            calibrated=model.is_calibrated,
            page=page,
            explanations=explanations,
            page_image=page_image(decoded.pixels) if options.page_image else None,
            timing_ms=timing,
        )

    async def predict_files(
        self, files: list[Named], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        """All pages of the files, in order; what is wrong with one of them is in its item. Raises Refused for all."""
        counts = await asyncio.gather(*(self._count(data) for _, data in files))
        num_pages = sum(count for count in counts if isinstance(count, int))
        if num_pages > self._args.max_batch_pages:
            text = f"The files have {num_pages} pages; at most {self._args.max_batch_pages} are read at once."
            raise Refused(413, "too_many_pages", text)
        work = chain.from_iterable(
            [(index, page) for page in range(1, count + 1)] if isinstance(count, int) else [(index, 1)]
            for index, count in enumerate(counts)
        )
        ahead: deque[asyncio.Task[BatchItem]] = deque()
        try:
            for index, page in work:
                item = self._item(files, index, page, counts[index], options, request_id)
                ahead.append(asyncio.create_task(item))
                if len(ahead) > self._args.max_batch_size + self._args.decoding_threads:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()

    async def _count(self, data: bytes) -> int | Refused:
        try:
            return await self._decoders.count(data)
        except Refused as refused:
            return refused

    async def _item(
        self, files: list[Named], index: int, page: int, count: int | Refused, options: PredictOptions, request_id: str
    ) -> BatchItem:
        name, data = files[index]
        try:
            if isinstance(count, Refused):
                raise count
            result = await self.predict(data, replace(options, page=page), request_id)
        except Exception as error:
            refused = told_of(error, request_id)
            self._metrics.page_refused(refused.code)
            problem = problem_of(refused, request_id)
            return BatchItem(index=index, file_name=name, page=page, status=refused.status, problem=problem)
        return BatchItem(index=index, file_name=name, page=page, status=200, result=result)

    def models(self) -> ModelList:
        """All that requests may name."""
        return self._shelf.listed()

    async def model_card(self, name: str) -> ModelCard:
        """Raises Refused where there is no such model."""
        model = await self._shelf.choose(name, request_id="")
        bundle = model.bundle
        labels = [
            LabelFacts(
                key=label.key,
                name=label.name,
                codes=model.codes(index),
                threshold=threshold.value,
                threshold_source=threshold.source,
            )
            for index, (label, threshold) in enumerate(
                zip(bundle.label_space.labels, self._shelf.thresholds(model), strict=True)
            )
        ]
        return ModelCard(
            model=model.info, labels=labels, page_width_px=bundle.page.width_px, page_height_px=bundle.page.height_px,
            calibrated=model.is_calibrated, metrics=bundle.metrics, card=model.card,
        )  # fmt: skip

    async def metrics(self) -> bytes:
        """Of all replicas, in Prometheus' text format."""
        return await self._collect()


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
