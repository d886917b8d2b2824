"""What a bundle was compiled to, kept on this machine's disk: choosing and comparing backends takes half a minute once,
and whoever starts after that needs no torch.

$VIZECG_CACHE (~/.cache/vizecg where it is not set) / compiled / KEY / program, weights, facts.json

The key holds everything that decides the outcome: the bundle's hash, what was asked for, this processor and the
versions of what converts. Any file may be removed at any time.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ..bundle_facts import Bundle, read_checked
from .compiled import Compiled

_FORMAT = "1"


def cache_folder() -> Path:
    """Where this machine keeps what can be made again."""
    return Path(os.environ.get("VIZECG_CACHE") or Path.home() / ".cache" / "vizecg")


def find_compiled(folder: Path | str, backend: str = "auto", device: str = "cpu") -> tuple[Bundle, Compiled | None]:
    """What an earlier call on this machine has left, None where nothing; UserError where there is no whole bundle."""
    bundle, _ = read_checked(Path(folder))
    return bundle, _read(_place(bundle, backend, device))


def compile_cached(folder: Path | str, backend: str = "auto", device: str = "cpu") -> tuple[Bundle, Compiled]:
    """`choose.compile_bundle`, with its outcome from an earlier call on this machine where there is one.

    Raises:
        UserError: as `compile_bundle`.
    """
    bundle, kept = find_compiled(folder, backend, device)
    if kept is not None:
        return bundle, kept
    # Late: it imports torch, which a process that finds its backend compiled can do without.
    from .choose import compile_bundle

    compiled = compile_bundle(folder, backend, device)
    with suppress(OSError):  # A full or read-only disk: then it is made again next time.
        _write(_place(bundle, backend, device), compiled)
    return bundle, compiled


def _place(bundle: Bundle, backend: str, device: str) -> Path:
    return cache_folder() / "compiled" / _key(bundle.content_hash, backend, device)


def _key(content_hash: str, backend: str, device: str) -> str:
    from .openvino_backend import import_openvino

    processor = import_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")
    versions = [f"{name} {version(name)}" for name in ("vizecg", "openvino", "torch", "timm")]
    return hashlib.sha256(
        json.dumps([_FORMAT, content_hash, backend, device, processor, *versions]).encode()
    ).hexdigest()


def _read(place: Path) -> Compiled | None:
    """None where nothing is kept, or something else than was written."""
    try:
        facts = json.loads((place / "facts.json").read_text())
        program, weights = (place / "program").read_bytes(), (place / "weights").read_bytes()
    except (OSError, ValueError):
        return None
    if facts.get("digest") != _digest(program, weights):
        return None
    return Compiled(str(facts["name"]), program, weights, str(facts["note"]))


def _digest(program: bytes, weights: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(program).digest() + hashlib.sha256(weights).digest()).hexdigest()


def _write(place: Path, compiled: Compiled) -> None:
    """Whole or not at all; of two processes at once the second finds it there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    written = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    try:
        (written / "program").write_bytes(compiled.program)
        (written / "weights").write_bytes(compiled.weights)
        facts = {"name": compiled.name, "note": compiled.note, "digest": _digest(compiled.program, compiled.weights)}
        (written / "facts.json").write_text(json.dumps(facts))
        if place.exists():  # Damaged, or it would have been read.
            shutil.rmtree(place, ignore_errors=True)
        os.replace(written, place)
    finally:
        shutil.rmtree(written, ignore_errors=True)
