"""Row groups in Ray's object store: the same as in the files, without the files, and mapped."""

import gc
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from vizecg.platform.config import load_config
from vizecg.platform.data.batches import RankStream, ReadRowGroup, read_on_threads, row_group_of_file
from vizecg.platform.data.order import Pass, epoch_plan
from vizecg.platform.search.sharing import SharedRows, share_row_groups, shared_bytes
from vizecg.platform.train.job import TrainJob
from vizecg.platform.train.prepare import make_job


@pytest.fixture
def job(practice_shards: Path, tmp_path: Path) -> TrainJob:
    """On shards that may be thrown away."""
    shutil.copytree(practice_shards, tmp_path / "shards")
    return make_job(tmp_path / "shards", load_config(None, ["batch_size=16", "model.size=debug"]))


def steps(job: TrainJob, row_group: ReadRowGroup | None) -> list[pa.Table]:
    """Of two epochs with their validation."""
    passes = [
        Pass(epoch_plan(groups, 0, epoch, 8, shuffle), sum(group.num_rows for group in groups))
        for epoch in range(2)
        for groups, shuffle in ((job.train, True), (job.val, False))
    ]
    stream = RankStream(passes, 0, 1, 16, partial(read_on_threads, row_group=row_group))
    return [table for _ in passes for table in stream.next_pass()]


def file_of(job: TrainJob) -> tuple[str, int]:
    return job.train[0].file, job.train[0].index


def test_batches_in_another_process_are_those_of_the_files(job: TrainJob) -> None:
    expected = steps(job, None)
    held = ray.put({"inside": share_row_groups(job)})
    gc.collect()
    shutil.rmtree(job.shards)

    @ray.remote(num_cpus=1)
    def read(inside: dict[str, SharedRows], steps: Callable[..., list[pa.Table]] = steps) -> list[pa.Table]:
        return steps(job, inside["inside"].read)

    got = ray.get(read.remote(held))
    assert len(got) == len(expected) > 8
    assert all(ours.equals(theirs) for ours, theirs in zip(got, expected, strict=True))


def test_rows_are_mapped_and_not_copied(job: TrainJob) -> None:
    def addresses(table: pa.Table) -> list[int]:
        return [
            buffer.address for column in ("page", "signal") for buffer in table[column].chunk(0).buffers() if buffer
        ]

    shared = share_row_groups(job)
    assert shared is not None
    before = pa.total_allocated_bytes()
    one, other = shared.read(*file_of(job)), shared.read(*file_of(job), columns=["signal", "page"])
    assert pa.total_allocated_bytes() - before < one.nbytes / 10
    assert addresses(one) == addresses(other)
    assert other.column_names == ["signal", "page"]


def test_what_is_lost_or_unknown_is_read_from_the_file(job: TrainJob) -> None:
    @ray.remote(num_cpus=1)
    class Owner:
        def put(self) -> list[Any]:
            return [ray.put(pa.table({"record_id": ["another"]}))]

    owner = Owner.remote()
    (ref,) = ray.get(owner.put.remote())
    shared, expected = SharedRows({file_of(job): ref}), row_group_of_file(*file_of(job))
    assert shared.read(*file_of(job), columns=["record_id"])["record_id"].to_pylist() == ["another"]
    ray.kill(owner)
    with pytest.raises(ray.exceptions.ObjectLostError):
        while True:  # Until the news of its end has come round.
            ray.get(ref)
            time.sleep(0.1)
    assert shared.read(*file_of(job)).equals(expected)
    assert SharedRows({}).read(*file_of(job)).equals(expected)


def test_a_failed_task_leaves_the_mistake_to_the_reader(job: TrainJob) -> None:
    file, group = file_of(job)
    content = Path(file).read_bytes()
    footer_alone = b"\0" * (len(content) // 2) + content[len(content) // 2 :]
    Path(file).write_bytes(footer_alone)
    shared = share_row_groups(job)
    assert shared is not None
    with pytest.raises(OSError):
        shared.read(file, group)
    Path(file).write_bytes(content)
    assert shared.read(file, group).equals(row_group_of_file(file, group))


def test_size_is_known_before_reading(job: TrainJob) -> None:
    groups = [*job.train, *job.val]
    held = sum(row_group_of_file(group.file, group.index).nbytes for group in groups)
    assert shared_bytes(groups, job.num_samples) == pytest.approx(held, rel=0.02)


def test_only_what_half_of_every_store_holds_is_shared(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = 2 * shared_bytes([*job.train, *job.val], job.num_samples)

    def shared_on(*nodes: tuple[int, int, bool]) -> bool:
        """Nodes with so much store, so many CPUs, and whether they live."""
        listed = [{"Resources": {"object_store_memory": s, "CPU": cpus}, "Alive": alive} for s, cpus, alive in nodes]
        monkeypatch.setattr(ray, "nodes", lambda: listed)
        return share_row_groups(job) is not None

    big = (10 * enough, 4, True)
    assert shared_on(big, (enough, 4, True))
    assert not shared_on((enough - 1, 4, True), big)
    assert shared_on(big, (1, 4, False)), "a node that is gone"
    assert shared_on(big, (1, 0, True)), "a head that runs no trials"
    assert not shared_on()
