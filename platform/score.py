"""`vizecg score`: pages in, a Parquet table of probabilities out, on Ray Data.

The input is cut into parts that never change, and one part becomes one file, written whole. So a run that was stopped
goes on with the parts that are missing, and every page is in the output exactly once.

    OUT/parts/part-00000.parquet   id, status, reason, turned_deg, ecg_score, findings, p_<label> ..., bundle_hash
    OUT/summary.json               counts; written last
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .bundle import Bundle
from .data.batches import read_row_group
from .data.dataset_info import INFO_FILE, read_row_index
from .data.order import RowGroup
from .data.read_page import Reading, ReadPage
from .data.reading.pictures import num_pages
from .data.splits import SPLITS
from .errors import PageError, UserError
from .files import claim_folder, write_atomically
from .predictor import Predictor
from .ray_session import actor_pool, share_of_cores, start_ray

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pdf"})
PAGES_PER_PART = 256
_BATCH_PAGES = 32
_PREDICTOR_LIVES = 3

_OF_PAGES = (".pdf", ".tif", ".tiff")
"""Files that may hold several pages."""

NamedBytes = tuple[str, Callable[[], bytes]]
Prepared = tuple[str, ReadPage | PageError]

OnProgress = Callable[[int, int], None]
"""Called with pages done and pages in all, a file of several counted as one until it was read."""


@dataclass(frozen=True)
class Part:
    """A fixed share of the input: picture files, or one row group of shards."""

    number: int
    files: list[str]
    row_group: tuple[str, int, int] | None = None

    @property
    def num_pages(self) -> int:
        return self.row_group[2] if self.row_group else len(self.files)


@dataclass(frozen=True)
class Job:
    """What all parts have in common."""

    bundle: str
    out: Path
    reading: Reading


def score_pages(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    num_actors: int = 1,
    reading: Reading | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Score a folder of pictures, one picture, or shards; the summary. The same call goes on where one was stopped.

    `reading` is how pictures are read; pages of shards are read as they are.

    Raises:
        UserError: no bundle, one that needs signals, nothing to score, or OUT holds scores of another bundle or input.
    """
    bundle, source = Path(bundle).absolute(), Path(source).absolute()
    facts = Predictor.load(bundle, needs_pages=True).bundle
    parts = list(find_parts(source))
    out = Path(out).absolute()
    job = Job(str(bundle), out, reading or Reading())
    _claim(job, facts, source, parts)
    _score_missing(parts, job, num_actors, on_progress or (lambda done, total: None))
    summary = _summary([_file_of(out, part) for part in parts], facts)
    write_atomically(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def _score_missing(parts: list[Part], job: Job, num_actors: int, on_progress: OnProgress) -> None:
    """Score until no part is missing; a predictor that dies costs the parts it had in hand, and is started again."""
    from ray.exceptions import ActorDiedError

    total = sum(part.num_pages for part in parts)
    for lives_left in reversed(range(_PREDICTOR_LIVES)):
        missing = [part for part in parts if not _file_of(job.out, part).exists()]
        done = total - sum(part.num_pages for part in missing)
        try:
            for pages in _scored(missing, job, num_actors):
                done += pages
                on_progress(done, max(done, total))
            return
        except ActorDiedError:
            if not lives_left:
                raise


def find_parts(source: Path) -> Iterator[Part]:
    """The input's parts, the same at every call.

    Raises:
        UserError: nothing there to score.
    """
    if (source / INFO_FILE).exists():
        groups = [group for split in SPLITS for group in read_row_index(source, split)]
        yield from (Part(number, [], group) for number, group in enumerate(groups))
        return
    files = sorted(str(path) for path in _pictures(source))
    if not files:
        raise UserError(
            f"{source}: nothing to score; expected a picture, a folder with pictures "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}) or shards"
        )
    for number, start in enumerate(range(0, len(files), PAGES_PER_PART)):
        yield Part(number, files[start : start + PAGES_PER_PART])


def _pictures(source: Path) -> Iterable[Path]:
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if source.is_file():
        return [source]
    return (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _claim(job: Job, bundle: Bundle, source: Path | str, parts: list[Part]) -> None:
    """Mark OUT as this run's, so that two models or two inputs never share a table."""
    identity = hashlib.sha256(bundle.content_hash.encode())
    for part in parts:
        stated = [
            [file, *_size_and_time(Path(file))] for file in (part.row_group[:1] if part.row_group else part.files)
        ]
        identity.update(json.dumps([part.number, part.row_group, stated]).encode())
    facts = {"source": str(source), "bundle": bundle.content_hash, "reading": asdict(job.reading)}
    claim_folder(job.out / "run.json", {"identity": identity.hexdigest(), **facts})
    (job.out / "parts").mkdir(exist_ok=True)


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # A broken link is a page that cannot be read, and says so in its row.
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _file_of(out: Path, part: Part) -> Path:
    return out / "parts" / f"part-{part.number:05d}.parquet"


def _scored(parts: list[Part], job: Job, num_actors: int) -> Iterator[int]:
    """Pages of every finished part."""
    if not parts:
        return
    import ray

    start_ray(min_cpus=num_actors + 1)
    rows = [{"part": json.dumps(asdict(part)), "file": str(_file_of(job.out, part))} for part in parts]
    dataset = actor_pool(
        ray.data.from_items(rows, override_num_blocks=len(rows)), PartScorer, num_actors,
        (job.bundle, num_actors, job.reading),
        batch_size=1,
    )  # fmt: skip
    for batch in dataset.iter_batches(batch_size=None):
        yield int(batch["pages"].sum())


class PartScorer:
    """Ray Data actor: one part of the input -> its file of scores."""

    def __init__(self, bundle: str, num_actors: int, reading: Reading):
        self._predictor = Predictor.load(bundle, num_threads=share_of_cores(num_actors))
        self._reading = reading
        self._pool = ThreadPoolExecutor(2)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        part = Part(**json.loads(str(batch["part"][0])))
        table = self.score(part)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_atomically(Path(str(batch["file"][0])), buffer.getvalue())
        return {"pages": np.array([len(table)])}

    def score(self, part: Part) -> pa.Table:
        """Every page of the part as a row: its probabilities, or why there are none."""
        named = _pages_of(part)
        prepare = self._prepare if part.row_group is None else self._prepare_stored
        tables = []
        for start in range(0, len(named), _BATCH_PAGES):
            pages = list(chain.from_iterable(self._pool.map(prepare, named[start : start + _BATCH_PAGES])))
            tables.append(self._rows([name for name, _ in pages], [read for _, read in pages]))
        return pa.concat_tables(tables)

    def _prepare_stored(self, named: NamedBytes) -> list[Prepared]:
        """A page of shards, which are upright and ECGs."""
        name, read = named
        try:
            return [(name, ReadPage(pixels=self._predictor.prepare(read()), finding=None, note=None))]
        except PageError as error:
            return [(name, error)]

    def _prepare(self, named: NamedBytes) -> list[Prepared]:
        """All pages of a file; those of a PDF or TIFF of several are named file#1, file#2 ..."""
        name, read = named
        try:
            data = read()
            count = num_pages(data) if name.lower().endswith(_OF_PAGES) else 1
        except PageError as error:
            return [(name, error)]
        except OSError as error:
            return [(name, PageError("unreadable_file", f"cannot be read: {error.strerror}"))]
        return [(name if count == 1 else f"{name}#{page + 1}", self._read(data, page)) for page in range(count)]

    def _read(self, data: bytes, page: int) -> ReadPage | PageError:
        try:
            return self._predictor.read(data, self._reading, page=page)
        except PageError as error:
            return error

    def _rows(self, ids: list[str], prepared: list[ReadPage | PageError]) -> pa.Table:
        bundle = self._predictor.bundle
        accepted = {n: page.pixels for n, page in enumerate(prepared) if isinstance(page, ReadPage)}
        probability = np.full((len(ids), len(bundle.label_space.labels)), np.nan, np.float32)
        if accepted:
            probability[list(accepted)] = self._predictor.predict_pages(np.stack(list(accepted.values())))
        missing = np.isnan(probability)
        errors = [page if isinstance(page, PageError) else None for page in prepared]
        seen = [None if isinstance(page, PageError) else page.finding for page in prepared]
        findings = [
            [key for key, p, least in zip(bundle.label_space.keys, row, bundle.thresholds, strict=True) if p >= least]
            for row in probability
        ]
        columns: dict[str, pa.Array] = {
            "id": pa.array(ids, pa.string()),
            "status": pa.array(["rejected" if error else "scored" for error in errors], pa.string()),
            "reason": pa.array([error.reason if error else None for error in errors], pa.string()),
            "message": pa.array([str(error) if error else None for error in errors], pa.string()),
            "turned_deg": pa.array([found.turned_deg if found else None for found in seen], pa.int16()),
            "ecg_score": pa.array([found.ecg_score if found else None for found in seen], pa.float32()),
            "note": pa.array([None if isinstance(page, PageError) else page.note for page in prepared], pa.string()),
            "findings": pa.array(
                [None if e else f for e, f in zip(errors, findings, strict=True)], pa.list_(pa.string())
            ),
        }
        for k, key in enumerate(bundle.label_space.keys):
            columns[f"p_{key}"] = pa.array(probability[:, k], pa.float32(), mask=missing[:, k])
        columns["bundle_hash"] = pa.array([bundle.content_hash] * len(ids), pa.string())
        return pa.table(columns)


def _pages_of(part: Part) -> list[NamedBytes]:
    """Ids, and how to get the bytes of each file or page."""
    if part.row_group is None:
        return [(file, Path(file).read_bytes) for file in part.files]
    rows = read_row_group(RowGroup(*part.row_group))
    stored = zip(rows["record_id"].to_pylist(), rows["page"].to_pylist(), strict=True)
    return [(name, lambda page=page: page) for name, page in stored]


def _summary(files: list[Path], bundle: Bundle) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    pages = 0
    for file in files:
        table = pq.read_table(file, columns=["reason", "findings"])
        pages += len(table)
        reasons.update(reason for reason in table["reason"].to_pylist() if reason)
        findings.update(key for found in table["findings"].to_pylist() for key in found or ())
    return {
        "pages": pages,
        "scored": pages - sum(reasons.values()),
        "rejected": dict(sorted(reasons.items())),
        "findings": {key: findings[key] for key in bundle.label_space.keys},
        "bundle_hash": bundle.content_hash,
    }
