"""What a replica does with a page, whatever protocol it came by: api.py and grpc/ call this and nothing else."""

from collections.abc import AsyncIterator
from typing import Protocol

from .options import PredictOptions
from .schemas import BatchItem, ModelCard, ModelList, PredictResponse


class PageService(Protocol):
    """Implemented by replica.py; tests write their own. Every method raises Refused for what the client did wrong."""

    async def predict(self, data: bytes, options: PredictOptions, request_id: str) -> PredictResponse:
        """One page of a picture, PDF or DICOM file."""
        ...

    def predict_files(
        self, files: list[tuple[str | None, bytes]], options: PredictOptions, request_id: str
    ) -> AsyncIterator[BatchItem]:
        """All pages of (name, bytes), in order; what is wrong with one of them is in its item."""
        ...

    def models(self) -> ModelList: ...

    async def model_card(self, name: str) -> ModelCard: ...

    @property
    def is_ready(self) -> bool: ...

    async def metrics(self) -> bytes:
        """Of all replicas, in Prometheus' text format."""
        ...
