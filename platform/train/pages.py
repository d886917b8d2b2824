"""The pages that a run trains on, as its model sees them."""

import math
from collections.abc import Iterator
from itertools import islice

from ..data.batches import read_row_group
from ..data.decode import BatchDecoder
from ..data.drawn import DrawnPages
from ..data.order import RowGroup
from ..data.read_page import Pixels
from ..page_look import LearnedPages, learned_from
from .job import TrainJob

_PAGES = 384
_GROUPS = 24
"""Row groups at least that they come from, and epochs: drawn pages are printed in other ways in every one."""
_AT_ONCE = 32


def training_decoder(job: TrainJob) -> BatchDecoder:
    """What turns the rows of a step into its batch."""
    data, seed = job.config.data, job.config.seed
    drawn = DrawnPages(job.sampling_rate_hz, seed, data.drawn) if data.page == "drawn" else None
    return BatchDecoder(
        job.label_space, job.page, data.decode_threads, data.page_shift_px, seed,
        num_samples=job.num_samples, drawn=drawn,
    )  # fmt: skip


def learned_pages(job: TrainJob) -> LearnedPages | None:
    """How the pages of training look, by up to 384 of them; None where there are too few."""
    return learned_from(islice(_pages(job), _PAGES))


def _pages(job: TrainJob) -> Iterator[Pixels]:
    """Of row groups all over the split, and where pages are drawn in one epoch after the other."""
    decoder, groups = training_decoder(job), _some_groups(job)
    each = math.ceil(_PAGES / len(groups))
    for epoch in range(job.config.epochs if job.config.data.page == "drawn" else 1):
        for number, group in enumerate(groups):
            rows = read_row_group(group).slice(0, each)
            for first in range(0, len(rows), _AT_ONCE):
                batch = decoder.batch(rows.slice(first, _AT_ONCE), (epoch + number) % job.config.epochs)
                yield from batch.page.numpy()


def _some_groups(job: TrainJob) -> list[RowGroup]:
    wanted = max(_GROUPS, math.ceil(_PAGES * len(job.train) / job.num_train))
    return job.train[:: max(1, len(job.train) // wanted)]
