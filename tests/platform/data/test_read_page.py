"""The one way in for pages: good pictures come through unharmed, bad ones end in a PageError."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.data.read_page import PageSpec, letterbox, prepare, prepare_image
from vizecg.platform.errors import PageError

SPEC = PageSpec(width_px=512, height_px=384)


def page(width_px: int = 512, height_px: int = 384) -> np.ndarray:
    signal = np.random.default_rng(1).normal(0, 0.2, (12, 1000)).astype(np.float32)
    return draw_page(signal, 100.0, PageStyle(width_px=width_px, height_px=height_px))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data: bytes, **limits: int) -> str:
    start_s = time.monotonic()
    with pytest.raises(PageError) as caught:
        prepare(data, SPEC, **limits)
    assert time.monotonic() - start_s < 5 and str(caught.value)
    return caught.value.reason


def png_header(width_px: int, height_px: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    chunks = ((name, struct.pack(">I", zlib.crc32(name))) for name in (header, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(name) - 4) + name + crc for name, crc in chunks)


def test_a_drawn_page_comes_back_bit_for_bit() -> None:
    image = page()
    assert (prepare(encode_page(image), SPEC) == image.transpose(2, 0, 1)).all()
    assert (prepare_image(image, SPEC) == image.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 6),
        ("JPEG", {"progressive": True, "quality": 95}, 6),
    ],
)
def test_every_format_gives_the_same_pixels(kind: str, options: dict[str, object], tolerance: float) -> None:
    image = page()
    read = prepare(encoded(Image.fromarray(image), kind, **options), SPEC).transpose(1, 2, 0)
    assert np.abs(read.astype(int) - image).mean() <= tolerance


def test_grey_sixteen_bit_and_bilevel_pictures_are_read() -> None:
    grey = Image.fromarray(page()).convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for picture, kind in ((grey, "PNG"), (wide, "PNG"), (wide, "TIFF"), (grey, "JPEG")):
        read = prepare(encoded(picture, kind), SPEC)
        assert np.abs(read.astype(int) - np.asarray(grey)).mean() < (5 if kind == "JPEG" else 1)
    fax = Image.fromarray(page()).convert("1")
    assert (prepare(encoded(fax, "TIFF", compression="group4"), SPEC)[0] == np.asarray(fax) * 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_becomes_white(kind: str) -> None:
    rgba = np.dstack([page(), np.full((384, 512), 255, np.uint8)])
    rgba[:100, :, 3] = 0
    options = {"lossless": True} if kind == "WEBP" else {}
    read = prepare(encoded(Image.fromarray(rgba), kind, **options), SPEC)
    assert (read[:, :100] == 255).all() and (read[:, 100:] == page()[100:].transpose(2, 0, 1)).all()


def test_transparency_of_grey_and_palette_pictures() -> None:
    grey = Image.fromarray(page()).convert("L")
    veiled = Image.merge("LA", [grey, Image.new("L", grey.size, 0)])
    assert (prepare(encoded(veiled, "PNG"), SPEC) == 255).all()
    palette = Image.new("P", (512, 384), 3)
    palette.putpalette([0, 0, 0] * 256)
    assert (prepare(encoded(palette, "PNG", transparency=3), SPEC) == 255).all()


def test_exif_orientation_is_applied() -> None:
    turned = Image.fromarray(page()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    read = prepare(encoded(turned, "JPEG", exif=exif, quality=95), SPEC).transpose(1, 2, 0)
    assert np.abs(read.astype(int) - page()).mean() < 6


@settings(max_examples=20, deadline=None)
@given(width_px=st.integers(64, 700), height_px=st.integers(64, 700))
def test_letterbox_keeps_the_aspect(width_px: int, height_px: int) -> None:
    image = np.full((height_px, width_px, 3), (200, 150, 100), np.uint8)
    image[height_px // 4 : -(height_px // 4), width_px // 4 : -(width_px // 4)] = 0
    fitted = letterbox(image, SPEC)
    assert fitted.shape == (384, 512, 3) and (fitted[0, 0] == (200, 150, 100)).all()
    ys, xs = np.nonzero(fitted[..., 0] < 100)
    scale = min(512 / width_px, 384 / height_px)
    assert np.ptp(xs) + 1 == pytest.approx(scale * (width_px - 2 * (width_px // 4)), abs=2.5)
    assert np.ptp(ys) + 1 == pytest.approx(scale * (height_px - 2 * (height_px // 4)), abs=2.5)


@settings(max_examples=40, deadline=None)
@given(
    width_px=st.integers(250, 1500),
    height_px=st.integers(250, 1500),
    spec=st.builds(PageSpec, width_px=st.integers(64, 700), height_px=st.integers(64, 700)),
)
def test_letterbox_keeps_millimetres_alike_in_both_directions(width_px: int, height_px: int, spec: PageSpec) -> None:
    # White in a black frame, of which the padding takes its colour: the white of a row is its length.
    image = np.zeros((height_px, width_px, 3), np.uint8)
    image[50:-50, 50:-50] = 255
    white = letterbox(image, spec)[..., 0] / 255
    scale = min(spec.width_px / width_px, spec.height_px / height_px)
    assert white[spec.height_px // 2].sum() == pytest.approx(scale * (width_px - 100), abs=0.55)
    assert white[:, spec.width_px // 2].sum() == pytest.approx(scale * (height_px - 100), abs=0.55)


def test_bytes_that_are_no_page_are_refused_with_a_reason() -> None:
    assert reason_of(b"") == "empty"
    assert reason_of(b"patient,label\n1,AF\n" * 50) == "not_an_image"
    assert reason_of(b"BM list of things to do") == "not_an_image"
    assert reason_of(encode_page(page()), max_bytes=1000) == "too_large"
    assert reason_of(png_header(60_000, 60_000)) == "too_many_pixels"
    assert reason_of(png_header(9_000, 9_000)) == "too_many_pixels"
    assert reason_of(encoded(Image.new("RGB", (63, 500)), "PNG")) == "too_small"
    assert reason_of(encoded(Image.new("RGB", (70, 1000)), "PNG")) == "bad_aspect"
    assert reason_of(b"\x89PNG\r\n\x1a\n") == "truncated"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_picture_cut_short_is_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(page()), kind)
    assert reason_of(data[: int(len(data) * share)]) == "truncated"


def test_a_cut_jpeg_is_refused_though_its_thumbnail_is_whole() -> None:
    thumbnail = encoded(Image.fromarray(page(160, 120)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = encoded(Image.fromarray(page()), "JPEG")
    whole = data[:2] + segment + data[2:]
    assert prepare(whole, SPEC).shape == (3, 384, 512)
    assert prepare(whole + b"trailer of a motion photo", SPEC).shape == (3, 384, 512)
    assert reason_of(whole[:-5000]) == "truncated"


@settings(max_examples=40, deadline=None)
@given(
    position=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=40),
    kind=st.sampled_from(["PNG", "JPEG", "TIFF", "BMP"]),
)
def test_damaged_bytes_give_a_page_or_a_page_error(position: float, junk: bytes, kind: str) -> None:
    data = bytearray(encoded(Image.fromarray(page(96, 80)), kind))
    at = int(position * len(data))
    data[at : at + len(junk)] = junk
    try:
        assert prepare(bytes(data), SPEC).shape == (3, 384, 512)
    except PageError as error:
        assert error.reason


def test_spec_survives_storage_and_pydantic() -> None:
    assert PageSpec.from_dict(SPEC.to_dict()) == SPEC
    assert TypeAdapter(PageSpec).validate_python({"width_px": 512, "height_px": 384}) == SPEC
    with pytest.raises(ValueError, match="'depth'"):
        PageSpec.from_dict({"depth": 3})
    with pytest.raises(ValueError, match="too small"):
        PageSpec(width_px=10, height_px=10)
