"""What INPUT may be: which items there are, what their pages are, what is wrong with the bad ones."""

import io
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vizecg.platform.data.dataset_info import DatasetInfo, PageSettings, ShardConfig, save_dataset_info
from vizecg.platform.data.page import encode_page, print_page
from vizecg.platform.data.read_page import PageSpec, Reading, ReadPage, prepare, read_page
from vizecg.platform.errors import UserError
from vizecg.platform.score.identity import check_places, earlier_run
from vizecg.platform.score.sources import Source, SourceSettings, open_source
from vizecg.platform.score.sources.base import ReadItem
from vizecg.platform.score.sources.spool import Spool
from vizecg.platform.storage import filesystem_of, join, write_whole

SPEC = PageSpec(width_px=256, height_px=192)
Ecg = Callable[[int], np.ndarray]
Told = list[tuple[str, list[str | None]]]


@pytest.fixture(scope="module")
def pages(make_ecg: Ecg) -> list[np.ndarray]:
    style = PageSettings(width_px=800, height_px=600).style("")
    return [print_page(make_ecg(seed), 500, style).rgb() for seed in range(3)]


@pytest.fixture(scope="module")
def page(pages: list[np.ndarray]) -> bytes:
    return encode_page(pages[0])


def pdf_of(pictures: list[np.ndarray]) -> bytes:
    file = io.BytesIO()
    first, *others = map(Image.fromarray, pictures)
    first.save(file, "PDF", resolution=100, save_all=True, append_images=others)
    return file.getvalue()


def load(source: Source) -> list[tuple[str, str, list[object]]]:
    """(id, source, pages) of all items, as a worker reads them."""
    reader = pickle.loads(pickle.dumps(source.reader))
    names = [item for item, _ in source.items()]
    assert len(names) == source.num_items
    return [(item.id, item.source, list(item.pages(SPEC, Reading()))) for item in reader.open(names)]


def told(source: Source, below: str | Path = "") -> Told:
    """By id, for every page why it was rejected; None where it was read."""
    return [
        (name.removeprefix(f"{below}/"), [getattr(page, "reason", None) for page in pages])
        for name, _, pages in load(source)
    ]


def put_table(file: Path, row_group_size: int = 3, /, **columns: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return file


@pytest.fixture
def hostile(page: bytes, pages: list[np.ndarray], tmp_path: Path) -> Path:
    """A folder of good pages and of everything else that folders hold."""
    folder = tmp_path / "in"
    (folder / "ward").mkdir(parents=True)
    (folder / "ward" / "good.PNG").write_bytes(page)
    (folder / "three.pdf").write_bytes(pdf_of([pages[0], np.full_like(pages[0], 255), pages[1]]))
    (folder / "one.pdf").write_bytes(pdf_of(pages[:1]))
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("Dear colleague")
    (folder / "cut.png").write_bytes(page[: len(page) // 2])
    (folder / "broken.png").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("no page")
    (folder / "IM0001").write_bytes(b"no DICOM")
    os.mkfifo(folder / "pipe.png")
    return folder


BAD = {
    "broken.png": ["unreadable_file"], "cut.png": ["truncated"], "pipe.png": ["unreadable_file"],
    "text.png": ["not_an_image"], "zero.png": ["empty"],
}  # fmt: skip
GOOD = {"one.pdf": [None], "ward/good.PNG": [None]}


def test_a_folder_whatever_lies_in_it(hostile: Path, page: bytes) -> None:
    source = open_source(str(hostile), SourceSettings())
    found = {name.removeprefix(f"{hostile}/"): pages for name, _, pages in load(source)}
    reasons = {name: [getattr(page, "reason", None) for page in pages] for name, pages in found.items()}
    three = reasons.pop("three.pdf")
    assert reasons == {**BAD, **GOOD} and three[::2] == [None, None] and three[1]
    assert (source.kind, source.left_out) == ("pictures", {".txt": 1, "no suffix": 1})
    (good,) = found["ward/good.PNG"]
    assert isinstance(good, ReadPage)
    np.testing.assert_array_equal(good.pixels, read_page(page, SPEC, Reading()).pixels)
    assert dict(source.items())["ward/good.PNG"] == len(page)
    errors = [str(page) for pages in found.values() for page in pages if isinstance(page, ValueError)]
    assert len(errors) == 6 and all(error and "\n" not in error for error in errors)


def test_files_without_permission_and_folders_that_cannot_be_listed(
    page: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "page.png").write_bytes(page)
    (tmp_path / "a.png").write_bytes(page)
    opened, scandir = open, os.scandir

    def refuse(path: object, *rest: object) -> None:
        if b"locked" in os.fsencode(str(path)) or str(path).endswith("a.png"):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) or scandir(path))
    monkeypatch.setattr("builtins.open", lambda path, *rest, **more: refuse(path) or opened(path, *rest, **more))
    (first, second) = load(open_source(str(tmp_path)))
    assert [page.reason for page in first[2]] == ["unreadable_file"] and first[0].endswith("a.png")
    assert [page.reason for page in second[2]] == ["unreadable_file"] and second[0].endswith("locked")
    assert "Permission denied" in str(first[2][0]) and "Permission denied" in str(second[2][0])


def test_one_file_a_glob_and_uris_name_the_same_pages(hostile: Path, page: bytes) -> None:
    assert told(open_source(f"{hostile}/**/*.PNG"), hostile) == [("ward/good.PNG", [None])]
    assert [name for name, _ in told(open_source(f"{hostile}/[tz]*.png"), hostile)] == ["text.png", "zero.png"]
    assert list(open_source(hostile.as_uri()).items()) == list(open_source(hostile).items())
    assert told(open_source((hostile / "ward").as_uri()), hostile) == [("ward/good.PNG", [None])]
    assert told(open_source((hostile / "zero.png").as_uri()), hostile) == [("zero.png", ["empty"])]
    # Whatever a file is called, the user named it.
    (hostile / "page[1].scan").write_bytes(page)
    assert told(open_source(hostile / "page[1].scan"), hostile) == [("page[1].scan", [None])]


def test_an_object_store(page: bytes, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}"
    for name in ("a b#1.png", "sub/c.png", "sub/d.txt"):
        write_whole(*filesystem_of(join(place, name)), page)
    write_whole(*filesystem_of(join(place, "list.txt")), b"sub/c.png\n")
    found = told(open_source(place), place)
    assert found == [("a b#1.png", [None]), ("sub/c.png", [None])]
    assert told(open_source(f"{place}/**/c.png"), place) == told(open_source(f"{place}/list.txt"), place) == found[1:]
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"path": ["sub/c.png", f"{place}/a b#1.png"]}), table)
    write_whole(*filesystem_of(join(place, "t", "pages.parquet")), table.getvalue())
    assert [reasons for _, reasons in told(open_source(f"{place}/t"))] == [["unreadable_file"], [None]]


def test_lists_keep_their_order_and_their_duplicates(hostile: Path, tmp_path: Path) -> None:
    lines = [
        "\ufeff# pages of one day", "in/ward/good.PNG", "", f"{hostile}/zero.png", f"  {hostile.as_uri()}/text.png",
        "in/ward/good.PNG", "in/missing.png", "sftp://host/page.png", "file://rel/page.png",
    ]  # fmt: skip
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = open_source(tmp_path / "list.txt")
    names = ["ward/good.PNG", "zero.png", "text.png", "ward/good.PNG", "missing.png"]
    assert [name for name, _ in told(source, hostile)] == [*names, "sftp://host/page.png", "file://rel/page.png"]
    unreadable = ["unreadable_file"]
    assert [why for _, why in told(source)] == [[None], ["empty"], ["not_an_image"], [None], *[unreadable] * 3]
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(UserError, match="nothing to score; expected pictures"):
        open_source(tmp_path / "empty.txt")


def test_identity_changes_with_files_and_with_nothing_else(hostile: Path, page: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{hostile}/zero.png\n")
    places = [str(hostile), f"{hostile}/*.png", str(tmp_path / "list.txt"), str(hostile / "zero.png")]

    def identities() -> list[str]:
        return [open_source(place).identity for place in places]

    before = identities()
    (hostile / "notes.txt").write_text("something else")
    assert identities() == before and len(set(before)) == len(before)
    assert list(open_source(hostile).items()) == list(open_source(hostile).items())
    os.utime(hostile / "zero.png", ns=(1, 1))
    assert all(one != other for one, other in zip(before, identities(), strict=True))
    table = put_table(tmp_path / "t.parquet", path=["a.png"])
    before = [open_source(table).identity]
    put_table(table, path=["b.png"])
    assert open_source(table).identity not in before


def test_what_names_nothing_to_score(tmp_path: Path) -> None:
    empty = put_table(tmp_path / "t" / "none.parquet", path=pa.array([], pa.string()))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.doc").write_text("text")
    for place, said in [
        (tmp_path / "docs", "nothing to score; expected pictures"),
        (f"{tmp_path}/*.png", "nothing to score"),
        (tmp_path / "gone", "no such file or folder"),
        ("memory://gone", "memory://gone: no such file or folder"),
        (empty, "the table has no rows"),
    ]:
        with pytest.raises(UserError, match=said):
            open_source(place)
    with pytest.raises(UserError, match="layout '9x9' is not one of"):
        SourceSettings(layout="9x9")


def test_listings_of_millions_stay_on_the_disk() -> None:
    def most_bytes(count: int) -> int:
        tracemalloc.start()
        spool = Spool((f"ward-{number // 1000:04d}/page-{number:07d}.png", 1000, "x") for number in range(count))
        assert sum(1 for _ in spool.items()) == spool.num_items == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert most_bytes(120_000) < 1.2 * most_bytes(40_000)


def test_tables_of_paths(hostile: Path, tmp_path: Path) -> None:
    paths = ["in/ward/good.PNG", str(hostile / "text.png"), None, "", (hostile / "zero.png").as_uri()]
    table = put_table(tmp_path / "t.parquet", 2, n=[1, 2, 3, 4, 5], file=paths, id=["p", "q", "r", None, "t"])
    source = open_source(table)
    assert source.kind == "table"
    found = load(source)
    assert [name for name, _, _ in found] == ["p", "q", "r", "t.parquet:3", "t"]
    assert [[getattr(page, "reason", None) for page in pages] for _, _, pages in found] == [
        [None], ["not_an_image"], ["empty"], ["empty"], ["empty"],
    ]  # fmt: skip
    assert [place for _, place, _ in found][:3] == [str(hostile / "ward/good.PNG"), paths[1], str(table)]
    other = open_source(table, SourceSettings(id_column="n"))
    assert [name for name, _ in told(other)] == ["1", "2", "3", "4", "5"]


def test_tables_of_bytes(page: bytes, hostile: Path, tmp_path: Path) -> None:
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [
        {"bytes": page, "path": "x.png"},
        {"bytes": None, "path": "zero.png"},
        None,
        {"bytes": b"text", "path": None},
    ]
    put_table(hostile / "a.parquet", image=pa.array(rows, struct), label=[1, 2, 3, 4])
    put_table(tmp_path / "b" / "b.parquet", bytes=[page, None], path=["scans/1.png", None], extra=["x", "y"])
    a, b = open_source(hostile / "a.parquet"), open_source(tmp_path / "b")
    assert [name for name, _ in told(a)] == ["x.png", "zero.png", "a.parquet:2", "a.parquet:3"]
    assert [why for _, why in told(a)] == [[None], ["empty"], ["empty"], ["not_an_image"]]
    assert [place for _, place, _ in load(a)][:2] == [str(hostile / "a.parquet"), str(hostile / "zero.png")]
    assert told(b) == [("scans/1.png", [None]), ("b.parquet:1", ["empty"])]


def test_rows_of_a_chunk_are_read_once_wherever_it_begins(page: bytes, tmp_path: Path) -> None:
    for name, count in (("a", 50), ("sub/b", 7)):
        put_table(tmp_path / f"{name}.parquet", 20, data=[page] * count, id=[f"{name}{n}" for n in range(count)])
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more PAR1")
    source = open_source(tmp_path)
    items = [item for item, _ in source.items()]
    assert source.num_items == len(items) == 58
    some = [*items[3:5], *items[18:39:5], *items[49:53], items[-1]]
    ids = [item.id for item in source.reader.open(some)]
    numbers = [3, 4, 18, 23, 28, 33, 38, 49]
    assert ids == [*(f"a{n}" for n in numbers), "c.parquet:0", "sub/b0", "sub/b1", "sub/b6"]
    (bad,) = [list(item.pages(SPEC, Reading())) for item in source.reader.open(["c.parquet:-1:0"])]
    assert [getattr(each, "reason", None) for each in bad] == ["unreadable_file"]
    put_table(tmp_path / "a.parquet", data=[page], id=["a0"])
    (first, second) = source.reader.open(items[:2])
    assert isinstance(first.pages, ReadItem) and "lost rows" in str(next(second.pages(SPEC, Reading())))


@pytest.mark.parametrize(
    ("columns", "settings", "said"),
    [
        ({"a": ["x"], "b": ["y"]}, {}, r"cannot tell.*a \(string\), b \(string\)"),
        ({"path": ["x"], "file": ["y"]}, {}, "cannot tell"),
        ({"a": [b"x"], "b": [b"y"], "path": ["z"]}, {}, "cannot tell"),
        ({"path": [1]}, {"column": "path"}, "neither paths nor bytes"),
        ({"path": ["x"]}, {"column": "page"}, "has no column 'page'; it has path"),
        ({"path": ["x"]}, {"id_column": "key"}, "has no column 'key'"),
    ],
)
def test_tables_whose_column_is_not_clear(
    columns: dict[str, object], settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        open_source(put_table(tmp_path / "t.parquet", **columns), SourceSettings(**settings))


def test_shards_are_read_as_training_reads_them(page: bytes, tmp_path: Path) -> None:
    for split, count in (("val", 2), ("train", 5)):
        ids = [f"practice/{split}{number}" for number in range(count)]
        put_table(tmp_path / split / "part-00000.parquet", record_id=ids, page=[page] * count, patient_id=ids)
    facts = DatasetInfo(
        sources=["practice"], fingerprint="f", config=ShardConfig(), sampling_rate_hz=100, num_samples=1000,
        page=PageSettings(), default_label_space="practice", code_sets={}, counts={"train": 5, "val": 2},
        code_counts={}, quality_counts={}, rejected_counts={}, rejected=[],
    )  # fmt: skip
    save_dataset_info(tmp_path, facts)
    source = open_source(tmp_path)
    found = load(source)
    assert source.kind == "shards" and [name for name, _, _ in found][4:6] == ["practice/train4", "practice/val0"]
    (first,) = found[0][2]
    assert isinstance(first, ReadPage) and first.finding is None
    np.testing.assert_array_equal(first.pixels, prepare(page, SPEC))
    (tmp_path / "val" / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match="has 5 records and dataset.json says 7"):
        open_source(tmp_path)


def test_signals_are_drawn(make_ecg: Ecg, write_wfdb: Callable[..., None], tmp_path: Path) -> None:
    for number in range(3):
        write_wfdb(tmp_path / "records" / f"r{number}", make_ecg(number))
    (tmp_path / "records" / "r1.dat").write_bytes(b"short")
    (tmp_path / "README.pdf").write_bytes(b"a paper")
    source = open_source(tmp_path)
    assert (source.kind, source.left_out) == ("signals", {"pictures": 1})
    assert told(source) == [("cinc/r0", [None]), ("cinc/r1", ["truncated_signal"]), ("cinc/r2", [None])]
    (drawn,) = load(source)[0][2]
    style = PageSettings(width_px=256, height_px=192).style("")
    expected = print_page(np.rint(make_ecg(0) * 1000) / 1000, 500, style).planes()
    assert isinstance(drawn, ReadPage) and drawn.finding is None
    # Ink lies where the same signal leaves it; samples were rounded to microvolts.
    assert np.mean(drawn.pixels != expected) < 0.001
    other = open_source(tmp_path, SourceSettings(layout="6x2", grid="green"))
    (green,) = load(other)[0][2]
    assert isinstance(green, ReadPage) and green.pixels[1].mean() > green.pixels[0].mean() > 0


def test_labelled_pages_are_a_folder_of_pictures(page: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(page)
    (tmp_path / "a.png").write_bytes(page)
    (tmp_path / "pages.csv").write_text("page,codes\nb.png,snomed:426783006\n")
    source = open_source(tmp_path)
    assert told(source, tmp_path) == [("a.png", [None]), ("b.png", [None])] and source.left_out == {".csv": 1}


def test_one_text_that_is_no_utf8_costs_nothing_else(page: bytes, tmp_path: Path) -> None:
    names = [b"a.png", b"M\xfcller.png", b"b.png"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(page)
    ends = np.cumsum([0, *map(len, names)]).astype(np.int32)
    texts = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(ends), pa.py_buffer(b"".join(names))])
    table = put_table(tmp_path / "t.parquet", path=texts)
    assert told(open_source(table)) == [("a.png", [None]), ("M\\xfcller.png", [None]), ("b.png", [None])]


@pytest.mark.parametrize("column", ["bytes", "path"])
def test_one_large_value_named_by_many_rows_fills_no_memory(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vizecg.platform.score.sources.row_groups.MAX_DICOM_BYTES", 3_000_000)
    large = b"0" * 4_000_000
    indices = pa.array([0, 1, None] * 2000, pa.int32())
    values = pa.DictionaryArray.from_arrays(indices, pa.array([large, b"text"], pa.binary()))
    kind = pa.binary() if column == "bytes" else pa.string()
    table = pa.table({column: values.cast(pa.dictionary(pa.int32(), kind))})
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False, compression="zstd")
    source = open_source(tmp_path / "t.parquet")
    items = [item for item, _ in source.items()][30:33]
    before = pa.total_allocated_bytes()
    most, reasons = 0, []
    for item in source.reader.open(items):
        most = max(most, pa.total_allocated_bytes() - before)
        reasons += [getattr(each, "reason", None) for each in item.pages(SPEC, Reading())]
    assert reasons == ["too_large", "not_an_image" if column == "bytes" else "unreadable_file", "empty"]
    assert most < 60_000_000


def test_out_may_hold_a_plan_but_not_lie_in_the_input(hostile: Path, tmp_path: Path) -> None:
    for out in (hostile, hostile / "out", hostile.as_uri()):
        with pytest.raises(UserError, match="lies in the input"):
            check_places(str(hostile), str(out))
    check_places(str(hostile), f"{hostile}2")
    check_places(str(hostile / "text.png"), str(hostile / "out"))
    for name in ("plan.html", "plan.json", ".run.json.0.tmp"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("")
    assert earlier_run(str(tmp_path / "out"), {}, "auto") is None
    (tmp_path / "out" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"holds 'notes.txt'"):
        earlier_run(str(tmp_path / "out"), {}, "auto")
