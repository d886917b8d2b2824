"""Fit the finder of text: python -m vizecg.platform.data.reading.fit_text ARCHIVE... --real FOLDER

Writes text.npz beside this file, in half an hour on one thread. Recordings and real prints are those of fit.py; the
text is invented (text_pages.py). Of the real prints those parts are taken that hold no text but lead names.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .fit import HELD_APART, real_pages, recordings_of
from .fit_pages import Recording
from .other_pictures import Rng
from .text_look import CELL_PX, DILATIONS, WEIGHTS, ink_of
from .text_pages import TextPage, text_page

CHANNELS = (16, 32, 48)
JOINED = 24
CROP_PX = 192
BATCH = 32
WITH_TEXT = frozenset(("ecg00016", "ecg00053"))
"""Real prints that hold text between those heights after all."""
STORED = 30
"""Ink is kept as int8 in these parts of its unit."""
MISSED_COST = 3.0
"""A letter that is left legible weighs more than a trace that is covered."""

TRACES_ALONE = {
    "ecg_image_kit_samples": (0.0, 1.0),
    "khan_cardiac_images": (0.19, 0.945),
    "ptbxl_printed_scans": (0.1, 0.94),
}
"""Folders of real prints, and the heights between which they hold no text."""

_log = logging.getLogger(__name__)

Crops = tuple[NDArray[np.int8], NDArray[np.int8]]


class Layer(nn.Sequential):
    """A convolution whose norm `folded` makes part of it, and a rectifier."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1):
        convolution = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel (3, 3, C, D) and bias (D,)."""
        convolution, norm = self[0], self[1]
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = (convolution.weight * scale[:, None, None, None]).permute(2, 3, 1, 0)
        return kernel, norm.bias - norm.running_mean * scale


class Network(nn.Module):
    """What text_look.py's `cell_logits` computes."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = CHANNELS
        layers = {
            "to_half": Layer(3, first, 2), "to_quarter": Layer(first, second, 2), "to_eighth": Layer(second, third, 2),
            **{f"wide{number}": Layer(third, third, 1, dilation) for number, dilation in enumerate(DILATIONS)},
            "joined": Layer(second + third, JOINED),
        }  # fmt: skip
        self.layers = nn.ModuleDict(layers)
        self.head = nn.Linear(JOINED, 1)

    def forward(self, ink: Tensor) -> Tensor:
        """(B, 3, h, w) -> logits (B, h / 4, w / 4)."""
        quarter = self.layers["to_quarter"](self.layers["to_half"](ink))
        eighth = self.layers["to_eighth"](quarter)
        for number in range(len(DILATIONS)):
            eighth = self.layers[f"wide{number}"](eighth)
        both = torch.cat([quarter, functional.interpolate(eighth, scale_factor=2.0)], dim=1)
        logits: Tensor = self.head(self.layers["joined"](both).permute(0, 2, 3, 1))[..., 0]
        return logits

    def folded(self) -> dict[str, NDArray[np.float16]]:
        """The weights that `cell_logits` takes."""
        found = {"head": self.head.weight.T, "head_bias": self.head.bias}
        for name, layer in self.layers.items():
            assert isinstance(layer, Layer)
            found[f"{name}_kernel"], found[f"{name}_bias"] = layer.folded()
        return {name: tensor.detach().numpy().astype(np.float16) for name, tensor in found.items()}


def cells_of(page: TextPage) -> NDArray[np.int8]:
    """Of every cell (h / 4, w / 4): 1 where it has text, 0 where neither it nor a neighbour has, else -1: either."""
    rows, columns = (side // CELL_PX for side in page.text.shape)
    has = page.text.reshape(rows, CELL_PX, columns, CELL_PX).sum(axis=(1, 3)).astype(np.uint8)
    near = cv2.dilate(np.minimum(has, 1), np.ones((3, 5), np.uint8))
    return np.where(has >= 2, 1, np.where(near > 0, -1, 0)).astype(np.int8)


def make_crops(recordings: Sequence[Recording], real: Sequence[TextPage], pages: int, rng: Rng) -> Crops:
    """Two pieces of every page: ink (N, 192, 192, 3) and cells (N, 48, 48)."""
    inks: list[NDArray[np.int8]] = []
    cells: list[NDArray[np.int8]] = []
    for number in range(pages):
        page = text_page(recordings, real, rng)
        stored, known = np.rint(ink_of(page.image) * STORED).astype(np.int8), cells_of(page)
        if min(known.shape) * CELL_PX < CROP_PX:
            continue
        for _ in range(2):
            top, left = (int(rng.integers(side - CROP_PX // CELL_PX + 1)) for side in known.shape)
            side = CROP_PX // CELL_PX
            cells.append(known[top : top + side, left : left + side])
            top, left = top * CELL_PX, left * CELL_PX
            inks.append(stored[top : top + CROP_PX, left : left + CROP_PX])
        if number % 500 == 499:
            _log.info("%d pages", number + 1)
    return np.stack(inks), np.stack(cells)


def train(network: Network, data: Crops, epochs: int, rng: Rng) -> None:
    """One-cycle AdamW on the cells whose kind is known."""
    inks, cells = data
    rounds = len(inks) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=epochs * rounds, pct_start=0.15)
    cost = torch.tensor(MISSED_COST)
    network.train().to(memory_format=torch.channels_last)
    for epoch in range(epochs):
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(inks)), rounds):
            ink = torch.from_numpy(inks[chosen].astype(np.float32) / STORED).permute(0, 3, 1, 2)
            truth = torch.from_numpy(cells[chosen].astype(np.float32))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(ink.contiguous(memory_format=torch.channels_last)).float()
            known = truth >= 0
            loss = functional.binary_cross_entropy_with_logits(logits[known], truth[known], pos_weight=cost)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        _log.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, total / rounds)
    network.eval()


def real_without_text(folder: Path) -> list[TextPage]:
    """Real prints that show traces and lead names alone, or were cut to them."""
    found = []
    for name, (top, bottom) in TRACES_ALONE.items():
        for image in real_pages(folder / name, HELD_APART | WITH_TEXT):
            part = image[round(top * image.shape[0]) : round(bottom * image.shape[0])]
            found.append(TextPage(np.ascontiguousarray(part), np.zeros(part.shape[:2], bool)))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Fit the finder of text.")
    parser.add_argument("archives", nargs="+", help="folders of recordings")
    parser.add_argument("--real", type=Path, help="folder of real prints, each upright")
    parser.add_argument("--pages", type=int, default=5500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    recordings = [each for folder in arguments.archives for each in recordings_of(folder, rng)]
    real = real_without_text(arguments.real) if arguments.real else []
    network = Network()
    train(network, make_crops(recordings, real, arguments.pages, rng), arguments.epochs, rng)
    np.savez_compressed(arguments.out, allow_pickle=False, **network.folded())
    _log.info("%s: %d bytes", arguments.out, arguments.out.stat().st_size)


if __name__ == "__main__":
    main()
