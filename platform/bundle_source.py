"""A bundle wherever it lies: a folder of this machine, or a URI of which a copy is kept on this machine's disk."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow.fs as pafs

from .backends.cache import cache_folder
from .bundle_facts import CARD, FACTS, WEIGHTS, hash_of, read_values
from .errors import UserError
from .storage import filesystem_of, is_local, shown


def local_bundle(location: Path | str) -> Path:
    """The folder of the bundle at a path or URI; of a URI's a copy, by its content hash, fetched once a machine.

    Raises:
        UserError: nothing there, a kind of URI that is not known, or no bundle.
    """
    if is_local(location):
        return Path(shown(location))
    filesystem, root = filesystem_of(location)
    place = cache_folder() / "bundles"
    place.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix=".", dir=place))
    try:
        _fetch(filesystem, f"{root}/{FACTS}", fetched / FACTS, location)
        facts, bundle = read_values(fetched)
        kept = place / hashlib.sha256(bundle.content_hash.encode()).hexdigest()
        if not kept.is_dir():
            for name in (WEIGHTS, CARD):
                _fetch(filesystem, f"{root}/{name}", fetched / name, location)
            # It may be uploaded anew at this moment: nothing is kept that does not belong together.
            if hash_of(facts, (fetched / WEIGHTS).read_bytes()) != bundle.content_hash:
                raise UserError(f"{shown(location)}: the bundle is damaged, or is being written; try again later")
            try:
                os.replace(fetched, kept)
            except OSError:
                if not kept.is_dir():  # Else another process was faster.
                    raise
        return kept
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def _fetch(filesystem: pafs.FileSystem, source: str, target: Path, location: Path | str) -> None:
    try:
        with filesystem.open_input_stream(source) as stream, target.open("wb") as sink:
            shutil.copyfileobj(stream, sink, 1 << 20)
    except FileNotFoundError:
        missing = f"no model bundle here ({target.name} is missing); `vizecg train` writes one to OUT/bundle"
        raise UserError(f"{shown(location)}: {missing}") from None
    except OSError as error:
        raise UserError(
            f"{shown(location)}: the bundle cannot be read ({error.strerror or 'the storage failed'})"
        ) from error
