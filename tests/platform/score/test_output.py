"""Even files, and no row lost or doubled whenever the writer dies."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.score import output
from vizecg.platform.score.claim import Claim, Lease, claimed
from vizecg.platform.score.output import ScoreFiles
from vizecg.platform.score.rows import schema_of
from vizecg.platform.storage import filesystem_of

SCHEMA = schema_of(["AF"])


class Killed(Exception):
    pass


@pytest.fixture(params=["local", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out"


def open_files(out: str, rows_per_file: int = 10, num_items: int = 100) -> ScoreFiles:
    return ScoreFiles(out, SCHEMA, rows_per_file, num_items, Claim())


def rows_of_items(items: Iterator[int] | list[int], num_pages: Callable[[int], int] = lambda item: 1) -> pa.Table:
    keys = [(item, page + 1) for item in items for page in range(num_pages(item))]
    columns = {"row": [row for row, _ in keys], "page": [page for _, page in keys]}
    columns["reason"] = [None if row % 3 else "empty" for row, _ in keys]
    filled = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(keys), field.type)
        for field in SCHEMA
    ]
    return pa.table(filled, schema=SCHEMA)


def keys_in(files: ScoreFiles, out: str) -> list[tuple[int, int]]:
    filesystem, _ = filesystem_of(out)
    tables = [pq.read_table(path, filesystem=filesystem) for path in files.files()]
    return [key for table in tables for key in zip(table["row"].to_pylist(), table["page"].to_pylist(), strict=True)]


def test_files_are_even_and_hold_every_row_once(out: str) -> None:
    files = open_files(out)
    for first in range(0, 37, 4):
        files.add(rows_of_items(list(range(first, min(first + 4, 37)))))
        files.flush()
    files.finish()
    filesystem, root = filesystem_of(out)
    sizes = [pq.read_metadata(path, filesystem=filesystem).num_rows for path in files.files()]
    assert sizes == [10, 10, 10, 7]
    assert sorted(keys_in(files, out)) == [(row, 1) for row in range(37)]
    assert not filesystem.get_file_info(f"{root}/progress").type
    assert files.pages == 37 and files.reasons == {"empty": 13}
    assert files.done.sum() == 37 and files.done[:37].all()


def test_what_comes_twice_is_taken_once(out: str) -> None:
    files = open_files(out)
    files.add(rows_of_items([1, 2]))
    files.add(rows_of_items([2, 3]))
    files.finish()
    assert sorted(keys_in(files, out)) == [(1, 1), (2, 1), (3, 1)] and files.pages == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("killed_at", range(1, 26))
def test_killed_at_any_write_or_delete_and_started_again(
    tmp_path: Path, killed_at: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th change of the disk does not happen, nor any later one; another start does the rest."""
    out, rng = str(tmp_path / "out"), np.random.default_rng(seed)
    order = rng.permutation(40)

    def pages(item: int) -> int:
        return 1 + item % 4 * (item % 3 == 0)

    class Dying(ScoreFiles):
        changes = 0

        def _change(self) -> None:
            Dying.changes += 1
            if Dying.changes >= killed_at:
                raise Killed

        def _write(self, path: str, rows: pa.Table) -> None:
            self._change()
            super()._write(path, rows)

        def _delete(self, path: str) -> None:
            self._change()
            super()._delete(path)

    def run(kind: type[ScoreFiles]) -> ScoreFiles:
        files = kind(out, SCHEMA, 10, 40, Claim())
        for items in np.split(order, range(3, 40, 3)):
            left = [item for item in items.tolist() if not files.done[item]]
            if left:
                files.add(rows_of_items(left, pages))
                files.flush()
        files.finish()
        return files

    with suppress(Killed):
        run(Dying)
    files = run(ScoreFiles)
    expected = sorted((item, page + 1) for item in range(40) for page in range(pages(item)))
    assert sorted(keys_in(files, out)) == expected
    assert files.pages == len(expected)
    assert {pq.read_metadata(path).num_rows for path in files.files()[:-1]} <= {10}


def test_a_kill_costs_the_last_seconds_alone(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SEGMENT_S", 1e6)
    files = open_files(out)
    files.add(rows_of_items([1]))
    assert not open_files(out).done.any()
    monkeypatch.setattr(output, "SEGMENT_S", 0.0)
    files.add(rows_of_items([2]))
    again = open_files(out)
    assert np.flatnonzero(again.done).tolist() == [1, 2] and again.pages == 2


def test_two_runs_into_one_out_are_refused(out: str) -> None:
    lease_s = 5.0
    with claimed(out, lease_s), pytest.raises(UserError, match="another run writes there"), claimed(out, lease_s):
        pass
    with claimed(out, lease_s):
        """Free again."""


def test_a_lease_that_another_took_stops_the_writer(tmp_path: Path) -> None:
    out = f"memory://{tmp_path.name}/out"
    filesystem, root = filesystem_of(out)
    filesystem.create_dir(root, recursive=True)
    mine = Lease(filesystem, f"{root}/run.lock", out, 0.01)
    mine._write()
    other = Lease(filesystem, f"{root}/run.lock", out, 60.0)
    other._write()
    mine._look()
    with pytest.raises(UserError, match="another may write there now"):
        mine.check()
    other.check()
    mine.give_back()
    other._look()
    other.check()
