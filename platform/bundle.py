"""The model bundle: one folder that holds all that a prediction needs, and nothing that has to be unpickled.

model.safetensors   weights
bundle.json         model, labels, thresholds, page preprocessing, operating metrics, content hash
MODEL_CARD.md       the same for people
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from .. import __version__
from ..models.registry import build_model
from .config import ModelConfig, TrainConfig, explain
from .data.labels import LabelSpace
from .data.read_page import PageSpec
from .errors import UserError

SCHEMA_VERSION = 1
WEIGHTS, FACTS, CARD = "model.safetensors", "bundle.json", "MODEL_CARD.md"


class Bundle(BaseModel):
    """What bundle.json holds."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    schema_version: int = SCHEMA_VERSION
    package_version: str = __version__
    model: ModelConfig
    deployed_stream: str
    label_space: LabelSpace
    thresholds: list[float]
    """Per label, on the probabilities of `backend`, chosen on the validation split."""
    teacher_thresholds: dict[str, list[float]] = {}
    """The same for the streams that only training and evaluation have, by stream."""
    calibration: None = None
    """Reserved: probabilities are the sigmoid of the logits as they are."""
    page: PageSpec
    backend: str = "torch-fp32"
    """What computed the probabilities that the thresholds were chosen on."""
    metrics: dict[str, float | None] = {}
    """On the validation split."""
    sampling_rate_hz: float | None = None
    """Of the signals in training; only the streams that read signals care."""
    dataset_fingerprint: str = ""
    train_config: TrainConfig
    content_hash: str = ""
    """SHA-256 over the weights and every other field."""


def hash_of(facts: dict[str, Any], weights: bytes) -> str:
    """The content hash of bundle.json's values and the weights' bytes.

    Of the values as they stand in the file: a later version, with defaults of its own, still finds the same.
    """
    stated = {key: value for key, value in facts.items() if key != "content_hash"}
    return hashlib.sha256(hashlib.sha256(weights).digest() + json.dumps(stated, sort_keys=True).encode()).hexdigest()


def save_bundle(folder: Path, bundle: Bundle, state_dict: dict[str, Tensor]) -> Bundle:
    """Write the bundle; `folder` appears whole or not at all, in place of an older one. The bundle with its hash."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights = safetensors.torch.save({name: tensor.contiguous().cpu() for name, tensor in state_dict.items()})
    bundle = bundle.model_copy(update={"content_hash": hash_of(json.loads(bundle.model_dump_json()), weights)})
    written = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (written / WEIGHTS).write_bytes(weights)
        (written / FACTS).write_text(bundle.model_dump_json(indent=2) + "\n")
        (written / CARD).write_text(model_card(bundle))
        written.chmod(0o755)
        _put_in_place(written, folder)
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise
    return bundle


def _put_in_place(written: Path, folder: Path) -> None:
    """Rename `written` to `folder`; an older folder goes only once the new one stands."""
    if not folder.exists():
        os.replace(written, folder)
        return
    older = written.with_name(f"{written.name}-older")
    os.replace(folder, older)
    try:
        os.replace(written, folder)
    except BaseException:
        os.replace(older, folder)
        raise
    shutil.rmtree(older)


def load_bundle(folder: Path | str) -> tuple[Bundle, nn.Module]:
    """The checked bundle and its model in evaluation mode.

    Raises:
        UserError: no bundle, a damaged one, or one of another schema version.
    """
    bundle, weights = _checked(Path(folder))
    try:
        return bundle, loaded_model(bundle, safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: the weights do not fit {bundle.model.name}: {reason}") from None


def check_bundle(folder: Path | str) -> Bundle:
    """The facts of a bundle that is whole, its weights too; UserError where there is none or a damaged one.

    For drivers: a mistake that only their workers meet ends in a stack trace.
    """
    return _checked(Path(folder))[0]


def _checked(folder: Path) -> tuple[Bundle, bytes]:
    """Facts and weights that belong together."""
    facts, bundle = _read_facts(folder)
    weights = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else b""
    if hash_of(facts, weights) != bundle.content_hash:
        raise UserError(f"{folder}: the bundle is damaged: its weights or facts are not those it was written with")
    return bundle, weights


def loaded_model(bundle: Bundle, state_dict: dict[str, Tensor]) -> nn.Module:
    """The bundle's model with these weights, in evaluation mode."""
    model = build_model(bundle.model.name, bundle.model.size, len(bundle.label_space.labels), bundle.model.options)
    model.load_state_dict(state_dict)
    return model.eval()


def read_facts(folder: Path | str) -> Bundle:
    """The checked facts of a bundle, without its weights; UserError where there is none or a damaged one."""
    return _read_facts(Path(folder))[1]


def _read_facts(folder: Path) -> tuple[dict[str, Any], Bundle]:
    """The values of bundle.json as they stand there, and checked."""
    path = folder / FACTS
    if not path.is_file():
        raise UserError(f"{folder}: no model bundle here ({FACTS} is missing); `vizecg train` writes one to OUT/bundle")
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if facts.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {facts.get('schema_version')}; this VizECG reads {SCHEMA_VERSION}")
        bundle = Bundle.model_validate(facts)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Bundle)}") from None
    except (ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a bundle's JSON ({error})") from None
    if len(bundle.thresholds) != len(bundle.label_space.labels):
        raise UserError(
            f"{path}: {len(bundle.thresholds)} thresholds for {len(bundle.label_space.labels)} labels; "
            "the bundle was edited by hand"
        )
    return facts, bundle


def model_card(bundle: Bundle) -> str:
    """The bundle for people, as Markdown."""
    labels = "\n".join(
        f"| {label.key} | {label.name} | {threshold:.3f} |"
        for label, threshold in zip(bundle.label_space.labels, bundle.thresholds, strict=True)
    )
    metrics = "\n".join(
        f"| {name.removeprefix('val_').replace('_', ' ')} | {'undefined' if value is None else f'{value:.3f}'} |"
        for name, value in bundle.metrics.items()
    )
    return f"""# {bundle.model.name} ({bundle.model.size})

Reads a picture of a printed 12-lead ECG and gives a probability per label. For research; not a medical device.

- Label space: {bundle.label_space.name}
- Page as the model sees it: {bundle.page.width_px} x {bundle.page.height_px} px
- Deployed stream: {bundle.deployed_stream}; backend {bundle.backend}
- Trained by VizECG {bundle.package_version} on data with fingerprint `{bundle.dataset_fingerprint[:16]}`
- Content hash: `{bundle.content_hash[:16]}`

## Labels and thresholds
Chosen for the best F1 on the validation split.

| label | meaning | threshold |
|---|---|---|
{labels}

## On the validation split

| metric | value |
|---|---|
{metrics}
"""
