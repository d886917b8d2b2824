"""Which pages a report shows: one that the model reads rightly for each label, and its surest mistakes.

Shapes: N records, K labels.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..bundle import Bundle
from ..data.dataset_info import shard_files
from ..data.masking import mask_text
from ..data.reading.pictures import decode_picture
from ..data.splits import SPLITS
from ..predictor import Predictor
from ..storage import filesystem_of
from .contact_sheet import choose_errors, encoded, wrongness
from .explain import ATTENTION_RGB, explain_attention, explain_page, overlay
from .predict import Predictions
from .report_data import ExamplePage, Overlay

_MAX_LABELS = 7
_NUM_MISTAKES = 3


def choose_examples(predictions: Predictions, bundle: Bundle) -> list[int]:
    """Rows (n,): the most typical right reading of each label, then the records that are farthest from the truth."""
    probability = predictions.probability[bundle.deployed_stream]
    positive = (predictions.target > 0.5) & predictions.known
    all_right = wrongness(predictions, bundle) == 0
    claimed = probability >= np.array(bundle.thresholds)
    chosen: list[int] = []
    for k in range(min(_MAX_LABELS, probability.shape[1])):
        candidates = np.flatnonzero(positive[:, k] & claimed[:, k] & all_right)
        left = candidates[~np.isin(candidates, chosen)]
        if len(left):
            # The median, not the surest: what a reader will meet.
            chosen.append(int(left[np.argsort(probability[left, k])[len(left) // 2]]))
    return chosen + choose_errors(predictions, bundle, _NUM_MISTAKES)


def example_pages(
    bundle: Bundle,
    predictions: Predictions,
    rows: list[int],
    pages: dict[str, bytes],
    predictor: Predictor | None = None,
) -> tuple[ExamplePage, ...]:
    """These rows with their pages by record id, probabilities and truth; explained where a predictor is given."""
    probability = predictions.probability[bundle.deployed_stream]
    return tuple(
        ExamplePage(
            title=predictions.record_id[n],
            page=encoded(mask_text(decode_picture(pages[predictions.record_id[n]])), quality=92),
            probabilities=_by_key(bundle, probability[n]),
            thresholds=_by_key(bundle, np.array(bundle.thresholds)),
            truth={
                key: bool(predictions.target[n, k]) if predictions.known[n, k] else None
                for k, key in enumerate(bundle.label_space.keys)
            },
            overlays=explained(predictor, pages[predictions.record_id[n]], probability[n]) if predictor else (),
        )
        for n in rows
    )


def explained(predictor: Predictor, page: bytes, probability: np.ndarray) -> tuple[Overlay, ...]:
    """What speaks for the label of a page that is farthest above its threshold, and what SMAM looks at."""
    label = int(np.argmax(probability - np.array(predictor.bundle.thresholds)))
    prepared = predictor.prepare(page)
    picture = mask_text(prepared.transpose(1, 2, 0))
    name = predictor.bundle.label_space.labels[label].name
    cam = overlay(picture, explain_page(predictor, prepared, label))
    overlays = [Overlay(caption=f"What speaks for {name} (Grad-CAM)", picture=encoded(cam))]
    attention = explain_attention(predictor, prepared)
    if attention is not None:
        drawn = encoded(overlay(picture, attention, ATTENTION_RGB))
        overlays.append(Overlay(caption="What SMAM looks at (attention of its last round)", picture=drawn))
    return tuple(overlays)


def read_pages(shards: Path | str, split: str, record_ids: Iterable[str]) -> dict[str, bytes]:
    """Encoded pages of these records, by record id."""
    wanted = sorted(set(record_ids))
    found: dict[str, bytes] = {}
    splits = SPLITS if split == "all" else (split,)
    for file in (file for name in splits for file in shard_files(shards, name)):
        filesystem, path = filesystem_of(file)
        ids = pq.read_table(path, columns=["record_id"], filesystem=filesystem)["record_id"]
        if not pc.any(pc.is_in(ids, pc.cast(wanted, "string"))).as_py():
            continue
        rows = pq.read_table(path, columns=["record_id", "page"], filters=[("record_id", "in", wanted)],
                             filesystem=filesystem)  # fmt: skip
        found |= dict(zip(rows["record_id"].to_pylist(), rows["page"].to_pylist(), strict=True))
    return found


def _by_key(bundle: Bundle, values: np.ndarray) -> dict[str, float]:
    return {key: float(value) for key, value in zip(bundle.label_space.keys, values, strict=True)}
