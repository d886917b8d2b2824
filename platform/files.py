"""Writing so that a reader sees the old file or the new one, never a half."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import UserError


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace `path` in one step; its folder must exist."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def claim_folder(marker: Path, facts: dict[str, Any], hint: str = "") -> bool:
    """Mark a folder as the place of the run that `facts["identity"]` names; true where that run was here before.

    Raises:
        UserError: another run was here, or something that is none.
    """
    was_here = marker.exists()
    if was_here and _identity_in(marker) != facts["identity"]:
        choices = f"choose another OUT{', or ' + hint if hint else ''}"
        raise UserError(f"{marker.parent}: holds a run with another configuration or other input; {choices}")
    if not was_here and (strange := _strangers(marker)):
        raise UserError(f"{marker.parent}: holds {strange[0]!r} and no run that could go on; choose another OUT")
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, json.dumps(facts, indent=2) + "\n")
    return was_here


def _identity_in(marker: Path) -> str | None:
    try:
        facts = json.loads(marker.read_text())
    except ValueError:
        return None
    return facts.get("identity") if isinstance(facts, dict) else None


def _strangers(marker: Path) -> list[str]:
    """What lies in the folder, but for a marker whose writing was cut short."""
    if not marker.parent.exists():
        return []
    return sorted(path.name for path in marker.parent.iterdir() if not path.name.startswith(f".{marker.name}-"))


def replace_on_disk(written: str, path: str) -> None:
    """Move a file within its folder so that, after a loss of power too, it is there whole."""
    _to_disk(written)
    os.replace(written, path)
    with suppress(OSError):  # Some network file systems do not know this of folders.
        _to_disk(os.path.dirname(path))


def _to_disk(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
