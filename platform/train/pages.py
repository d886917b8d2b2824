"""The pages that a run trains on, as its model sees them."""

import math
from collections.abc import Iterator

from ..data.batches import read_row_group
from ..data.decode import BatchDecoder
from ..data.drawn import DrawnPages
from ..data.read_page import Pixels
from ..page_look import LearnedPages, learned_from
from .job import TrainJob

_PAGES = 384
_GROUPS = 24
"""Row groups that they come from, each in an epoch of its own: drawn pages are printed in other ways in every epoch."""


def training_decoder(job: TrainJob) -> BatchDecoder:
    """What turns the rows of a step into its batch."""
    data, seed = job.config.data, job.config.seed
    drawn = DrawnPages(job.sampling_rate_hz, seed, data.drawn) if data.page == "drawn" else None
    return BatchDecoder(
        job.label_space, job.page, data.decode_threads, data.page_shift_px, seed,
        num_samples=job.num_samples, drawn=drawn,
    )  # fmt: skip


def learned_pages(job: TrainJob) -> LearnedPages | None:
    """How the pages of training look, by some hundred of them; None where there are too few."""
    return learned_from(_some_pages(job))


def _some_pages(job: TrainJob) -> Iterator[Pixels]:
    decoder = training_decoder(job)
    groups = job.train[:: max(1, len(job.train) // _GROUPS)][:_GROUPS]
    each = math.ceil(_PAGES / len(groups))
    for number, group in enumerate(groups):
        rows = read_row_group(group).slice(0, each)
        yield from decoder.batch(rows, epoch=number % job.config.epochs).page.numpy()
