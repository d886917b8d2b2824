"""The model bundle: one folder that holds all that a prediction needs, and nothing that has to be unpickled.

model.safetensors   weights
bundle.json         model, labels, calibration, thresholds, page preprocessing, metrics, content hash (bundle_facts.py)
MODEL_CARD.md       the same for people
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..models.registry import build_model
from .bundle_facts import CARD, FACTS, WEIGHTS, Bundle, hash_of, read_checked, read_values
from .errors import UserError
from .model_card import model_card


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
    bundle, weights = read_checked(Path(folder))
    try:
        return bundle, loaded_model(bundle, safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: the weights do not fit {bundle.model.name}: {reason}") from None


def check_bundle(folder: Path | str) -> Bundle:
    """The facts of a bundle that is whole, its weights too; UserError where there is none or a damaged one.

    For drivers: a mistake that only their workers meet ends in a stack trace.
    """
    return read_checked(Path(folder))[0]


def loaded_model(bundle: Bundle, state_dict: dict[str, Tensor]) -> nn.Module:
    """The bundle's model with these weights, in evaluation mode."""
    model = build_model(bundle.model.name, bundle.model.size, len(bundle.label_space.labels), bundle.model.options)
    model.load_state_dict(state_dict)
    return model.eval()


def read_facts(folder: Path | str) -> Bundle:
    """The checked facts of a bundle, without its weights; UserError where there is none or a damaged one."""
    return read_values(Path(folder))[1]
