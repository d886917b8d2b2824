"""Shards in the memory of every node, read once for all trials of a search.

Ray's object store fetches an object to a node once, and every process there maps the same memory: neither the number of
trials nor that of their epochs matters. Without room for them trials read files, and the system's page cache helps.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.batches import COLUMNS, row_group_of_file
from ..data.order import RowGroup
from ..storage import filesystem_of
from ..train.job import TrainJob

if TYPE_CHECKING:
    from ray import ObjectRef

_SHARE_OF_STORE = 0.5
"""The rest is for what Ray Tune and Ray Train put there."""
_BYTES_PER_SAMPLE = 2


@dataclass(frozen=True)
class SharedRows:
    """Row groups in Ray's object store. Goes to trials inside any object; gone with the driver."""

    refs: "dict[tuple[str, int], ObjectRef[pa.Table]]"
    """By file and row group."""

    def read(self, file: str, group: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
        """All records of a row group, as `row_group_of_file` reads them: mapped, not copied.

        It is read from its file where the store has lost it, or never had it. From any thread.
        """
        import ray
        from ray.exceptions import RayError

        ref = self.refs.get((file, group))
        if ref is None:
            return row_group_of_file(file, group, columns)
        try:
            return ray.get(ref).select(list(columns))
        except RayError:  # Its node is gone, or the task that read it failed; the file is still there.
            return row_group_of_file(file, group, columns)


def share_row_groups(job: TrainJob) -> SharedRows | None:
    """Every row group that the job reads, in the memory of Ray's nodes; None where they do not fit into each of them.

    Waits for the tasks that read them, so it comes before the trials, which take all CPUs.
    """
    import ray

    groups = [*job.train, *job.val]
    if shared_bytes(groups, job.num_samples) > _SHARE_OF_STORE * _smallest_store_bytes():
        return None
    # No retries: the task that reads a lost object again would wait for a CPU for as long as trials hold them all.
    read = ray.remote(num_cpus=1, max_retries=0)(row_group_of_file)
    refs = {(group.file, group.index): read.remote(group.file, group.index) for group in groups}
    # Not to this node: the driver needs none of them.
    ray.wait(list(refs.values()), num_returns=len(refs), fetch_local=False)
    return SharedRows(refs)


def shared_bytes(groups: Sequence[RowGroup], num_samples: int) -> int:
    """What row groups take in memory, from the files' footers; signals have `num_samples` in each of 12 leads."""
    of_file: dict[str, set[int]] = {}
    for group in groups:
        of_file.setdefault(group.file, set()).add(group.index)
    with ThreadPoolExecutor(8) as pool:
        others = sum(pool.map(_bytes_without_signal, of_file, of_file.values()))
    # In the file signals are packed, also before they are compressed.
    return others + sum(group.num_rows for group in groups) * 12 * num_samples * _BYTES_PER_SAMPLE


def _bytes_without_signal(file: str, indices: set[int]) -> int:
    filesystem, path = filesystem_of(file)
    footer = pq.read_metadata(path, filesystem=filesystem)
    columns = (footer.row_group(index).column(n) for index in indices for n in range(footer.num_columns))
    wanted = set(COLUMNS) - {"signal"}
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.partition(".")[0] in wanted)


def _smallest_store_bytes() -> float:
    """Of the nodes that may run trials; 0 where there is none yet."""
    import ray

    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return min((node.get("object_store_memory", 0) for node in nodes if node.get("CPU")), default=0)
