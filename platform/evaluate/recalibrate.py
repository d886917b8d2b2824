"""`vizecg recalibrate`: a bundle for another site, where the labels are more or less frequent; its weights stay.

OUT/bundle   the bundle with the calibration, thresholds and abstention of the site's labelled pages
OUT/shards   those pages as shards, where they came as an archive
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from ..bundle import Bundle, load_bundle, save_bundle
from ..bundle_facts import Recalibration
from ..calibration import apply_calibration
from ..data.dataset_info import INFO_FILE, DatasetInfo, load_dataset_info, shard_config
from ..data.shards import write_shards
from ..errors import UserError
from ..files import claim_folder
from ..reference import reference_of
from .abstention import abstention_band
from .calibrate import MIN_FOR_REFIT, Refit, refit_calibration
from .predict import Predictions, predict_split
from .thresholds import choose_thresholds

MARKER = "run.json"


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """The new bundle's folder and facts."""

    folder: Path
    bundle: Bundle

    @property
    def note(self) -> Recalibration:
        assert self.bundle.recalibration is not None
        return self.bundle.recalibration

    def sentences(self) -> list[str]:
        """What happened to which labels."""
        groups = {
            "fitted anew": self.note.refitted,
            f"moved to the new prevalence, for want of {MIN_FOR_REFIT} positives and negatives": self.note.shifted,
            "kept as before, for want of positives or negatives": self.note.kept,
        }
        return [f"{what}: {', '.join(keys)}" for what, keys in groups.items() if keys]


def recalibrate_bundle(
    bundle: Path | str, source: Path | str, out: Path | str, *, split: str = "all", num_actors: int = 1
) -> Recalibrated:
    """Fit the deployed stream's calibration and thresholds on labelled pages and write OUT/bundle.

    A label without positives or negatives keeps what it had. With fewer than 10 of either, its calibration is shifted
    to the new prevalence, and its threshold with it: it still finds the same pages. The streams that only training has
    stay as they are.

    Args:
        source: shards, or an archive of labelled pages, which is written to OUT/shards first.
        split: of the shards; all of them by default, since nobody trained on them.

    Raises:
        UserError: no bundle, nothing labelled there, or OUT is the bundle's own place or another run's.
    """
    bundle, source, out = Path(bundle).resolve(), Path(source).absolute(), Path(out).resolve()
    facts, model = load_bundle(bundle)
    _claim(out, bundle, facts, source, split)
    shards = source if (source / INFO_FILE).exists() else _write_shards(source, out / "shards", facts)
    predictions = predict_split(bundle, shards, split, num_actors)
    refits = _refits(facts, predictions)
    if all(refit.how == "kept" for refit in refits):
        raise UserError(
            f"{source}: no label of {facts.label_space.name} has both positive and negative records there, so there is "
            "nothing to fit; use more pages, or write their labels in the codes of that label space"
        )
    note = _note(facts, refits, load_dataset_info(shards), len(predictions))
    new = facts.model_copy(update={**_operating_points(facts, refits, predictions), "recalibration": note})
    return Recalibrated(folder=out / "bundle", bundle=save_bundle(out / "bundle", new, model.state_dict()))


def _claim(out: Path, bundle: Path, facts: Bundle, source: Path, split: str) -> None:
    if out == bundle.parent or out.is_relative_to(bundle):
        raise UserError(f"{out}: the bundle that is recalibrated lies there itself; choose another OUT")
    stated = {"recalibrated": facts.content_hash, "source": str(source), "split": split}
    identity = hashlib.sha256(json.dumps(stated).encode()).hexdigest()
    claim_folder(out / MARKER, {"identity": identity, **stated})


def _write_shards(archive: Path, shards: Path, facts: Bundle) -> Path:
    page = {"width_px": facts.page.width_px, "height_px": facts.page.height_px}
    rate = {"sampling_rate_hz": facts.sampling_rate_hz} if facts.sampling_rate_hz else {}
    write_shards(archive, shards, shard_config(page=page, val_fraction=0.0, test_fraction=0.0, **rate))
    return shards


def _refits(facts: Bundle, predictions: Predictions) -> list[Refit]:
    logits = predictions.logits[facts.deployed_stream]
    known = predictions.known_to(facts.deployed_stream)
    return refit_calibration(logits, predictions.target, known, facts.deployed_calibration)


def _operating_points(facts: Bundle, refits: list[Refit], predictions: Predictions) -> dict[str, Any]:
    """Calibration, thresholds and abstention of the deployed stream."""
    stream, known = facts.deployed_stream, predictions.known_to(facts.deployed_stream)
    calibration = [refit.calibration for refit in refits]
    probability = apply_calibration(predictions.logits[stream], calibration)
    chosen = choose_thresholds(probability, predictions.target, known, facts.train_config.threshold_recall)
    # A handful of positives cannot choose a threshold: it moves with the probabilities.
    moved = expit(logit(np.array(facts.thresholds)) + [refit.shift for refit in refits])
    refitted = [refit.how == "refitted" for refit in refits]
    thresholds = np.where(refitted, chosen, moved)
    widths = abstention_band(probability, known, thresholds)
    seen = predictions.seen_by(stream)
    before = widths if facts.abstention_widths is None else facts.abstention_widths
    return {
        "calibration": {**facts.calibration, stream: calibration},
        "thresholds": thresholds.tolist(),
        "abstention_widths": np.where(refitted, widths, before).tolist(),
        "reference": reference_of(probability[seen], predictions.target[seen], known[seen], thresholds),
    }


def _note(facts: Bundle, refits: list[Refit], info: DatasetInfo, num_records: int) -> Recalibration:
    keys: dict[str, list[str]] = {"refitted": [], "shifted": [], "kept": []}
    for key, refit in zip(facts.label_space.keys, refits, strict=True):
        keys[refit.how].append(key)
    return Recalibration(
        dataset_fingerprint=info.fingerprint,
        sources=tuple(info.sources),
        num_records=num_records,
        original_bundle=facts.content_hash,
        **{how: tuple(names) for how, names in keys.items()},
    )
