"""How a model reads scans and photos: the records printed anew, what befalls them, and what it says then.

All conditions share a record's print and random numbers: where two of them bend a page, they bend it alike.

Shapes: B or N records, K labels, L = 12 leads, H x W pixels of the model's page.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...models.batch import EcgBatch
from ..bundle import Bundle
from ..data.artefacts import PRESETS
from ..data.batches import read_row_group
from ..data.dataset_info import PageSettings, load_dataset_info, read_row_index
from ..data.decode import BatchDecoder
from ..data.drawn import worn_page
from ..data.masking import mask_text
from ..data.order import RowGroup
from ..data.page import PrintedPage, print_page
from ..data.read_page import PageSpec, Pixels
from ..data.splits import SPLITS
from ..errors import UserError
from ..predictor import Predictor
from .condition_scores import CLEAN, ConditionPage, Conditions, score_conditions
from .contact_sheet import encoded
from .predict import predict_split, prediction_table

EVERY = tuple(PRESETS)


@dataclass(frozen=True, kw_only=True)
class Printing:
    """How the records are printed, at the model's size, and what befalls the prints; the same for every model."""

    settings: PageSettings
    sampling_rate_hz: float
    conditions: tuple[str, ...] = EVERY
    seed: int = 0

    @property
    def spec(self) -> PageSpec:
        return PageSpec(width_px=self.settings.width_px, height_px=self.settings.height_px)

    @property
    def described(self) -> str:
        """For people."""
        return "each in another way" if self.settings.varied else "as the shards' own pages are"

    def printed(self, batch: EcgBatch) -> list[PrintedPage | None]:
        """The prints of B records; None where the signal is unknown."""
        return [self._print(batch, n) if known else None for n, known in enumerate(batch.signal_known.tolist())]

    def worn(self, page: PrintedPage, record_id: str, condition: str) -> Pixels:
        """What a condition leaves of a record's print: uint8 RGB (3, H, W)."""
        rng = np.random.default_rng([self.seed, zlib.crc32(record_id.encode())])
        return worn_page(page, PRESETS[condition], rng, self.spec)

    def _print(self, batch: EcgBatch, n: int) -> PrintedPage:
        recorded_mv = batch.signal[n, :, : int(batch.valid_samples[n])].numpy()
        style = self.settings.style(batch.record_id[n])
        return print_page(recorded_mv, self.sampling_rate_hz, style, batch.lead_present[n].numpy())


def checked_conditions(bundle: Path | str, facts: Bundle, names: Sequence[str]) -> tuple[str, ...]:
    """The conditions in the order of PRESETS, with clean pages, to compare with; none where none is named.

    Raises:
        UserError: a name that is none, or a model that reads something else than pages.
    """
    for name in names:
        if name not in PRESETS:
            raise UserError(f"condition {name!r} is not one of {', '.join(PRESETS)}")
    if names and facts.deployed_stream != "image":
        raise UserError(
            f"{bundle}: {facts.model.name} reads signals, and --conditions changes pages alone; leave it out, or "
            "evaluate a model that reads pages, such as vizecgnet"
        )
    return tuple(name for name in EVERY if name in names or (names and name == CLEAN))


def evaluate_conditions(
    bundle: Path | str,
    facts: Bundle,
    shards: Path | str,
    split: str,
    conditions: tuple[str, ...],
    *,
    varied: bool = False,
    num_actors: int = 1,
    num_resamples: int = 1000,
) -> Conditions | None:
    """Measures of the deployed stream on the split's signals, printed as the shards' own pages are and worn.

    None where no condition is named. With `varied` every record is printed in another way, as devices do. Records
    whose signal nobody has are counted. Shards keep signals at their own rate and in whole microvolts: where the
    archive has a higher rate, a clean print differs a little from the stored page.

    Raises:
        UserError: no record of the split has a signal.
    """
    if not conditions:
        return None
    info = load_dataset_info(shards)
    size = {"width_px": facts.page.width_px, "height_px": facts.page.height_px}
    settings = info.page.model_copy(update=size | ({"varied": True} if varied else {}))
    printing = Printing(settings=settings, sampling_rate_hz=info.sampling_rate_hz, conditions=conditions)
    said = predict_split(bundle, shards, split, num_actors, partial(read_worn, printing))
    if not said.signal_known.any():
        raise UserError(f"{shards}: no record of the {split} split has a signal to print; leave out --conditions")
    kept = said.signal_known
    probability = {name: values[kept] for name, values in said.probability.items()}
    truth = said.target[kept], said.known[kept], facts.label_space.keys, facts.thresholds, said.patients[kept]
    return Conditions(
        scores=score_conditions(probability, *truth, num_resamples),
        pages=example_of(facts, printing, shards, split),
        prints=printing.described,
        records=int(kept.sum()),
        without_signal=int((~kept).sum()),
        patients=len(np.unique(said.patients[kept])),
        num_resamples=num_resamples,
    )


def read_worn(printing: Printing, predictor: Predictor, decoder: BatchDecoder, rows: pa.Table) -> pa.Table:
    """One batch under every condition, each in the place of a stream: NaN where a record has no signal."""
    batch = decoder.batch(rows)
    pages = printing.printed(batch)
    said = {name: _said(printing, predictor, batch.record_id, pages, name) for name in printing.conditions}
    return prediction_table(rows, batch, said, {})


def _said(
    printing: Printing,
    predictor: Predictor,
    record_ids: Sequence[str],
    pages: Sequence[PrintedPage | None],
    condition: str,
) -> np.ndarray:
    worn = [printing.worn(page, name, condition) for page, name in zip(pages, record_ids, strict=True) if page]
    probability = np.full((len(pages), len(predictor.bundle.label_space.labels)), np.nan, np.float32)
    if worn:
        probability[[page is not None for page in pages]] = predictor.predict_pages(np.stack(worn))
    return probability


def example_of(facts: Bundle, printing: Printing, shards: Path | str, split: str) -> tuple[ConditionPage, ...]:
    """The first record that has a signal, as the model sees it under every condition."""
    decoder = BatchDecoder(facts.label_space, printing.spec)
    for rows in _row_groups(shards, split):
        batch = decoder.batch(rows)
        for page, name in zip(printing.printed(batch), batch.record_id, strict=True):
            if page:
                return tuple(
                    ConditionPage(
                        condition=condition,
                        record_id=name,
                        picture=encoded(mask_text(printing.worn(page, name, condition).transpose(1, 2, 0)), quality=92),
                    )
                    for condition in printing.conditions
                )
    return ()


def _row_groups(shards: Path | str, split: str) -> Iterator[pa.Table]:
    for name in SPLITS if split == "all" else (split,):
        yield from (read_row_group(RowGroup(*group)) for group in read_row_index(shards, name))
