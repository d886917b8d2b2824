"""What bundle.json says: model, labels, calibration, thresholds and page preprocessing, checked."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .. import __version__
from .calibration import LabelCalibration
from .config import ModelConfig, TrainConfig
from .data.labels import LabelSpace
from .data.read_page import PageSpec
from .errors import UserError
from .page_look import LearnedPages
from .reference import Reference
from .settings import explain

SCHEMA_VERSION = 1
FACTS, WEIGHTS, CARD = "bundle.json", "model.safetensors", "MODEL_CARD.md"
"""The files of a bundle."""


def _none_is_empty(value: object) -> object:
    # What the first bundles hold.
    return dict[str, object]() if value is None else value


class Recalibration(BaseModel):
    """Where calibration and thresholds come from, if not from the validation split of the training data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset_fingerprint: str
    sources: tuple[str, ...]
    num_records: int
    original_bundle: str
    """Content hash of the bundle with the same weights that was recalibrated."""
    refitted: tuple[str, ...]
    """Keys of the labels with a new calibration and threshold."""
    shifted: tuple[str, ...]
    """Keys of the labels that were only moved to the new prevalence."""
    kept: tuple[str, ...]
    """Keys of the labels that stayed, for want of positives or negatives."""


class Bundle(BaseModel):
    """What bundle.json holds."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    schema_version: int = SCHEMA_VERSION
    package_version: str = __version__
    model: ModelConfig
    deployed_stream: str
    label_space: LabelSpace
    thresholds: list[float]
    """Per label, on the calibrated probabilities of `backend`, chosen on the validation split."""
    teacher_thresholds: dict[str, list[float]] = {}
    """The same for the streams that only training and evaluation have, by stream."""
    calibration: Annotated[dict[str, list[LabelCalibration]], BeforeValidator(_none_is_empty)] = {}
    """Per label, by stream; where a stream is missing, its probabilities are the sigmoid of its logits."""
    abstention_widths: list[Annotated[float, Field(ge=0)]] | None = None
    """Per label of the deployed stream, in log-odds: nearer to its threshold the model had better not decide."""
    page: PageSpec
    learned_pages: LearnedPages | None = None
    """How the pages of training looked; None of bundles from before, of models that read signals alone, and where there
    were too few."""
    backend: str = "torch-fp32"
    """What computed the probabilities that calibration and thresholds were chosen on."""
    metrics: dict[str, float | None] = {}
    """On the validation split."""
    sampling_rate_hz: float | None = None
    """Of the signals in training; only the streams that read signals care."""
    dataset_fingerprint: str = ""
    """Of the training data."""
    train_config: TrainConfig
    recalibration: Recalibration | None = None
    reference: Reference | None = None
    """What the deployed stream said on the records that calibration and thresholds come from."""
    content_hash: str = ""
    """SHA-256 over the weights and every other field."""

    @model_validator(mode="after")
    def _one_for_every_label(self) -> "Bundle":
        lists: dict[str, list[Any] | None] = {
            "thresholds": self.thresholds,
            "abstention widths": self.abstention_widths,
            "reference histograms": self.reference.histogram if self.reference else None,
        }
        lists |= {f"thresholds of stream {name}": values for name, values in self.teacher_thresholds.items()}
        lists |= {f"calibrations of stream {name}": values for name, values in self.calibration.items()}
        for what, values in lists.items():
            if values is not None and len(values) != len(self.label_space.labels):
                raise ValueError(
                    f"{len(values)} {what} for {len(self.label_space.labels)} labels; the bundle was edited by hand"
                )
        return self

    @property
    def deployed_calibration(self) -> list[LabelCalibration]:
        """Of the deployed stream, one a label also where nothing was fitted."""
        return self.calibration.get(self.deployed_stream) or [LabelCalibration()] * len(self.label_space.labels)


def hash_of(facts: dict[str, Any], weights: bytes) -> str:
    """The content hash of bundle.json's values and the weights' bytes.

    Of the values as they stand in the file: a later version, with defaults of its own, still finds the same.
    """
    stated = {key: value for key, value in facts.items() if key != "content_hash"}
    return hashlib.sha256(hashlib.sha256(weights).digest() + json.dumps(stated, sort_keys=True).encode()).hexdigest()


def read_values(folder: Path) -> tuple[dict[str, Any], Bundle]:
    """The values of a bundle's bundle.json as they stand there, and checked; UserError where there is none."""
    path = folder / FACTS
    if not path.is_file():
        raise UserError(f"{folder}: no model bundle here ({FACTS} is missing); `vizecg train` writes one to OUT/bundle")
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if facts.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {facts.get('schema_version')}; this VizECG reads {SCHEMA_VERSION}")
        return facts, Bundle.model_validate(facts)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Bundle)}") from None
    except (ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a bundle's JSON ({error})") from None


def read_checked(folder: Path) -> tuple[Bundle, bytes]:
    """Facts and weights that belong together; UserError where there is no bundle or a damaged one."""
    facts, bundle = read_values(folder)
    weights = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else b""
    if hash_of(facts, weights) != bundle.content_hash:
        raise UserError(f"{folder}: the bundle is damaged: its weights or facts are not those it was written with")
    return bundle, weights
