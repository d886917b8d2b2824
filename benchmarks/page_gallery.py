"""Pictures of what pages can look like, from the practice archive alone, as contact sheets with captions.

    python benchmarks/page_gallery.py OUT [--real FOLDER]

Writes layouts, scales, inks, lettering, by-lot (PNG), truth and conditions (JPEG) into OUT; the same every time. With
--real there is also beside-real.jpg: real prints of FOLDER beside pages of ours. It shows patients' recordings, so it
does not belong into a repository.
"""

import argparse
import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vizecg.platform.data.artefacts import PRESETS, wear_page
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import GRID_COLOURS, LAYOUTS, PageStyle, draw_page, page_truth
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.printing.device_text import device_text
from vizecg.platform.data.printing.measurements import measure
from vizecg.platform.data.printing.styles import page_style
from vizecg.platform.data.printing.truth import PageTruth, Points
from vizecg.platform.data.read_page import PageSpec, prepare

RATE_HZ = 500
SEED = 1
GAP_PX = 14
CAPTION_PX = 30
JPEG_QUALITY = 85
CRISP: dict[str, Any] = {"width_px": 816, "height_px": 612}
"""Three pixels a millimetre: the grid falls on whole pixels."""
WORN_PX = (1160, 870)
"""Shown at half the size."""
CONDITIONS = tuple(name for name in PRESETS if name != "clean")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

Pixels = NDArray[np.uint8]
Tile = tuple[str, Pixels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=Path, help="folder of real prints to lay beside ours")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, tiles, columns in (
        ("layouts.png", layouts(), 2),
        ("scales.png", scales(), 2),
        ("inks.png", inks(), 4),
        ("lettering.png", lettering(), 2),
        ("by-lot.png", by_lot(), 3),
        ("truth.jpg", truths(), 2),
        ("conditions.jpg", conditions(), 3),
    ):
        save(sheet(tiles, columns), arguments.out / name)
    if arguments.real:
        save(sheet(beside_real(arguments.real), 2), arguments.out / "beside-real.jpg")


@lru_cache(maxsize=64)
def record_mv(number: int) -> NDArray[np.float32]:
    """A practice record (12, 5000)."""
    signal_uv = draw_signal(plan_record(SEED, number), Recorder.of(RATE_HZ, 10.0))
    return (signal_uv.T / 1000).astype(np.float32)


def record_of(label: str) -> int:
    """The first record that shows a finding and nothing else."""
    return next(number for number in range(1000) if plan_record(SEED, number).truth.labels == (label,))


def page(number: int, **fields: Any) -> Pixels:
    return draw_page(record_mv(number), RATE_HZ, PageStyle(**(CRISP | fields)))


def layouts() -> list[Tile]:
    """Every page of every layout."""
    tiles = []
    for layout, pages in LAYOUTS.items():
        for number in range(len(pages)):
            caption = layout if len(pages) == 1 else f"{layout}: page {number + 1}"
            tiles.append((caption, page(record_of("NORM"), layout=layout, page=number)))
    return tiles


def scales() -> list[Tile]:
    slow, fast = {"duration_s": 10.0}, {"paper_speed_mm_per_s": 50.0, "duration_s": 5.0}
    examples: dict[str, dict[str, Any]] = {
        "25 mm/s, 10 mm/mV: the standard": slow,
        "25 mm/s, 5 mm/mV": slow | {"gain_mm_per_mv": 5.0},
        "25 mm/s, 20 mm/mV, traces cut off at their channel": slow | {"gain_mm_per_mv": 20.0, "channel_mm": 22.0},
        "25 mm/s, limb leads 10 and chest leads 5 mm/mV": slow | {"chest_gain_mm_per_mv": 5.0},
        "50 mm/s, 10 mm/mV: half the time": fast,
        "25 mm/s, all columns at the same time, pulse on the right": slow
        | {"timing": "simultaneous", "pulse": "right", "layout": "3x4"},
    }
    return [(caption, page(record_of("LBBB"), **fields)) for caption, fields in examples.items()]


def inks() -> list[Tile]:
    """The upper left corner of a page in every grid colour."""
    corners = []
    for number, (colour, fields) in enumerate(GRID_COLOURS.items()):
        whole = page(number, width_px=1632, height_px=1224, trace_width_mm=0.35, **fields)
        corners.append((colour, np.ascontiguousarray(whole[106:546, :400])))
    return corners


def lettering() -> list[Tile]:
    """Types, and text of devices of several kinds; numbers are measured on the record."""
    examples: tuple[tuple[str, int, bool, dict[str, Any]], ...] = (
        ("sans", 3, True, {}),
        ("serif", 2, True, GRID_COLOURS["orange"] | {"separator": "line", "name_rise_mm": -5.0}),
        ("mono", 9, False, GRID_COLOURS["grey"] | {"separator": "dashed", "layout": "6x2"}),
        ("bold", 16, False, GRID_COLOURS["green"] | {"grid_behind_text": False, "layout": "3x4+3"}),
    )
    tiles = []
    for number, (font, seed, is_measured, fields) in enumerate(examples):
        measurements = measure(record_mv(number), RATE_HZ) if is_measured else None
        rng = np.random.default_rng(seed)
        text = device_text(rng, paper_speed_mm_per_s=25.0, gain_mm_per_mv=10.0, measurements=measurements)
        picture = page(number, font=font, text_height_mm=3.6, header=text.header, footer=text.footer, **fields)
        tiles.append((font + (", with measurements" if is_measured else ""), picture))
    return tiles


def by_lot() -> list[Tile]:
    """Styles as training draws them."""
    tiles = []
    for number in range(9):
        style = page_style(np.random.default_rng([35, number]), *WORN_PX)
        picture = halved(draw_page(record_mv(number), RATE_HZ, style))
        tiles.append((f"{style.layout}, {style.paper_speed_mm_per_s:g} mm/s, {style.gain_mm_per_mv:g} mm/mV", picture))
    return tiles


def truths() -> list[Tile]:
    """The truth over a page, and over a photo of it, along which it moved."""
    style = PageStyle(**CRISP)
    number = record_of("RBBB")
    clean, truth = draw_page(record_mv(number), RATE_HZ, style), page_truth(record_mv(number), RATE_HZ, style)
    photo, moved = wear_page(clean, PRESETS["photo-crumpled"], np.random.default_rng(3), truth)
    assert moved is not None
    return [("the truth over its page", over(clean, truth)), ("and over a photo of the page", over(photo, moved))]


def over(picture: Pixels, truth: PageTruth) -> Pixels:
    """Paper in grey, leads and their traces each in a colour, names in blue, pulses in orange."""
    shown = picture.copy()

    def draw(points: Points, rgb: Sequence[float], is_closed: bool) -> None:
        fixed = np.rint((points[np.isfinite(points).all(axis=1)] - 0.5) * 16).astype(np.int32)
        cv2.polylines(shown, [fixed], is_closed, rgb, 1, cv2.LINE_AA, 4)

    draw(truth.paper, (110, 110, 110), True)
    for number, lead in enumerate(truth.leads):
        rgb = [255 * share for share in colorsys.hsv_to_rgb(5 * number % 13 / 13, 0.95, 0.75)]
        draw(lead.outline, rgb, True)
        draw(lead.polyline, rgb, False)
    for mark in truth.names:
        draw(mark.outline, (30, 60, 220), True)
    for mark in truth.pulses:
        draw(mark.outline, (235, 110, 0), True)
    return shown


def conditions() -> list[Tile]:
    """Every condition twice, below each other, in three columns."""
    tiles: list[Tile] = []
    for names in (CONDITIONS[:3], CONDITIONS[3:]):
        for example in range(2):
            tiles += [(name, worn(name, 2 * CONDITIONS.index(name) + example)) for name in names]
    return tiles


def worn(condition: str, number: int) -> Pixels:
    rng = np.random.default_rng([SEED, 500 + number])
    clean = draw_page(record_mv(number), RATE_HZ, page_style(rng, *WORN_PX))
    picture, _ = wear_page(clean, PRESETS[condition], rng)
    return halved(picture)


def halved(picture: Pixels) -> Pixels:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def beside_real(folder: Path) -> list[Tile]:
    """A dozen real prints, on the right of each a page of ours."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    spec = PageSpec(width_px=2 * WORN_PX[0] // 3, height_px=2 * WORN_PX[1] // 3)
    tiles: list[Tile] = []
    for number, place in enumerate(np.linspace(0, len(files) - 1, min(12, len(files))).astype(int)):
        condition = CONDITIONS[number % len(CONDITIONS)]
        real = np.ascontiguousarray(prepare(files[place].read_bytes(), spec).transpose(1, 2, 0))
        ours = cv2.resize(worn(condition, number), (spec.width_px, spec.height_px), interpolation=cv2.INTER_CUBIC)
        tiles += [(f"real: {files[place].name}", real), (f"ours: {condition}", ours.astype(np.uint8, copy=False))]
    return tiles


def sheet(tiles: Sequence[Tile], columns: int) -> Image.Image:
    """Tiles of one size in rows, each below its caption."""
    height_px, width_px, _ = tiles[0][1].shape
    across_px, down_px = width_px + GAP_PX, height_px + CAPTION_PX + GAP_PX
    rows = -(-len(tiles) // columns)
    picture = Image.new("RGB", (GAP_PX + columns * across_px, GAP_PX // 2 + rows * down_px), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(str(FONT), 19)
    for number, (caption, tile) in enumerate(tiles):
        x_px, y_px = GAP_PX + number % columns * across_px, GAP_PX // 2 + number // columns * down_px
        draw.text((x_px, y_px + CAPTION_PX - 8), caption, fill=(40, 40, 40), font=font, anchor="ls")
        picture.paste(Image.fromarray(tile), (x_px, y_px + CAPTION_PX))
        draw.rectangle(
            (x_px - 1, y_px + CAPTION_PX - 1, x_px + width_px, y_px + CAPTION_PX + height_px), outline="#ccc"
        )
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """JPEG, or PNG with the 256 colours that fit best."""
    if path.suffix == ".jpg":
        picture.save(path, quality=JPEG_QUALITY, optimize=True)
    else:
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {picture.width} x {picture.height} px, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
