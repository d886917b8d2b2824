"""OUT/run.json: what a run is, so that two bundles, two inputs or two ways of reading never share a table."""

import json
import posixpath
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow.fs as pafs

from ... import __version__
from ..bundle_facts import Bundle
from ..errors import UserError
from ..storage import filesystem_of, shown, what_is, write_whole
from .claim import LOCK
from .job import ScoreSettings
from .sources.base import Source, SourceSettings

RUN, SUMMARY = "run.json", "summary.json"
_MAY_STAND_BEFORE = (LOCK, "plan.html", "plan.json")
_MUST_AGREE = {
    "bundle_hash": "another bundle",
    "input_identity": "other input",
    "reading": "another way of reading pages",
    "sources": "another way of drawing or finding pages",
}


def check_places(source: str, out: str) -> None:
    """UserError where the scores would lie among what is scored, which would then be another input."""
    if f"{shown(out).rstrip('/')}/".startswith(f"{shown(source).rstrip('/')}/") and what_is(source) == "folder":
        raise UserError(f"{shown(out)}: lies in the input {shown(source)}; choose an OUT outside of it")


def describe(
    bundle: str, facts: Bundle, source: Source, place: str, settings: ScoreSettings, sources: SourceSettings
) -> dict[str, Any]:
    """What OUT/run.json holds, but for the backend; places without keys and passwords."""
    return {
        "version": __version__,
        "bundle": shown(bundle),
        "bundle_hash": facts.content_hash,
        "label_keys": list(facts.label_space.keys),
        "source": shown(place),
        "kind": source.kind,
        "num_items": source.num_items,
        "left_out": dict(source.left_out),
        "input_identity": source.identity,
        "reading": asdict(settings.reading),
        "sources": json.loads(json.dumps(asdict(sources))),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def earlier_run(out: str, run: dict[str, Any], backend: str) -> dict[str, Any] | None:
    """What the run in `out` is, which this one goes on with; None where there is none yet.

    Raises:
        UserError: the run there is another one, or something lies there that is none.
    """
    filesystem, root = filesystem_of(out)
    found = read_json(filesystem, posixpath.join(root, RUN))
    if found is None:
        _refuse_strangers(filesystem, root, out)
        return None
    for key, what in _MUST_AGREE.items():
        if found.get(key) != run[key]:
            raise UserError(f"{shown(out)}: holds scores of {what}; choose another OUT")
    if backend not in ("auto", found["backend"]):
        raise UserError(
            f"{shown(out)}: was begun with the backend {found['backend']}, not {backend}; choose another OUT"
        )
    return found


def save_run(out: str, run: dict[str, Any]) -> None:
    filesystem, root = filesystem_of(out)
    write_whole(filesystem, posixpath.join(root, RUN), (json.dumps(run, indent=2) + "\n").encode())


def read_json(filesystem: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    """The object in that file; None where there is none."""
    try:
        with filesystem.open_input_file(path) as file:
            found = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_strangers(filesystem: pafs.FileSystem, root: str, out: str) -> None:
    found = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    # A file whose writing was cut short by a kill has a dot before its name.
    strange = sorted(
        info.base_name for info in found
        if info.base_name not in _MAY_STAND_BEFORE and not info.base_name.startswith((".", f"{RUN}."))
    )  # fmt: skip
    if strange:
        raise UserError(f"{shown(out)}: holds {strange[0]!r} and no run that could go on; choose another OUT")
