"""Local paths and URIs alike: what is listed, how names are read, what is written whole."""

import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.storage import (
    delete,
    exists,
    filesystem_of,
    glob,
    join,
    list_names,
    move,
    parent,
    read_bytes,
    shown,
    size_and_time,
    walk,
    what_is,
    write_whole,
)  # fmt: skip


def put(location: str, data: bytes = b"x") -> None:
    write_whole(*filesystem_of(location), data)


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, named in three ways."""
    kinds = {"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": f"memory://{tmp_path.name}-{os.getpid()}"}
    return kinds[request.param]


def test_the_same_of_paths_and_uris(place: str) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", "b.png", "a b#1 100%.png", "b/c/d.png"):
        put(join(place, name), name.encode())
    assert [found.name for found in walk(place)] == sorted(
        ["b/2.png", "b/10.png", "a.png", "b.png", "a b#1 100%.png", "b/c/d.png"]
    )
    assert [found.name for found in walk(place, 1)] == ["a b#1 100%.png", "a.png", "b.png"]
    assert all(read_bytes(join(place, found.name), 99) == found.name.encode() for found in walk(place))
    assert read_bytes(join(place, "b/10.png"), 3) == b"b/10"
    assert {found.size_bytes for found in walk(join(place, "b", "c"))} == {9}
    assert size_and_time(join(place, "b/c/d.png")) is not None and size_and_time(join(place, "z")) is None
    assert what_is(place) == "folder" and what_is(join(place, "a.png")) == "file" and not exists(join(place, "z"))
    assert list_names(join(place, "b"), ".png") == ["10.png", "2.png"] and list_names(join(place, "z")) == []
    move(join(place, "a.png"), join(place, "z.png"))
    assert not exists(join(place, "a.png")) and read_bytes(join(place, "z.png"), 9) == b"a.png"
    delete(join(place, "b"))
    delete(join(place, "never there"))
    assert [found.name for found in walk(place)] == ["a b#1 100%.png", "b.png", "z.png"]
    with pytest.raises(OSError):
        read_bytes(join(place, "gone.png"), 9)
    with pytest.raises(UserError, match="cannot be listed"):
        list(walk(join(place, "gone")))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["a.png", "b[1].png"]),
        ("**/*.png", ["a.png", "b[1].png", "x/c.png", "x/y/d.png"]),
        ("x/**", ["c.png", "e.txt", "y/d.png"]),
        ("x/**/d.*", ["y/d.png"]),
        ("?/*.[pq]ng", ["x/c.png"]),
        ("b[[]1].png", ["b[1].png"]),
        ("nowhere/*.png", []),
        ("[.png", []),
    ],
)
def test_globs(place: str, pattern: str, names: list[str]) -> None:
    for name in ("a.png", "b[1].png", "x/c.png", "x/y/d.png", "x/e.txt"):
        filesystem, path = filesystem_of(join(place, name))
        filesystem.create_dir(path.rpartition("/")[0])
        # fsspec's own `mv`, by which `write_whole` ends, takes brackets for a pattern.
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"x")
    folder, found = glob(f"{place}/{pattern}")
    assert [each.name for each in found] == names
    assert shown(folder).startswith(shown(place))


def test_a_written_file_is_whole_or_not_there(place: str) -> None:
    file = join(place, "new/scores.parquet")
    put(file, b"old")
    put(file, b"newer")
    assert read_bytes(file, 99) == b"newer" and list_names(join(place, "new")) == ["scores.parquet"]

    filesystem, path = filesystem_of(file)
    with pytest.raises(TypeError):
        write_whole(filesystem, path, object())  # pyrefly: ignore[bad-argument-type]
    assert read_bytes(file, 99) == b"newer" and list_names(join(place, "new"), ".parquet") == ["scores.parquet"]


def test_links_and_odd_names(tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "page.png").write_bytes(b"page")
    (tmp_path / "ward" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "ward")
    (tmp_path / "once more").symlink_to(tmp_path / "ward")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    os.mkfifo(tmp_path / "pipe.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.png")).write_bytes(b"latin")
    names = [found.name for found in walk(tmp_path)]
    assert names == ["M\\xfcller.png", "again/page.png", "broken.png", "pipe.png", "self.png", "ward/page.png"]
    assert read_bytes(tmp_path / "M\\xfcller.png", 9) == b"latin"
    (tmp_path / "100% ä #1.png").write_bytes(b"percent")
    assert read_bytes((tmp_path / "100% ä #1.png").as_uri(), 9) == b"percent"
    for name in ("broken.png", "self.png", "pipe.png", "ward"):
        with pytest.raises(OSError):
            read_bytes(tmp_path / name, 9)


def test_a_folder_that_cannot_be_listed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "locked", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.png").write_bytes(b"x")
    scandir = os.scandir

    def guarded(path: bytes) -> object:
        if path.rstrip(b"/").endswith(b"locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = list(walk(tmp_path))
    assert [each.name for each in found] == ["a/page.png", "locked/", "z/page.png"]
    assert [each.error is None for each in found] == [True, False, True]


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger holds memory of its own")
def test_listing_holds_one_folder_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from vizecg.platform import listing

    def entries(below: str) -> object:
        ends = "/" if below.count("/") < 2 else ".png"
        return (listing.Found(f"{below}{number:03d}{ends}") for number in range(100 if below else 20))

    tracemalloc.start()
    number = sum(1 for _ in listing.depth_first(entries))  # pyrefly: ignore[bad-argument-type]
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert number == 200_000 and most_bytes < 100_000


def test_keys_and_options_are_not_shown() -> None:
    place = "s3://KEY:SECRET@bucket/pages?region=eu-central-1"
    assert shown(place) == "s3://bucket/pages" and parent(place).endswith("@bucket/?region=eu-central-1")
    assert join(place, "a", "b c.png") == "s3://KEY:SECRET@bucket/pages/a/b c.png?region=eu-central-1"
    assert join(place, "/data/x.png") == "s3://KEY:SECRET@bucket/data/x.png?region=eu-central-1"
    assert join(place, "gs://other/x.png") == "gs://other/x.png" and join("/a", "/b/c") == "/b/c"
    assert filesystem_of("s3://bucket/a b%20#1?.png?region=eu-central-1")[1] == "bucket/a b%20#1?.png"
    assert shown("abfs://box@account.dfs.core.windows.net/x") == "abfs://box@account.dfs.core.windows.net/x"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nonsense://x", "nonsense://x cannot be opened: Protocol not known"),
        ("sftp://h/x", "paramiko"),
        ("s3://k:s@b/x?colour=red", r"s3://b cannot be opened: Unexpected query"),
        ("file://data/x", "write file:///data/x"),
    ],
)
def test_what_cannot_be_opened(place: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        filesystem_of(place)
    assert "\n" not in str(caught.value)


def test_a_path_that_can_be_none_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="null"):
        read_bytes(f"{tmp_path}/a\0b.png", 9)
    for place in ("github://x", "reference://x"):
        with pytest.raises(UserError, match=f"{place} cannot be opened"):
            filesystem_of(place)


def test_a_file_half_written_is_hidden_and_a_whole_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    put(str(tmp_path / "a.parquet"))
    written, folder = map(Path, synced)
    assert written.name.startswith(".a.parquet.") and folder == written.parent == tmp_path
    with pytest.raises(TypeError):
        write_whole(*filesystem_of(tmp_path / "b.parquet"), object())  # pyrefly: ignore[bad-argument-type]
    assert [name[0] for name in list_names(tmp_path)] == [".", "a"]
    with pytest.raises(UserError, match="only read"):
        write_whole(*filesystem_of("https://localhost/scores/a.parquet"), b"x")
