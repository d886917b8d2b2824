"""Archive -> Parquet shards of signals and pages, with Ray Data.

Two passes over the archive. The first reads every record, rejects the bad ones and takes fingerprints; the driver then
decides splits and the rows of every file; the second reads again, draws and writes whole files. Reading costs a
millisecond, drawing and packing several, so reading twice is the price for files that never depend on scheduling, for
memory that does not grow with the archive, and for tasks that may be repeated.
"""

import hashlib
import json
import pickle
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from ..errors import UserError
from ..storage import filesystem_of, write_whole
from .archives import Archive, open_archive
from .dataset_info import (
    INFO_FILE,
    DatasetInfo,
    Rejection,
    ShardConfig,
    differing_settings,
    load_dataset_info,
    save_dataset_info,
)
from .shard_tasks import Candidate, FileJob, ScanJob, Scanned, WrittenFile, scan_records, write_file
from .splits import SPLITS, assign_splits, group_records, is_same_recording

Progress = Callable[[str, int, int], None]
"""Called with "reading" or "writing", records done and records in all."""

_RECORDS_PER_SCAN = 256
_MARKER, _MARKED_BY = ".unfinished", {"package": "vizecg"}
"""In `out` from before the first shard until `dataset.json` stands: what is there is ours, and may be written anew."""


def write_shards(
    archives: str | Path | Sequence[str | Path],
    out: str | Path,
    config: ShardConfig | None = None,
    on_progress: Progress | None = None,
) -> DatasetInfo:
    """Turn one or more archives into one dataset; `dataset.json`, written last, says that it is finished.

    A finished dataset of the same archives and settings is returned at once; an unfinished one is written anew.
    Records that cannot be used are rejected and counted. The same archives and settings give the same bytes.

    Raises:
        UserError: no archive, nothing usable in it, or `out` holds something else.
    """
    config = config or ShardConfig()
    paths = [archives] if isinstance(archives, (str, Path)) else list(archives)
    opened = [open_archive(path) for path in paths]
    source = hashlib.sha256("".join(archive.fingerprint() for archive in opened).encode()).hexdigest()
    if finished := _finished(out, source, config):
        return finished
    _clear_unfinished(out)
    _mark_unfinished(out)
    from ..ray_session import start_ray

    start_ray()
    progress = on_progress or (lambda stage, done, total: None)
    scanned, rejected = _scan(opened, config, progress)
    kept, copies = _keep_highest_rate(scanned, paths)
    rejected += copies
    if not kept:
        raise UserError(_nothing_usable(paths, rejected))
    placed = _place(kept, config)
    code_sets = _code_sets(opened, placed)
    written = _write(opened, placed, config, code_sets, str(out), progress)
    # Files may go away between the two passes.
    lost = [rejection for file in written for rejection in file.rejected]
    lost_ids = {rejection.record_id for rejection in lost}
    records = [record for record in placed if record.record_id not in lost_ids]
    quality = sum((file.quality_counts for file in written), Counter())
    info = _describe(opened, records, rejected + lost, quality, code_sets, source, config)
    save_dataset_info(out, info)
    _remove_marker(out)
    return info


def _finished(out: str | Path, source: str, config: ShardConfig) -> DatasetInfo | None:
    filesystem, path = filesystem_of(out)
    if filesystem.get_file_info(posixpath.join(path, INFO_FILE)).type == pafs.FileType.NotFound:
        return None
    info = load_dataset_info(out)
    differences = list(differing_settings(info.config, config))
    if info.fingerprint != source:
        differences.insert(0, "the archive is another one or has changed")
    if differences:
        raise UserError(
            f"{out} holds a finished dataset ({'; '.join(differences)}); choose another folder or remove it"
        )
    return info


def _clear_unfinished(out: str | Path) -> None:
    """Remove the splits of a run that did not end; without our marker a folder `train` may be anybody's."""
    filesystem, path = filesystem_of(out)
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    ours = {*SPLITS, _MARKER} if _is_marked(out) else set()
    if strange := sorted(file.base_name for file in found if file.base_name not in ours):
        raise UserError(f"{out} is not empty and no dataset: it holds {strange[0]}; choose another folder")
    for file in found:
        if file.base_name != _MARKER:
            filesystem.delete_dir(file.path)


def _is_marked(out: str | Path) -> bool:
    filesystem, path = filesystem_of(out)
    try:
        with filesystem.open_input_file(posixpath.join(path, _MARKER)) as file:
            return json.loads(file.read()) == _MARKED_BY
    except (FileNotFoundError, ValueError):
        return False


def _mark_unfinished(out: str | Path) -> None:
    filesystem, path = filesystem_of(out)
    write_whole(filesystem, posixpath.join(path, _MARKER), json.dumps(_MARKED_BY).encode())


def _remove_marker(out: str | Path) -> None:
    filesystem, path = filesystem_of(out)
    filesystem.delete_file(posixpath.join(path, _MARKER))


def _scan(
    archives: Sequence[Archive], config: ShardConfig, progress: Progress
) -> tuple[list[Scanned], list[Rejection]]:
    """First pass: usable records in the order of archives and ids, and the rejected ones."""
    candidates = [
        Candidate(archive=number, entry=entry) for number, archive in enumerate(archives) for entry in archive.entries()
    ]
    if config.max_records is not None:
        taken = np.random.default_rng(config.seed).permutation(len(candidates))[: config.max_records]
        candidates = [candidates[index] for index in sorted(taken)]
    jobs = [
        ScanJob(archives=archives, candidates=candidates[start : start + _RECORDS_PER_SCAN], config=config)
        for start in range(0, len(candidates), _RECORDS_PER_SCAN)
    ]
    scanned: list[Scanned] = []
    rejected: list[Rejection] = []
    for found in _run(scan_records, jobs):
        scanned += [record for record in found if isinstance(record, Scanned)]
        rejected += [record for record in found if isinstance(record, Rejection)]
        progress("reading", len(scanned) + len(rejected), len(candidates))
    order = {(c.archive, c.entry.record_id): place for place, c in enumerate(candidates)}
    scanned.sort(key=lambda record: order[record.candidate.archive, record.record_id])
    return scanned, rejected


def _run(task: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """`task` of every job, in Ray Data tasks of one job each."""
    import ray

    rows = [{"job": pickle.dumps(job)} for job in jobs]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        lambda row: {"result": pickle.dumps(task(pickle.loads(row["job"])))}
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["result"])


def _keep_highest_rate(
    scanned: Sequence[Scanned], paths: Sequence[str | Path]
) -> tuple[list[Scanned], list[Rejection]]:
    """One record for every id, in the order of ids; what shows another recording under that id is no copy."""
    kept: dict[str, Scanned] = {}
    copies = []
    for record in sorted(scanned, key=lambda record: -record.sampling_rate_hz):
        if record.record_id not in kept:
            kept[record.record_id] = record
            continue
        copies.append(_second_of_its_id(record, kept[record.record_id], paths))
    return [kept[record_id] for record_id in sorted(kept)], copies


def _second_of_its_id(record: Scanned, kept: Scanned, paths: Sequence[str | Path]) -> Rejection:
    locator, archive = record.candidate.entry.locator, paths[record.candidate.archive]
    if is_same_recording(record.fingerprint, kept.fingerprint):
        message = f"{locator} has the id of a record that is kept, at {kept.sampling_rate_hz:g} Hz"
        return Rejection(record_id=record.record_id, reason="duplicate_id", message=message)
    message = (
        f"{locator} of {archive} has the id of another ECG, of {paths[kept.candidate.archive]}; "
        "give its file another name, or put both archives into one folder and shard that"
    )
    return Rejection(record_id=record.record_id, reason="id_clash", message=message)


def _nothing_usable(paths: Sequence[str | Path], rejected: Sequence[Rejection]) -> str:
    reasons = Counter(rejection.reason for rejection in rejected).most_common(3)
    listed = ", ".join(f"{reason} ({count})" for reason, count in reasons) or "it lists none"
    example = f"; the first: {rejected[0].message}" if rejected else ""
    return f"no record of {', '.join(map(str, paths))} can be used: {listed}{example}"


def _place(records: Sequence[Scanned], config: ShardConfig) -> list[Scanned]:
    """Every record with its split and fold, shuffled, so that a row group holds a bit of everything."""
    entries = [record.candidate.entry for record in records]
    groups = group_records(
        [record.record_id for record in records],
        [record.patient_id for record in records],
        [entry.same_recording_as for entry in entries],
        np.stack([record.fingerprint for record in records]),
    )
    splits, folds = assign_splits(
        groups,
        [record.patient_id or record.record_id for record in records],
        [entry.fold for entry in entries],
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    placed = [
        replace(record, split=split, fold=fold) for record, split, fold in zip(records, splits, folds, strict=True)
    ]
    return [placed[index] for index in np.random.default_rng(config.seed).permutation(len(placed))]


def _code_sets(archives: Sequence[Archive], records: Sequence[Scanned]) -> dict[str, list[str]]:
    """The code sets in use; where nobody wrote one down, the codes that occur stand for it."""
    written_down = [archive.code_sets for archive in archives]
    code_sets: dict[str, set[str]] = {}
    for record in records:
        name = record.candidate.entry.code_set
        known = written_down[record.candidate.archive][name]
        code_sets.setdefault(name, set(known or ())).update(record.codes if known is None else ())
    return {name: sorted(codes) for name, codes in sorted(code_sets.items())}


def _write(
    archives: Sequence[Archive],
    placed: Sequence[Scanned],
    config: ShardConfig,
    code_sets: dict[str, list[str]],
    location: str,
    progress: Progress,
) -> list[WrittenFile]:
    """Second pass: every file of every split."""
    jobs = []
    for split in SPLITS:
        records = [record for record in placed if record.split == split]
        for number, start in enumerate(range(0, len(records), config.rows_per_file)):
            job = FileJob(
                archives=archives,
                records=records[start : start + config.rows_per_file],
                config=config,
                code_sets=code_sets,
                location=location,
                name=f"{split}/part-{number:05d}.parquet",
            )
            jobs.append(job)
    written: list[WrittenFile] = []
    done = 0
    for file in _run(write_file, jobs):
        written.append(file)
        done += file.num_records
        progress("writing", done, len(placed))
    return written


def _describe(
    archives: Sequence[Archive],
    records: Sequence[Scanned],
    rejected: Sequence[Rejection],
    quality: Counter[str],
    code_sets: dict[str, list[str]],
    source: str,
    config: ShardConfig,
) -> DatasetInfo:
    label_spaces = {archive.default_label_space for archive in archives} - {None}
    by_split = {split: [record for record in records if record.split == split] for split in SPLITS}
    codes = {split: Counter(c for record in members for c in record.codes) for split, members in by_split.items()}
    return DatasetInfo(
        sources=sorted({archive.name for archive in archives}),
        fingerprint=source,
        config=config,
        sampling_rate_hz=config.sampling_rate_hz,
        num_samples=config.num_samples,
        page=config.page,
        default_label_space=(label_spaces.pop() if len(label_spaces) == 1 else None) or "code6",
        code_sets=code_sets,
        counts={split: len(members) for split, members in by_split.items()},
        code_counts={split: dict(sorted(counter.items())) for split, counter in codes.items()},
        quality_counts=dict(sorted(quality.items())),
        rejected_counts=dict(sorted(Counter(rejection.reason for rejection in rejected).items())),
        rejected=sorted(rejected, key=lambda rejection: (rejection.record_id, rejection.reason)),
    )
