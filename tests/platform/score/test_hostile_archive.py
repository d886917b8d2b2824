"""An archive of which one file in twenty is hostile: the run ends well, and every count agrees."""

import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vizecg.platform.score.job import PoolSettings, ScoreSettings
from vizecg.platform.score.run import score_pages

pytestmark = pytest.mark.chaos

NUM_GOOD = 570
EACH = 5


def png_bomb(side_px: int) -> bytes:
    """A kilobyte that says it is a picture of `side_px` squared."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def listing(pages: list[bytes], tmp_path: Path) -> tuple[Path, Counter[str]]:
    """A list of pages, and how often every reason is expected; five pages are named twice."""
    folder, expected, names = tmp_path / "archive", Counter[str](), list[str]()
    folder.mkdir()
    hostile = {
        "truncated": lambda n: pages[0][: 2000 + n],
        "not_an_image": lambda n: b"Dear colleague, " * (n + 1),
        "empty": lambda n: b"",
        "too_many_pixels": lambda n: png_bomb(30_000 + n),
    }
    for number in range(NUM_GOOD):
        names.append(f"good-{number:03}.png")
        (folder / names[-1]).write_bytes(pages[number % len(pages)])
    for reason, data in hostile.items():
        for number in range(EACH):
            names.append(f"{reason}-{number}.png")
            (folder / names[-1]).write_bytes(data(number))
            expected[reason] += 1
    for number in range(EACH):
        # A pipe can be opened by nobody, also where tests run as root.
        names += [f"pipe-{number}.png", f"gone-{number}.png"]
        os.mkfifo(folder / names[-2])
        expected["unreadable_file"] += 2
    names += names[:EACH]
    (tmp_path / "pages.txt").write_text("".join(f"archive/{name}\n" for name in names))
    return tmp_path / "pages.txt", expected


def test_an_archive_with_hostile_files(
    ray_cluster: None, bundle_folder: Path, listing: tuple[Path, Counter[str]], tmp_path: Path
) -> None:
    place, expected = listing
    settings = ScoreSettings(pool=PoolSettings(chunk_pages=50), rows_per_file=200)
    summary = score_pages(bundle_folder, place, tmp_path / "out", settings=settings)
    num_pages = NUM_GOOD + expected.total() + EACH
    assert summary["rejected"] == expected
    assert (summary["pages"], summary["scored"]) == (num_pages, num_pages - expected.total())
    assert summary["duplicates"] == EACH
    sizes = [pq.read_metadata(file).num_rows for file in sorted((tmp_path / "out" / "scores").iterdir())]
    assert sizes == [200, 200, 200, num_pages - 600]
    rows = pq.read_table(tmp_path / "out" / "scores", columns=["row", "reason"])
    assert sorted(rows["row"].to_pylist()) == list(range(num_pages))
    assert Counter(reason for reason in rows["reason"].to_pylist() if reason) == expected
