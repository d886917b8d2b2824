"""Fit the finder of layouts: python -m vizecg.platform.data.reading.fit_layout ARCHIVE...

Writes layout.npz beside this file, in a quarter of an hour on one thread. All pages are drawn, ours of PTB-XL 1.0.3
(PhysioNet, CC BY 4.0), so that real prints can judge what was learnt. Some lose rows or columns: what is left of them
is known, and is mostly a layout that no device prints, which the network must not name.
"""

import argparse
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..page import LAYOUTS, PageStyle, draw_page
from .fit import recordings_of
from .fit_pages import PAGES_PER_STYLE, Recording, random_style, worn
from .layout import CELL_PX, FIELDS, LOOK_HEIGHT_PX, LOOK_WIDTH_PX, NAMES, WEIGHTS, look_of_layout
from .look import STRONGEST, Pixels
from .other_pictures import Rng
from .other_traces import rhythm_strip

CHANNELS = (16, 32, 48, 64)
BATCH = 64
STORED = 127 / STRONGEST
CUT_SHARE, OTHER_SHARE = 0.25, 0.03
"""Of pages that lose rows or columns, and of rhythm strips."""

_log = logging.getLogger(__name__)

Shape = tuple[int, ...]
"""How many leads stand on every row."""
Looks = tuple[NDArray[np.int8], NDArray[np.int64]]

NAME_OF: dict[Shape, str] = {
    tuple(len(leads) for leads in rows): name
    for names, pages in LAYOUTS.items()
    for name, rows in zip(names.split(","), pages, strict=True)
}


class Network(nn.Module):
    """What layout.py's `layout_logits` computes, with batch norms that `folded` makes part of the layers."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, CHANNELS[0], CELL_PX, CELL_PX, 0)]
        sizes += [(inputs, outputs, 3, 2, 1) for inputs, outputs in pairwise(CHANNELS)]
        self.convolutions = nn.ModuleList([nn.Conv2d(*size, bias=False) for size in sizes])
        self.norms = nn.ModuleList([nn.BatchNorm2d(size[1]) for size in sizes])
        self.head = nn.Linear(CHANNELS[-1] * (FIELDS[0] * FIELDS[1] + 1), len(NAMES) + 1)

    def forward(self, looks: Tensor) -> Tensor:
        """(B, H, W) -> logits (B, K + 1)."""
        maps = looks[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = functional.relu(norm(convolution(maps)))
        fields = functional.adaptive_avg_pool2d(maps, FIELDS).permute(0, 2, 3, 1).flatten(1)
        features = torch.cat([fields, maps.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.head(functional.dropout(features, 0.2, self.training))
        return logits

    def folded(self) -> dict[str, NDArray[np.float16]]:
        """The weights that `layout_logits` takes."""
        found: dict[str, Tensor] = {"head": self.head.weight.T, "head_bias": self.head.bias}
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            kernel = (convolution.weight * scale[:, None, None, None]).permute(2, 3, 1, 0)
            bias = norm.bias - norm.running_mean * scale
            if number == 0:
                found |= {"cells": kernel.reshape(CELL_PX**2, -1), "cells_bias": bias}
            else:
                found |= {f"kernel{number - 1}": kernel, f"bias{number - 1}": bias}
        return {name: tensor.detach().numpy().astype(np.float16) for name, tensor in found.items()}


def label_of(shape: Shape) -> int:
    """Place in `NAMES`; behind them what has no name."""
    return NAMES.index(NAME_OF[shape]) if shape in NAME_OF else len(NAMES)


def labelled_pages(recordings: Sequence[Recording], rng: Rng) -> list[tuple[Pixels, int]]:
    """Some pages in one random style, worn, and what they show."""
    if rng.random() < OTHER_SHARE:
        return [(worn(rhythm_strip(rng, 500, 700), rng), label_of((1,)))]
    style = random_style(rng)
    made = []
    for _ in range(PAGES_PER_STYLE):
        recording = recordings[int(rng.integers(len(recordings)))]
        page = draw_page(recording.signal_mv, recording.sampling_rate_hz, style)
        shape: Shape = tuple(len(leads) for leads in LAYOUTS[style.layout][style.page])
        if rng.random() < CUT_SHARE:
            page, shape = cut(page, style, rng)
        made.append((worn(page, rng), label_of(shape)))
    return made


def cut(page: Pixels, style: PageStyle, rng: Rng) -> tuple[Pixels, Shape]:
    """Without some of its last rows, its first rows, or its last columns."""
    rows = LAYOUTS[style.layout][style.page]
    shape = tuple(len(leads) for leads in rows)
    pitch_mm = style.baseline_mm(1) - style.baseline_mm(0)
    columns = max(shape)
    if columns > 1 and rng.random() < 0.4:
        kept = int(rng.integers(1, columns))
        end_px = style.x_px(style.time_mm(kept * style.duration_s / columns))
        return page[:, : max(64, round(end_px))], tuple(kept if leads == columns else leads for leads in shape)
    first, stop = 0, int(rng.integers(1, len(rows)))
    if rng.random() < 0.3:
        first, stop = int(rng.integers(1, len(rows))), len(rows)
    top = 0 if first == 0 else round(style.y_px(style.baseline_mm(first) - pitch_mm / 2))
    bottom = len(page) if stop == len(rows) else round(style.y_px(style.baseline_mm(stop) - pitch_mm / 2))
    top = max(0, min(top, len(page) - 64))
    return page[top : max(top + 64, bottom)], shape[first:stop]


def make_looks(recordings: Sequence[Recording], pages: int, rng: Rng) -> Looks:
    """Looks (N, H, W) as int8 and their labels (N,)."""
    looks = np.empty((pages, LOOK_HEIGHT_PX, LOOK_WIDTH_PX), np.int8)
    labels = np.empty(pages, np.int64)
    number = 0
    while number < pages:
        for page, label in labelled_pages(recordings, rng)[: pages - number]:
            grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(page), cv2.COLOR_RGB2GRAY), np.uint8)
            looks[number], labels[number] = np.rint(look_of_layout(grey) * STORED), label
            number += 1
        if number % 900 < PAGES_PER_STYLE:
            _log.info("%d pages", number)
    return looks, labels


def varied(looks: NDArray[np.int8], rng: Rng) -> NDArray[np.float32]:
    """Looks (B, H, W) moved, stretched, faded and made noisy."""
    made = np.empty(looks.shape, np.float32)
    size = (LOOK_WIDTH_PX, LOOK_HEIGHT_PX)
    for number, look in enumerate(looks):
        matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), rng.normal(0, 2), rng.uniform(0.85, 1.1))
        matrix[1] *= rng.uniform(0.92, 1.06)
        matrix[:, 2] += rng.normal(0, 8, 2)
        made[number] = cv2.warpAffine(look.astype(np.float32) / STORED, matrix, size)
    shape = (len(looks), 1, 1)
    made *= rng.uniform(0.5, 1.3, shape)
    made += rng.standard_normal(made.shape, np.float32) * rng.choice([0, 0, 0.1, 0.3], shape)
    return np.clip(made, -STRONGEST, STRONGEST)


def train(network: Network, data: Looks, epochs: int, rng: Rng) -> None:
    """One-cycle AdamW."""
    looks, labels = data
    rounds = len(looks) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=epochs * rounds, pct_start=0.15)
    network.train().to(memory_format=torch.channels_last)
    for epoch in range(epochs):
        total = right = 0.0
        for chosen in np.array_split(rng.permutation(len(looks)), rounds):
            truth = torch.from_numpy(labels[chosen])
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(torch.from_numpy(varied(looks[chosen], rng))).float()
            loss = functional.cross_entropy(logits, truth, label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() / rounds
            right += (logits.argmax(1) == truth).sum().item() / len(looks)
        _log.info("epoch %d of %d: loss %.4f, right %.4f", epoch + 1, epochs, total, right)
    network.eval()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Fit the finder of layouts.")
    parser.add_argument("archives", nargs="+", help="folders of recordings")
    parser.add_argument("--pages", type=int, default=9000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    recordings = [each for folder in arguments.archives for each in recordings_of(folder, rng)]
    network = Network()
    train(network, make_looks(recordings, arguments.pages, rng), arguments.epochs, rng)
    np.savez_compressed(arguments.out, allow_pickle=False, **network.folded())
    _log.info("%s: %d bytes", arguments.out, arguments.out.stat().st_size)


if __name__ == "__main__":
    main()
