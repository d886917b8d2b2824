"""Pages a second from signal to encoded picture, beside matplotlib, OpenCV and a floor; what wear, truth and JPEG cost.

    python benchmarks/pages.py [--rounds 40] [--only print|wear]

print   12 leads of 5,000 samples to PNG bytes at 512 x 384 and 2200 x 1700 px, style kept. The floor copies the
        finished paper, draws the finished whole-number points of every sample with cv2.polylines, as often as ours does
        for the width of the line, and encodes with our encoder; the strict floor has only the points that ours draws
        (goals: 0.8 of the floor's speed, 350 and 65 pages/s). Beside: matplotlib with a kept figure, blitted paper and
        set_ydata, with the encoder of ours and with Pillow's; OpenCV with its own.
wear    every condition at 512 x 384 px (goal: 8 ms a page) and 1100 x 850, and `page: drawn` with all of them

One thread. Contestants take turns within every round, all on the same record, another one in the next round. Times are
CPU time, because the machine is shared; medians of rounds.
"""

import argparse
import io
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

# One thread is the claim; BLAS reads this when numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from isal import isal_zlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vizecg.platform.config import DrawnSection
from vizecg.platform.data.artefacts import PRESETS, wear_page
from vizecg.platform.data.drawn import DrawnPages
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import PageStyle, draw_page, page_truth, print_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.printing.paper import paper_of
from vizecg.platform.data.printing.png import indexed_png
from vizecg.platform.data.printing.styles import page_style
from vizecg.platform.data.read_page import PageSpec

RATE_HZ = 500
RECORDS = 12
SUBPIXEL_BITS = 6
WORN_PAGES = 42
SIZES = {
    "512 x 384": (PageStyle(width_px=512, height_px=384), 350),
    "2200 x 1700 (200 dpi)": (PageStyle.at_dpi(200), 65),
}
"""Style, and the goal in pages a second."""

Signal = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Contestant = Callable[[int], Any]
"""Does its work on the record of a number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", choices=("print", "wear"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    recorder = Recorder.of(RATE_HZ, 10.0)
    signals = [(draw_signal(plan_record(1, n), recorder).T / 1000).astype(np.float32) for n in range(RECORDS)]
    if arguments.only != "wear":
        for title, (style, goal) in SIZES.items():
            compare(title, style, goal, signals, arguments.rounds)
    if arguments.only != "print":
        wear(signals)


def cpu_ms(contestant: Contestant, number: int) -> float:
    begin = time.process_time()
    contestant(number)
    return 1000 * (time.process_time() - begin)


def take_turns(contestants: dict[str, Contestant], rounds: int) -> dict[str, float]:
    """Median milliseconds of each; the first two rounds do not count."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    order = np.random.default_rng(0)
    for turn in range(rounds + 2):
        # By lot: whoever follows one that does the same finds its data in the cache.
        for name in order.permutation(list(contestants)).tolist():
            taken[name].append(cpu_ms(contestants[name], turn % RECORDS))
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def compare(title: str, style: PageStyle, goal: int, signals: list[Signal], rounds: int) -> None:
    """The table of one size."""
    floor, strict = floors(style, signals)
    pages = [print_page(signal, RATE_HZ, style) for signal in signals]
    ours_png = [np.frombuffer(page.png(), np.uint8) for page in pages]
    with_opencv = opencv(style, signals)
    opencv_png = [np.frombuffer(with_opencv(number), np.uint8) for number in range(RECORDS)]
    lots = np.random.default_rng(0)
    contestants: dict[str, Contestant] = {
        "ours: print_page().png(), igzip on palette": lambda n: print_page(signals[n], RATE_HZ, style).png(),
        "floor: copy, lines of all samples, same PNG": floor,
        "strict floor: only the points ours draws": strict,
        "OpenCV, cv2 PNG level 1": with_opencv,
        "matplotlib kept and blitted, igzip on RGB": matplotlib(style, signals, igzip_png),
        "matplotlib kept and blitted, Pillow level 1": matplotlib(style, signals, pillow_png),
        "ours, JPEG q90": lambda n: jpeg(print_page(signals[n], RATE_HZ, style).rgb()),
        "ours, not encoded: rgb()": lambda n: draw_page(signals[n], RATE_HZ, style),
        "ours, a fresh style for every page": lambda n: print_page(
            signals[n], RATE_HZ, page_style(lots, style.width_px, style.height_px)
        ).png(),
        "truth alone: page_truth()": lambda n: page_truth(signals[n], RATE_HZ, style),
        "decoding our PNG": lambda n: cv2.imdecode(ours_png[n], cv2.IMREAD_COLOR_RGB),
        "decoding cv2's PNG": lambda n: cv2.imdecode(opencv_png[n], cv2.IMREAD_COLOR_RGB),
    }
    medians = take_turns(contestants, rounds)
    ours = next(iter(medians.values()))
    print(f"\n{title} px, {rounds} rounds")
    print(f"  {'':45} {'ms':>8} {'pages/s':>8}   {'its time over ours':>8}")
    for name, ms in medians.items():
        print(f"  {name:45} {ms:8.2f} {1000 / ms:8.0f}   {ms / ours:8.2f}")
    sizes = {"ours": ours_png, "cv2's": opencv_png, "JPEG": [jpeg(page.rgb()) for page in pages]}
    print(
        "  kB a page: " + ", ".join(f"{name} {np.mean([len(f) for f in of]) / 1000:.0f}" for name, of in sizes.items())
    )
    share = medians["floor: copy, lines of all samples, same PNG"] / ours
    for what, value, least in (("of the floor's speed", share, 0.8), ("pages/s", 1000 / ours, goal)):
        print(f"  {value:.2f} {what}, goal {least}: {'met' if value >= least else 'MISSED'}")
    sys.stdout.flush()


def floors(style: PageStyle, signals: list[Signal]) -> tuple[Contestant, Contestant]:
    """What is left of printing when paper and points are finished: for every sample, and for those that ours draws."""
    paper = paper_of(style)
    drawn: list[list[list[NDArray[np.int32]]]] = []
    pages = []
    for signal in signals:
        pages.append(print_page(signal, RATE_HZ, style))
        # What ours hands to OpenCV: the lines, once for every pass.
        with mock.patch.object(cv2, "polylines") as polylines:
            print_page(signal, RATE_HZ, style)
        drawn.append([call.args[1] for call in polylines.call_args_list])
    every = [
        [[np.rint((lead.polyline - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32) for lead in leads]] * len(drawn[0])
        for leads in (page_truth(signal, RATE_HZ, style).leads for signal in signals)
    ]

    def draw(passes: list[list[NDArray[np.int32]]], number: int) -> bytes:
        ink = paper.ink.copy()
        for lines in passes:
            cv2.polylines(ink, lines, False, 15, 1, cv2.LINE_AA, SUBPIXEL_BITS)
        # Not `ink`, which has no grid: the same bytes for the encoder.
        return indexed_png(pages[number].index, paper.palette, style.dpi)

    return (lambda number: draw(every[number], number)), (lambda number: draw(drawn[number], number))


def blank_rgb(style: PageStyle) -> Pixels:
    """The paper alone, RGB (H, W, 3)."""
    return draw_page(np.full((12, 1), np.nan), RATE_HZ, style)


def opencv(style: PageStyle, signals: list[Signal]) -> Contestant:
    """A plain script: paper kept as BGR, every sample drawn at the whole width nearest to the line's."""
    paper_bgr = cv2.cvtColor(blank_rgb(style), cv2.COLOR_RGB2BGR)
    ink_bgr, x_px = style.trace_rgb[::-1], shown_x_px(style)
    thickness = max(1, round(style.trace_width_mm * style.px_per_mm))

    def draw(number: int) -> bytes:
        page = paper_bgr.copy()
        lines = [np.stack([x, y], axis=1) for x, y in zip(x_px, shown_y_px(style, signals[number]), strict=True)]
        fixed = [np.rint((line - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32) for line in lines]
        cv2.polylines(page, fixed, False, ink_bgr, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        return cv2.imencode(".png", page, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()

    return draw


def matplotlib(style: PageStyle, signals: list[Signal], encode: Callable[[Pixels], bytes]) -> Contestant:
    """A kept figure: its paper is blitted, its lines get new heights; no ticks, no texts, no figure anew."""
    figure = Figure(figsize=(style.width_px / 100, style.height_px / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, style.width_px), ylim=(style.height_px, 0))
    axes.set_axis_off()
    figure.figimage(blank_rgb(style))
    canvas.draw()
    paper = canvas.copy_from_bbox(figure.bbox)
    ink, width_pt = np.array(style.trace_rgb) / 255, style.trace_width_mm * style.px_per_mm * 0.72
    lines = [axes.plot(x, x, color=ink, linewidth=width_pt, animated=True)[0] for x in shown_x_px(style)]

    def draw(number: int) -> bytes:
        canvas.restore_region(paper)
        for line, y_px in zip(lines, shown_y_px(style, signals[number]), strict=True):
            line.set_ydata(y_px)
            axes.draw_artist(line)
        return encode(cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2RGB).astype(np.uint8, copy=False))

    return draw


def shown_x_px(style: PageStyle) -> list[NDArray[np.floating]]:
    px_per_sample = style.paper_speed_mm_per_s * style.px_per_mm / RATE_HZ
    return [
        track.left_px + np.arange(int(track.strip.start_s * RATE_HZ), int(track.strip.end_s * RATE_HZ)) * px_per_sample
        for track in paper_of(style).tracks
    ]


def shown_y_px(style: PageStyle, signal_mv: Signal) -> list[NDArray[np.floating]]:
    return [
        track.baseline_px
        - track.px_per_mv * signal_mv[track.lead, int(track.strip.start_s * RATE_HZ) : int(track.strip.end_s * RATE_HZ)]
        for track in paper_of(style).tracks
    ]


def pillow_png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def igzip_png(image: Pixels) -> bytes:
    """The encoder that ours has, for RGB (H, W, 3)."""
    height_px, width_px, _ = image.shape
    rows = np.zeros((height_px, 1 + 3 * width_px), np.uint8)
    rows[:, 1:] = image.reshape(height_px, -1)
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", isal_zlib.crc32(kind + data))
        for kind, data in parts
    )


def jpeg(image: Pixels) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def wear(signals: list[Signal]) -> None:
    """Milliseconds a page of every condition, and all of them in training."""
    sizes = ((512, 384), (1100, 850))
    print(f"\nwear, mean ms of {WORN_PAGES} pages  " + "".join(f"{f'{w} x {h}':>12}" for w, h in sizes))
    styles = [PageStyle(width_px=width_px, height_px=height_px) for width_px, height_px in sizes]
    table = [worn_ms([draw_page(signal, RATE_HZ, style) for signal in signals]) for style in styles]
    for name in PRESETS:
        print(f"  {name:24}" + "".join(f"{times[name]:12.2f}" for times in table))
    slowest = max(table[0].values())
    print(f"  slowest at 512 x 384: {slowest:.1f} ms, goal 8: {'met' if slowest <= 8 else 'MISSED'}")
    for what, conditions in (("clean", {"clean": 1.0}), ("all conditions", dict.fromkeys(PRESETS, 1.0))):
        print(f"  page: drawn, {what}, 512 x 384: {drawn_per_s(signals, conditions):.0f} pages/s")


def worn_ms(pages: list[Pixels], rounds: int = 3) -> dict[str, float]:
    """Means over pages of the medians over rounds, because some pages have more to bear than others."""
    taken = {name: np.zeros((rounds, WORN_PAGES)) for name in PRESETS}
    for turn in range(rounds):
        for number in range(WORN_PAGES):
            for name, recipe in PRESETS.items():
                page, rng = pages[number % RECORDS], np.random.default_rng(number)
                taken[name][turn, number] = cpu_ms(lambda _, p=page, r=recipe, g=rng: wear_page(p, r, g), 0)
    return {name: float(np.median(times, axis=0).mean()) for name, times in taken.items()}


def drawn_per_s(signals: list[Signal], conditions: dict[str, float], records: int = 300, epochs: int = 3) -> float:
    """An epoch as a worker draws it, its papers included; the median of some."""
    pages = DrawnPages(RATE_HZ, 0, DrawnSection.model_validate({"conditions": conditions}))
    spec, present = PageSpec(width_px=512, height_px=384), np.ones(12, bool)

    def epoch(number: int) -> None:
        for record in range(records):
            pages.draw(signals[record % RECORDS], present, f"{record:05}", number, spec)

    return 1000 * records / statistics.median(cpu_ms(epoch, number) for number in range(epochs))


if __name__ == "__main__":
    main()
