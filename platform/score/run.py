"""`vizecg score`: pages in, a table of probabilities out, every page exactly once.

OUT/run.json        what this run is (identity.py)
OUT/run.lock        who writes (claim.py)
OUT/scores/         the table (rows.py) in even files (output.py)
OUT/progress/       rows not in them yet; gone when all is done
OUT/report.html     what came out, to look at (report.py)
OUT/summary.json    the same as numbers; written last
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...models.registry import MODELS
from ..backends.cache import compile_cached
from ..backends.compiled import Compiled
from ..backends.torch_backend import require_pages
from ..bundle import check_bundle
from ..bundle_facts import Bundle
from ..errors import PageError, UserError
from ..storage import filesystem_of, shown
from .claim import claimed
from .finish import finish_run
from .follow import Follower
from .identity import SUMMARY, check_places, describe, earlier_run, read_json, save_run
from .job import Chunk, OnProgress, PoolSettings, ScoreSettings
from .monitor import metrics_endpoint
from .output import ScoreFiles
from .pipeline import Pool, resolve_pool, scored
from .rows import READER_DIED, ScoredPage, rows_of, schema_of
from .scorer import ScorerJob
from .sources import open_source
from .sources.base import Source, SourceSettings

MAX_CRASHED = 1000
"""Items that may be given up as killers of their readers; more of them mean that something else kills processes."""
DOCUMENT_SUFFIXES = (".pdf", ".tif", ".tiff", ".dcm", ".dicom")
_DOCUMENT_PAGES = 16
"""As many a document counts when chunks are cut; how many it has is known when it is open."""


def score_pages(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    settings: ScoreSettings | None = None,
    sources: SourceSettings | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Score what `source` names into `out`; the summary. The same call goes on where one was stopped.

    Args:
        source: pictures (a folder, one, a glob, a .txt list), a Parquet table, shards, a signal archive or DICOM files;
            a local path or a URI.
        out: a local folder or a URI.

    Raises:
        UserError: no bundle, one that needs signals, nothing to score; OUT is in use or holds scores of another bundle,
            input or way of reading; a greater share of pages than `settings.max_rejected` was rejected.
    """
    settings, sources, out = settings or ScoreSettings(), sources or SourceSettings(), str(out)
    facts = check_bundle(bundle)
    require_pages(facts, MODELS[facts.model.name].model, bundle)
    check_places(str(source), out)
    found = open_source(str(source), sources)
    run = describe(str(bundle), facts, found, str(source), settings, sources)
    with claimed(out) as claim:
        earlier = earlier_run(out, run, settings.backend)
        filesystem, root = filesystem_of(out)
        if earlier and (summary := read_json(filesystem, posixpath.join(root, SUMMARY))):
            return summary
        # What a run is stands before its first file: a folder with files alone is taken for somebody else's.
        compiled: Compiled | None = None
        if earlier:
            run = earlier
        else:
            compiled = _compiled(bundle, settings.backend, settings)
            run["backend"] = compiled.name
            save_run(out, run)
        schema = schema_of(facts.label_space.keys)
        files = ScoreFiles(out, schema, settings.rows_per_file, found.num_items, claim)
        follower = Follower(files, on_progress, settings.max_rejected)
        if not files.done.all():
            compiled = compiled or _compiled(bundle, str(run["backend"]), settings)
            names = {"bundle_hash": facts.content_hash, "backend": compiled.name}
            endpoint = metrics_endpoint(settings.metrics_port, host=settings.metrics_host, **names)
            with endpoint as update, follower.watched(update):
                _score(found, files, follower, facts, compiled, settings)
        follower.judge()
        files.finish()
        return finish_run(out, run, facts, found, settings.reading, follower)


def _compiled(bundle: Path | str, backend: str, settings: ScoreSettings) -> Compiled:
    return compile_cached(bundle, backend, "cuda" if settings.pool.gpus_per_predictor else "cpu")[1]


def _score(
    source: Source, files: ScoreFiles, follower: Follower, facts: Bundle, compiled: Compiled, settings: ScoreSettings
) -> None:
    """Until no item is missing: first in chunks, then, what killed or broke its reader, one by one."""
    pool = resolve_pool(settings.pool)
    try:
        for careful in (False, True):
            if files.done.all():
                return
            chunks = _chunks(source, files.done.copy(), settings.pool, one_by_one=careful)
            job = _job(source, facts, compiled, settings, pool)
            for worker, rows in scored(chunks, job, pool, alone=careful):
                _take(worker, rows, files, follower)
        _give_up(source, files, follower, facts, compiled.name)
    finally:
        files.flush()


def _take(worker: str, rows: pa.Table, files: ScoreFiles, follower: Follower) -> None:
    before = files.pages
    files.add(rows)
    # Nothing new where a chunk came a second time, from a predictor that was thought dead.
    if files.pages > before:
        follower.after(worker, len(rows), len(np.unique(rows["row"].to_numpy())))


def _job(source: Source, facts: Bundle, compiled: Compiled, settings: ScoreSettings, pool: Pool) -> ScorerJob:
    return ScorerJob(
        bundle_json=facts.model_dump_json(),
        compiled=compiled,
        reader=source.reader,
        reading=settings.reading,
        num_threads=pool.cpus,
        device=pool.device,
        batch_pages=pool.batch_pages,
    )


def _chunks(source: Source, done: NDArray[np.bool_], pool: PoolSettings, one_by_one: bool) -> Iterator[Chunk]:
    """What is not done, in the input's order."""
    most = 1 if one_by_one else pool.chunk_pages
    rows: list[int] = []
    items: list[str] = []
    num_pages, num_bytes = 0, 0
    for row, (item, size) in enumerate(source.items()):
        if done[row]:
            continue
        pages = _DOCUMENT_PAGES if item.lower().endswith(DOCUMENT_SUFFIXES) else 1
        if rows and (num_pages + pages > most or num_bytes + size > pool.chunk_bytes):
            yield Chunk(tuple(rows), tuple(items))
            rows.clear()
            items.clear()
            num_pages, num_bytes = 0, 0
        rows.append(row)
        items.append(item)
        num_pages += pages
        num_bytes += size
    if rows:
        yield Chunk(tuple(rows), tuple(items))


def _give_up(source: Source, files: ScoreFiles, follower: Follower, facts: Bundle, backend: str) -> None:
    """Rows for items that killed every process that read them; nothing opens them again."""
    missing = int((~files.done).sum())
    if missing > MAX_CRASHED:
        raise UserError(
            f"the processes that read {missing:,} items died, too many for these items to be the reason; see whether "
            "the machines have enough memory, and run the same command again"
        )
    died = PageError(READER_DIED, "every process that read it died; the picture may need more memory than there is")
    for chunk in _chunks(source, files.done.copy(), PoolSettings(), one_by_one=True):
        (row,), (item,) = chunk.rows, chunk.items
        nothing = np.full((1, len(facts.label_space.keys)), np.nan, np.float32)
        name = shown(item) if "://" in item else item
        _take("", rows_of([ScoredPage(row, 1, name, name, died)], nothing, facts, backend), files, follower)
