"""The gRPC side of a replica: what vizecg.proto offers, over a PageService."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from google.protobuf.message import Message
from pydantic import BaseModel

from ..guard import Authorize, Watch, unwatched
from ..places import Places
from ..problems import Refused, problem_of, told_of
from ..schemas import BatchItem, Health
from ..service import PageService
from ..settings import AppArgs
from . import vizecg_pb2
from .call import Call
from .in_order import in_order
from .messages import message_of, options_of
from .silence import Silence

if TYPE_CHECKING:
    from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream


class GrpcService:
    """Mixin of the deployment: Serve calls its methods by the names that vizecg.proto gives them.

    `grpc_context` is told by its name, too. No method raises: Call.refuse says why.
    """

    def __init__(
        self,
        service: PageService,
        authorize: Authorize,
        args: AppArgs,
        watch: Watch = unwatched,
        places: Places | None = None,
    ):
        """`watch` is put around every call, `places` may be shared with other protocols."""
        places = places or Places(args.max_ongoing_requests)
        self._grpc = _Calls(service, authorize, args, watch, places)

    async def Predict(self, request: vizecg_pb2.PredictRequest, grpc_context: "RayServegRPCContext") -> Message:
        return await self._grpc.predict(request, grpc_context)

    async def PredictBatch(
        self, requests: "gRPCInputStream[vizecg_pb2.PredictRequest]", grpc_context: "RayServegRPCContext"
    ) -> AsyncIterator[Message]:
        async with aclosing(self._grpc.predict_batch(requests, grpc_context)) as items:
            async for item in items:
                yield item

    async def ListModels(self, request: vizecg_pb2.ListModelsRequest, grpc_context: "RayServegRPCContext") -> Message:
        return await self._grpc.list_models(grpc_context)

    async def GetModel(self, request: vizecg_pb2.GetModelRequest, grpc_context: "RayServegRPCContext") -> Message:
        return await self._grpc.get_model(request, grpc_context)

    async def GetHealth(self, request: vizecg_pb2.GetHealthRequest) -> Message:
        return self._grpc.get_health()


class _Calls:
    def __init__(self, service: PageService, authorize: Authorize, args: AppArgs, watch: Watch, places: Places):
        self._service, self._authorize, self._args, self._watch = service, authorize, args, watch
        self._places = places

    async def predict(self, request: vizecg_pb2.PredictRequest, context: "RayServegRPCContext") -> Message:
        async def answer(call: Call) -> BaseModel:
            self._check_size(request, call)
            async with self._places.take():
                read = await self._service.predict(request.image, options_of(request.options), call.request_id)
            call.note(read)
            return read

        return await self._answer(context, "Predict", answer, vizecg_pb2.PredictResponse)

    async def predict_batch(
        self, requests: "gRPCInputStream[vizecg_pb2.PredictRequest]", context: "RayServegRPCContext"
    ) -> AsyncGenerator[Message, None]:
        """A stream is one request, to keys and limits, as a batch over HTTP is."""
        with self._call(context, "PredictBatch") as call:
            index = 0
            try:
                call.exchange.key = self._authorize(call.headers, call.client)
                async with self._places.take(), aclosing(self._items(requests, call)) as items:
                    async for item in items:
                        index = item.index
                        yield message_of(item)
                call.succeed()
            except Exception as error:
                refused = call.refuse(error)
                # Serve's proxy takes the status with an item alone, and withholds that; without it both are sent.
                yield message_of(_refused_item(index, None, refused, call))

    async def list_models(self, context: "RayServegRPCContext") -> Message:
        async def answer(_: Call) -> BaseModel:
            return self._service.models()

        return await self._answer(context, "ListModels", answer, vizecg_pb2.ModelList)

    async def get_model(self, request: vizecg_pb2.GetModelRequest, context: "RayServegRPCContext") -> Message:
        async def answer(_: Call) -> BaseModel:
            return await self._service.model_card(request.name)

        return await self._answer(context, "GetModel", answer, vizecg_pb2.ModelCard)

    def get_health(self) -> Message:
        return message_of(Health(status="ok" if self._service.is_ready else "starting"))

    async def _answer(
        self,
        context: "RayServegRPCContext",
        method: str,
        answer: Callable[[Call], Awaitable[BaseModel]],
        kind: type[Message],
    ) -> Message:
        """The answer, or an empty message of its kind under the status of an error, with which it is never sent."""
        with self._call(context, method) as call:
            try:
                call.exchange.key = self._authorize(call.headers, call.client)
                message = message_of(await answer(call))
            except Exception as error:
                call.refuse(error)
                return kind()
            call.succeed()
            return message

    async def _items(
        self, requests: "gRPCInputStream[vizecg_pb2.PredictRequest]", call: Call
    ) -> AsyncGenerator[BatchItem, None]:
        num_pages, most = 0, self._args.max_batch_pages
        in_work = self._args.max_batch_size
        silence = Silence(self._args.max_upload_s)

        async def work(index: int, request: vizecg_pb2.PredictRequest) -> AsyncIterator[BatchItem]:
            with silence.broken():
                async for item in self._read_file(call, index, request):
                    yield item

        def size_of(request: vizecg_pb2.PredictRequest) -> int:
            # Files in work have together no more bytes than a batch over HTTP.
            return min(in_work, max(1, math.ceil(len(request.image) * in_work / self._args.max_body_bytes)))

        async with aclosing(in_order(silence.ended_by(requests), work, in_work, size_of)) as items:
            async for item in items:
                num_pages += 1
                if num_pages > most:
                    raise Refused(413, "too_many_pages", f"The stream has more than {most} pages.")
                if item.result is not None:
                    call.note(item.result)
                yield item
        if not num_pages:
            raise Refused(400, "missing_image", "The stream ended before its first file.")

    async def _read_file(self, call: Call, index: int, request: vizecg_pb2.PredictRequest) -> AsyncIterator[BatchItem]:
        name = request.file_name if request.HasField("file_name") else None
        try:
            self._check_size(request, call)
            options = options_of(request.options)
            async for item in self._service.predict_files([(name, request.image)], options, call.request_id):
                yield item.model_copy(update={"index": index})
        except Exception as error:
            yield _refused_item(index, name, told_of(error, call.request_id), call)

    def _check_size(self, request: vizecg_pb2.PredictRequest, call: Call) -> None:
        call.exchange.bytes_in += len(request.image)
        if len(request.image) > (most := self._args.max_body_bytes):
            raise Refused(413, "too_large", f"The file is too large; at most {most:,} bytes are read.")

    @contextmanager
    def _call(self, context: "RayServegRPCContext", method: str) -> Iterator[Call]:
        call = Call(context, method)
        with self._watch(call.exchange, call.headers.get("traceparent")):
            yield call


def _refused_item(index: int, file_name: str | None, refused: Refused, call: Call) -> BatchItem:
    problem = problem_of(refused, call.request_id)
    return BatchItem(index=index, file_name=file_name, page=1, status=refused.status, problem=problem)
