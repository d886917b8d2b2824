"""Whatever bytes arrive: a page or a PageError, soon, in bounded memory, and nothing else."""

import io
import json
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.data.reading import pdf
from vizecg.platform.data.reading.pictures import decode_picture, num_pages
from vizecg.platform.errors import PageError

SPEC = PageSpec(width_px=96, height_px=64)
REASONS = {
    "empty", "too_large", "not_an_image", "too_many_pixels", "too_small", "bad_aspect", "truncated", "animated",
    "unsupported", "no_such_page", "too_many_pages", "too_complex", "encrypted",
}  # fmt: skip
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "png": ("PNG", "RGB", {}),
    "png-palette": ("PNG", "P", {"transparency": 3}),
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg-progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg-cmyk": ("JPEG", "CMYK", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}),
    "tiff-fax": ("TIFF", "1", {"compression": "group4"}),
    "webp": ("WEBP", "RGB", {}),
    "webp-lossless": ("WEBP", "RGBA", {"lossless": True}),
    "gif": ("GIF", "P", {}),
}


def noise(width_px: int = 120, height_px: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


SAMPLES = {name: encoded(noise().convert(mode), kind, **options) for name, (kind, mode, options) in KINDS.items()}


def reason_of(data: bytes, seconds: float = 0.1, **limits: int) -> str:
    start_s = time.thread_time()
    with pytest.raises(PageError) as caught:
        prepare(data, SPEC, **limits)
    assert time.thread_time() - start_s < seconds
    assert caught.value.reason in REASONS and str(caught.value).count("\n") == 0 and len(str(caught.value)) > 15
    return caught.value.reason


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width_px: int, height_px: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def zip_bomb(mebibytes: int, byte: bytes = b"\0") -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(byte * (1 << 20)) for _ in range(mebibytes)) + packer.flush()


def tiff(*tags: tuple[int, str, list[int]]) -> bytes:
    """One directory of a grey picture, without pixels; `tags` replace or join the ordinary ones."""
    ordinary = {256: [100], 257: [100], 258: [8], 259: [1], 262: [1], 273: [8], 277: [1], 278: [100], 279: [10_000]}
    entries = {tag: ("I", values) for tag, values in ordinary.items()} | {tag: (how, v) for tag, how, v in tags}
    directory, values, after = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, (how, numbers) in sorted(entries.items()):
        raw = struct.pack(f"<{len(numbers)}{how}", *numbers)
        directory += struct.pack("<HHI", tag, {"H": 3, "I": 4}[how], len(numbers))
        directory += raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", after + len(values))
        values += raw if len(raw) > 4 else b""
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + values


def pdf_file(*objects: bytes, trailer: bytes = b"") -> bytes:
    """Object 1 is the catalogue, 2 the page tree."""
    data, places = b"%PDF-1.7\n", []
    for number, body in enumerate((b"<</Type/Catalog/Pages 2 0 R>>", *objects), 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, trailer, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n%b%b" % (len(places) + 1, table, end)


def pdf_page(more: bytes = b"", box: bytes = b"0 0 595 842") -> bytes:
    return b"<</Type/Page/Parent 2 0 R/MediaBox[%b]%b>>" % (box, more)


ONE_PAGE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_cut_anywhere_is_refused_or_whole(name: str) -> None:
    data = SAMPLES[name]
    whole = prepare(data, SPEC)
    for share in np.random.default_rng(len(name)).uniform(0.01, 0.97, 10):
        assert reason_of(data[: int(share * len(data))]) in ("truncated", "not_an_image", "unsupported")
    try:
        assert (prepare(data[:-1], SPEC) == whole).all()
    except PageError as error:
        assert error.reason == "truncated"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 1000, "not_an_image"),
        (np.random.default_rng(1).bytes(5000), "not_an_image"),
        (b"<html><body>%PDF-1.7 \xff\xd8\xff</body></html>", "not_an_image"),
        (b"PK\3\4" + SAMPLES["png"], "not_an_image"),
        *((SAMPLES[name][:n], "truncated") for name in ("png", "jpeg", "webp", "tiff", "gif") for n in (12, 25)),
        (b"GIF89a" + b"<script>" * 40, "too_many_pixels"),
        (b"\x89PNG\r\n\x1a\n" + SAMPLES["jpeg"], "truncated"),
        (b"\xff\xd8\xff" + SAMPLES["png"], "truncated"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_a_jpeg_cut_short_is_refused_even_where_it_says_that_it_ends() -> None:
    data = SAMPLES["jpeg"]
    for share in (0.4, 0.6, 0.8):
        assert reason_of(data[: int(share * len(data))] + b"\xff\xd9") == "truncated"


def test_what_follows_a_picture_changes_nothing() -> None:
    for name in ("png", "jpeg", "webp", "gif"):
        assert (prepare(SAMPLES[name] + b"<script>PK\3\4%PDF-1.7", SPEC) == prepare(SAMPLES[name], SPEC)).all()


def test_sizes_are_judged_before_pixels() -> None:
    empty = chunk(b"IDAT", b"")
    assert reason_of(png(50_000, 50_000, chunk(b"IDAT", zip_bomb(8)))) == "too_many_pixels"
    assert reason_of(png(60_000, 1_000, empty)) == "bad_aspect"
    assert reason_of(tiff((256, "I", [60_000]), (257, "I", [60_000]))) == "too_many_pixels"
    assert (
        reason_of(SAMPLES["webp"][:26] + struct.pack("<HH", 16383, 16383) + SAMPLES["webp"][30:]) == "too_many_pixels"
    )
    assert reason_of(b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(100)) == "too_many_pixels"
    assert reason_of(b"BM" + struct.pack("<IIIIii", 0, 0, 54, 40, 1 << 30, -(1 << 31)) + bytes(99)) == "too_many_pixels"
    frame = SAMPLES["jpeg"].index(b"\xff\xc0") + 5
    assert reason_of(SAMPLES["jpeg"][:frame] + b"\xff\xff\xff\xff" + SAMPLES["jpeg"][frame + 4 :]) == "too_many_pixels"
    assert reason_of(SAMPLES["png"], max_pixels=1000) == "too_many_pixels"
    assert reason_of(SAMPLES["png"], max_bytes=1000) == "too_large"


def test_frames_larger_than_the_picture_says() -> None:
    size, frame = struct.pack("<HH", 100, 100), struct.pack("<HHHH", 0, 0, 60_000, 60_000)
    assert reason_of(b"GIF89a" + size + b"\xf0\0\0" + bytes(6) + b"," + frame + b"\0\x08\x02\0\x01\0;") == "truncated"
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (79).to_bytes(3, "little") * 2
    body = b"WEBP" + canvas + SAMPLES["webp"][12:26] + struct.pack("<HH", 9_000, 6_000) + SAMPLES["webp"][30:]
    assert reason_of(b"RIFF" + struct.pack("<I", len(body)) + body) == "truncated"


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_bombs_beside_the_pixels_are_not_opened(name: bytes) -> None:
    before = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name]
    bomb = chunk(name, before + zip_bomb(64))
    data = png(80, 80, *[bomb] * 20, chunk(b"IDAT", zlib.compress(bytes(80 * 241))))
    start_s = time.thread_time()
    assert (prepare(data, SPEC)[:, :, 20:70] == 0).all()
    assert time.thread_time() - start_s < 0.1


def test_more_pixels_than_the_size_has_room_for() -> None:
    assert reason_of(png(80, 80, chunk(b"IDAT", zip_bomb(200)))) == "truncated"
    # In a large picture nothing tells such a stream from an honest one; it is read to the last row.
    rows = png(1000, 1000, chunk(b"IDAT", zip_bomb(250)))
    start_s = time.thread_time()
    assert not prepare(rows, SPEC)[:, :, 20:70].any()
    assert time.thread_time() - start_s < 0.2


@pytest.mark.parametrize(
    "data",
    [
        png(100, 100, *[chunk(b"tEXt", b"")] * 200_000),
        png(100, 100, *[chunk(b"IDAT", b"")] * 200_000),
        b"\xff\xd8" + b"\xff\xe1\0\x02" * 1_000_000,
        tiff((273, "I", [8] * 300_000), (278, "I", [1]), (279, "I", [1] * 300_000)),
        tiff((322, "I", [60_000]), (323, "I", [60_000]), (324, "I", [8]), (325, "I", [100])),
        tiff((258, "H", [8] * 60_000), (277, "I", [60_000])),
        tiff((278, "I", [0])),
        tiff((279, "I", [0xFFFFFFFF])),
    ],
    ids=["texts", "data", "segments", "strips", "tile", "channels", "no-rows", "strip-bytes"],
)
def test_counts_that_make_no_sense_are_refused(data: bytes) -> None:
    assert reason_of(data) in ("truncated", "unsupported")


def test_directories_in_a_circle_and_scans_without_end() -> None:
    circle = tiff()
    end = 8 + 2 + 12 * 9
    assert reason_of(circle[:end] + struct.pack("<I", 8) + circle[end + 4 :]) == "too_many_pages"
    data = SAMPLES["jpeg-progressive"]
    scan = data.index(b"\xff\xda")
    assert reason_of(data[:-2] + data[scan : scan + 500] * 2000 + b"\xff\xd9") == "too_complex"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_what_moves_is_no_page(kind: str) -> None:
    frames = [noise().rotate(angle) for angle in (0, 20, 40)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert reason_of(data) == "animated"


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(KINDS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12)), min_size=1, max_size=4),
    head=st.booleans(),
)
def test_damaged_bytes_give_a_page_or_a_page_error(name: str, places: list[tuple[float, bytes]], head: bool) -> None:
    data = bytearray(SAMPLES[name])
    for place, junk in places:
        at = int(place * (min(len(data), 300) if head else len(data)))
        data[at : at + len(junk)] = junk
    try:
        assert prepare(bytes(data), SPEC).shape == (3, 64, 96)
    except PageError as error:
        assert error.reason in REASONS


BOMB = zip_bomb(700, b"q ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7\n", "truncated"),
        (b"%PDF-1.4 <html><body>hello</body></html>", "truncated"),
        *((encoded(noise(), "PDF")[:n], "truncated") for n in (300, 3000, 7000, 8100)),
        (pdf_file(b"<</Type/Pages/Kids[]/Count 0>>"), "truncated"),
        (pdf_file(b"<</Type/Pages/Kids[%b]/Count 5000>>" % (b"3 0 R " * 5000), pdf_page()), "too_many_pages"),
        (pdf_file(ONE_PAGE, pdf_page(box=b"0 0 9000 9")), "too_small"),
        (pdf_file(ONE_PAGE, pdf_page(box=b"0 0 9000 90")), "bad_aspect"),
        (
            pdf_file(
                ONE_PAGE,
                pdf_page(),
                b"<</Filter/Standard/V 1/R 2/P -4/O<%b>/U<%b>>>" % (b"41" * 32, b"42" * 32),
                trailer=b"/Encrypt 4 0 R/ID[<00><00>]",
            ),
            "encrypted",
        ),
        (
            pdf_file(
                ONE_PAGE,
                pdf_page(b"/Contents 4 0 R"),
                b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(BOMB), BOMB),
            ),
            "too_complex",
        ),
    ],
    ids=["header", "html", "cut-1", "cut-2", "cut-3", "cut-4", "empty", "pages", "thin", "long", "encrypted", "bomb"],
)
def test_pdfs_that_cannot_be_read(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_a_pdf_has_only_so_much_time_and_room(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = pdf_file(ONE_PAGE, pdf_page(box=b"0 0 14400000 14400000"))
    assert max(decode_picture(huge, max_pixels=90_000).shape) <= 300
    assert num_pages(pdf_file(b"<</Type/Pages/Kids[3 0 R]/Count 999999999>>", pdf_page())) == 1
    monkeypatch.setattr(pdf, "MAX_MEMORY_BYTES", 8 << 20)
    assert reason_of(huge) == "too_complex"
    monkeypatch.setattr(pdf, "MAX_MEMORY_BYTES", 512 << 20)
    monkeypatch.setattr(pdf, "MAX_SECONDS", 0.001)
    assert reason_of(huge) == "too_complex"


MEASURE = """
import json, sys
from pathlib import Path
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.errors import PageError

def peak_mib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

before, found = peak_mib(), {}
for path in sys.argv[1:]:
    try:
        prepare(Path(path).read_bytes(), PageSpec())
        found[Path(path).name] = "read"
    except PageError as error:
        found[Path(path).name] = error.reason
print(json.dumps([peak_mib() - before, found]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_largest_pictures_stay_within_300_mib(tmp_path) -> None:
    side_px = 7990
    large = Image.new("RGB", (side_px, side_px), (200, 210, 220))
    (tmp_path / "rgb.jpeg").write_bytes(encoded(large, "JPEG"))
    (tmp_path / "rgba.png").write_bytes(encoded(large.convert("RGBA"), "PNG", compress_level=1))
    command = [sys.executable, "-c", MEASURE, *map(str, sorted(tmp_path.iterdir()))]
    peak_mib, found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert found == {"rgb.jpeg": "read", "rgba.png": "read"}
    assert peak_mib < 300
