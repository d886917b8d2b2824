"""What a replica makes of one page, without HTTP or Ray."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from vizecg.platform.bundle import Bundle, read_facts
from vizecg.platform.data.read_page import Pixels
from vizecg.platform.page_look import LEAST_PAGES, learned_from
from vizecg.platform.predictor import Predictor
from vizecg.serve.batcher import Predicted
from vizecg.serve.models import ModelShelf, ServedModel
from vizecg.serve.observe.metrics import ReplicaMetrics
from vizecg.serve.observe.traces import Tracer
from vizecg.serve.options import PredictOptions
from vizecg.serve.replica import PageReplica
from vizecg.serve.schemas import PredictResponse
from vizecg.serve.settings import DEFAULT_MODEL, AppArgs


async def predict(page: Pixels) -> Predicted:
    return Predicted(np.full(7, 0.5, np.float32), 1, 0.0)


async def nothing() -> bytes:
    return b""


def read_by(bundle: Bundle, folder: Path, page: bytes, metrics: ReplicaMetrics) -> PredictResponse:
    default = ServedModel(DEFAULT_MODEL, folder, bundle, "none", predict)

    async def load_other(_: str) -> ServedModel:
        return default

    shelf = ModelShelf(default, {}, load_other, lambda _: default)
    replica = PageReplica(AppArgs(bundle="unused"), shelf, metrics, nothing, Tracer())
    return asyncio.run(replica.predict(page, PredictOptions(), "r"))


@pytest.mark.parametrize("is_like", [True, False])
def test_a_page_unlike_those_of_training_is_told_and_counted(
    bundle_folder: Path, pages: list[bytes], predictor: Predictor, is_like: bool
):
    pixels = predictor.read(pages[0]).pixels
    learned = learned_from([pixels if is_like else 255 - pixels] * LEAST_PAGES)
    bundle, metrics = read_facts(bundle_folder).model_copy(update={"learned_pages": learned}), ReplicaMetrics()
    told = [warning.code for warning in read_by(bundle, bundle_folder, pages[0], metrics).page.warnings]
    assert told == ([] if is_like else ["unlike_training"])
    counted = f'page_warnings_total{{bundle="{bundle.content_hash[:12]}",code="unlike_training",model="default"}} 1.0'
    assert (counted in metrics.text().decode()) == (not is_like)
