"""Every kind of picture that a clinic sends comes out as the same upright RGB page."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from vizecg.platform.data.archives import PageFolderArchive
from vizecg.platform.data.dataset_info import PageSettings
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.data.reading import pictures
from vizecg.platform.data.reading.pictures import decode_pages, decode_picture, num_pages, picture_size_px
from vizecg.platform.data.shard_tasks import stored_page
from vizecg.platform.errors import PageError, RecordError

WIDTH_PX, HEIGHT_PX = 240, 160
ORIENTATION = 0x0112


def blotches(seed: int = 0, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> np.ndarray:
    """Smooth colours, no two corners alike: what JPEG keeps and what no turn leaves as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR)


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def off(read: np.ndarray, expected: np.ndarray) -> float:
    assert read.shape == expected.shape and read.dtype == np.uint8
    return float(np.abs(read.astype(int) - expected).mean())


EXACT = [
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("GIF", "P", {}),
    ("WEBP", "RGB", {"lossless": True}),
    *(("TIFF", mode, {}) for mode in ("RGB", "L", "P", "CMYK")),
    *(("TIFF", "RGB", {"compression": f"tiff_{name}"}) for name in ("lzw", "adobe_deflate", "deflate")),
    ("TIFF", "L", {"compression": "packbits"}),
    ("PNG", "L", {}),
    ("PNG", "1", {}),
    ("BMP", "1", {}),
    ("TIFF", "1", {}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "1", {"compression": "group3"}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), EXACT)
def test_lossless_kinds_come_back_bit_for_bit(kind: str, mode: str, options: dict[str, object]) -> None:
    picture = Image.fromarray(blotches()).convert(mode)
    assert off(decode_picture(encoded(picture, kind, **options)), np.asarray(picture.convert("RGB"))) == 0


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 95, "progressive": True, "subsampling": 0}),
        ("JPEG", "L", {"quality": 95}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("TIFF", "RGB", {"compression": "jpeg", "quality": 95}),
        ("WEBP", "RGB", {"quality": 95}),
    ],
)
def test_lossy_kinds_come_back_nearly(kind: str, mode: str, options: dict[str, object]) -> None:
    picture = Image.fromarray(blotches()).convert(mode)
    assert off(decode_picture(encoded(picture, kind, **options)), np.asarray(picture.convert("RGB"))) < 3


@pytest.mark.parametrize(("kind", "big_endian"), [("PNG", False), ("TIFF", False), ("TIFF", True)])
def test_sixteen_bit_grey_is_cut_to_eight(kind: str, big_endian: bool) -> None:
    grey = np.asarray(Image.fromarray(blotches()).convert("L"))
    wide = (grey.astype(np.uint16) << 8) + 199
    picture = Image.frombytes("I;16B", grey.shape[::-1], wide.astype(">u2").tobytes()) if big_endian else wide
    assert off(decode_picture(encoded(picture, kind)), np.repeat(grey[..., None], 3, axis=2)) == 0


def test_sixteen_bit_colour_is_cut_to_eight() -> None:
    wide = (blotches().astype(np.uint16) << 8) + 199
    for kind in (".png", ".tiff"):
        assert off(decode_picture(cv2.imencode(kind, wide[..., ::-1])[1].tobytes()), blotches()) == 0
    alpha = np.full((HEIGHT_PX, WIDTH_PX, 1), 65535, np.uint16)
    alpha[:80] = 0
    veiled = cv2.imencode(".png", np.dstack([wide[..., ::-1], alpha]))[1].tobytes()
    expected = np.where(alpha == 0, 255, blotches())
    assert off(decode_picture(veiled), expected) == 0


def white_is_zero(data: bytes) -> bytes:
    """The same TIFF with its photometric interpretation turned over."""
    entry = struct.pack("<HHI", 262, 3, 1)
    at = data.index(entry) + len(entry)
    return data[:at] + b"\0" + data[at + 1 :]


@pytest.mark.parametrize("deep", [False, True])
def test_a_negative_tiff_is_turned_over(deep: bool) -> None:
    grey = np.asarray(Image.fromarray(blotches()).convert("L"))
    data = white_is_zero(encoded(grey.astype(np.uint16) * 257 if deep else grey, "TIFF"))
    assert off(decode_picture(data), 255 - np.repeat(grey[..., None], 3, axis=2)) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(dtype: type) -> None:
    with pytest.raises(PageError, match="32 bits") as caught:
        decode_picture(encoded(blotches()[..., 0].astype(dtype), "TIFF"))
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_lies_over_white(kind: str) -> None:
    alpha = np.linspace(0, 255, HEIGHT_PX).round().astype(np.uint8)[:, None].repeat(WIDTH_PX, axis=1)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    read = decode_picture(encoded(np.dstack([blotches(), alpha]), kind, **options))
    share = alpha[..., None] / 255
    assert np.abs(read - (blotches() * share + 255 * (1 - share))).max() <= 0.51


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_becomes_white(kind: str) -> None:
    places = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    places[:80] = 1
    picture = Image.fromarray(places, "P")
    picture.putpalette([9, 8, 7, 6, 5, 4])
    read = decode_picture(encoded(picture, kind, transparency=1))
    assert (read[:80] == 255).all() and (read[80:] == (9, 8, 7)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_exif(kind: str, orientation: int) -> None:
    # What undoes each turn, after Pillow's own table.
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = Image.fromarray(blotches())
    stored = stored if turn is None else stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(stored, kind, exif=exif, **options)
    assert off(decode_picture(data), blotches()) < (3 if kind == "JPEG" else 0.01)
    assert picture_size_px(data) == (WIDTH_PX, HEIGHT_PX)


def test_damaged_exif_and_its_copies_turn_nothing() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(blotches(), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0")
    for junk in (b"\xff" * 8, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\0"):
        assert decode_picture(data[: at + 6] + junk + data[at + 14 :]).shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_colour_profiles_and_texts_are_left_out() -> None:
    text = zlib.compress(b"a" * 3_000_000)
    data = encoded(blotches(), "PNG", icc_profile=b"no profile at all" * 10)
    chunk = b"zTXt" + b"comment\0\0" + text
    bloated = data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    assert off(decode_picture(bloated), blotches()) == 0


def test_pages_of_a_tiff() -> None:
    pages = [blotches(seed, WIDTH_PX + 10 * seed) for seed in range(3)]
    rest = [Image.fromarray(page) for page in pages[1:]]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=rest, compression="tiff_lzw")
    assert num_pages(data) == 3
    assert [off(read, page) for read, page in zip(decode_pages(data), pages, strict=True)] == [0, 0, 0]
    with pytest.raises(PageError, match="page 4 is asked of a TIFF that has 3"):
        decode_picture(data, page=3)
    with pytest.raises(PageError, match="page 2 is asked of a picture"):
        decode_picture(encoded(blotches(), "PNG"), page=1)


@pytest.fixture(scope="module")
def pdf() -> bytes:
    """Two A5 pages in landscape, each one picture, as scanners write them."""
    first, second = (Image.fromarray(blotches(seed, 1654, 1165)) for seed in (1, 2))
    return encoded(first, "PDF", save_all=True, append_images=[second], resolution=200, quality=95)


def test_pages_of_a_pdf_are_drawn_at_200_dpi(pdf: bytes) -> None:
    assert num_pages(pdf) == 2 and num_pages(encoded(blotches(), "PNG")) == 1
    for seed, read in zip((1, 2), decode_pages(pdf), strict=True):
        assert off(read[:1165, :1654], blotches(seed, 1654, 1165)) < 3
        assert abs(read.shape[1] - 1654) <= 1 and abs(read.shape[0] - 1165) <= 1
    with pytest.raises(PageError, match="page 3 is asked of a PDF that has 2"):
        decode_picture(pdf, page=2)
    assert prepare(pdf, PageSpec()).shape == (3, 384, 512)


def test_a_huge_pdf_page_is_drawn_coarser() -> None:
    data = encoded(blotches(1, 2000, 1000), "PDF", resolution=10)
    read = decode_picture(data, max_pixels=500_000)
    assert 450_000 < read.shape[0] * read.shape[1] <= 500_000
    assert read.shape[1] / read.shape[0] == pytest.approx(2, abs=0.01)
    assert off(cv2.resize(read, (200, 100)), cv2.resize(blotches(1, 2000, 1000), (200, 100))) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_huge_picture_is_shrunk_while_it_is_decoded(kind: str, turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "OPENCV_BYTES", 100_000)
    stored = blotches(3, 803, 1201) if turned else blotches(3, 1201, 803)
    exif = Image.Exif()
    exif[ORIENTATION] = 8 if turned else 1
    expected = np.ascontiguousarray(np.rot90(stored)) if turned else stored
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {"quality": 95}))
    read = decode_picture(data, wanted_px=(150, 100))
    factor = 4
    assert read.shape == (-(-803 // factor), -(-1201 // factor), 3)
    filled = np.pad(expected, ((0, -expected.shape[0] % 4), (0, -expected.shape[1] % 4), (0, 0)), "edge")
    assert off(read, cv2.resize(filled, read.shape[1::-1], interpolation=cv2.INTER_AREA)) < 2
    assert decode_picture(data, wanted_px=(1201, 803)).shape == expected.shape
    in_one = prepare(encoded(expected, "BMP"), PageSpec(width_px=150, height_px=100))
    assert off(prepare(data, PageSpec(width_px=150, height_px=100)), in_one) < 2


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.dstack([blotches(), blotches(5)[..., 0]])
    whole = decode_picture(encoded(rgba, "PNG")), decode_picture(encoded(rgba, "WEBP", lossless=True))
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 7 * WIDTH_PX)
    strips = decode_picture(encoded(rgba, "PNG")), decode_picture(encoded(rgba, "WEBP", lossless=True))
    assert all((one == other).all() for one, other in zip(whole, strips, strict=True))


def test_page_folders_take_pages_out_of_files(pdf: bytes, tmp_path) -> None:
    (tmp_path / "report.pdf").write_bytes(pdf)
    (tmp_path / "odd#2").write_bytes(encoded(blotches(4), "PNG"))
    rows = ["report.pdf,", "report.pdf#2,", "odd#2,", "report.pdf#3,", "report.pdf#0,"]
    (tmp_path / "pages.csv").write_text("\n".join(["page,codes", *rows]) + "\n")
    archive = PageFolderArchive(root=tmp_path)
    entries = {entry.locator: entry for entry in archive.entries()}
    size = PageSettings(width_px=320, height_px=224)
    for locator, seed in (("report.pdf", 1), ("report.pdf#2", 2)):
        stored = stored_page(archive.read(entries[locator]).page, size)
        read = decode_picture(stored)
        assert off(read, cv2.resize(blotches(seed, 1654, 1165), read.shape[1::-1])) < 4
    assert archive.read(entries["odd#2"]).page == encoded(blotches(4), "PNG")
    with pytest.raises(PageError, match="page 3 is asked of a PDF that has 2"):
        archive.read(entries["report.pdf#3"])
    with pytest.raises(RecordError, match="asks for page 0; the first is 1"):
        archive.read(entries["report.pdf#0"])
    before = archive.fingerprint()
    (tmp_path / "report.pdf").write_bytes(pdf + b"\n")
    assert archive.fingerprint() != before
