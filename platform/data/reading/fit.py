"""Fit the page finder: python -m vizecg.platform.data.reading.fit ARCHIVE... --real FOLDER

Writes finder.npz beside this file, in twenty minutes on one thread; the same arguments, versions and machine
give the same weights. ARCHIVE are folders of recordings, of which pages are drawn in every layout and wear; --real is a
folder of real prints, each upright, which are worn too. Our weights come from PTB-XL 1.0.3 (PhysioNet, CC BY 4.0) and
from prints that repositories under BSD and MIT licences publish: samples of ecg-image-kit, scanned prints of PTB-XL,
and the ECG images of Khan et al. (CC BY 4.0). `HELD_APART` were not among them.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..archives import open_archive
from ..records import EcgRecord
from .finder import WEIGHTS
from .fit_pages import STORED, Looks, Recording, drawn_pages, other_pictures, stored_looks, worn
from .look import LOOK_PX, POOLED, STRONGEST, TURNS_DEG, Pixels
from .other_pictures import Rng

HELD_APART = frozenset(
    ("ecg00015", "ecg00022", "ecg00034", "ecg00037", "ecg00040", "ecg00047", "HB(96)", "MI(129)", "PMI(117)", "90053")
)
"""Real prints for judging alone."""
CHANNELS = (1, 12, 24, 40, 64, 64)
KERNELS = (5, 3, 3, 3, 3)
BATCH = 64
RECORDINGS_PER_ARCHIVE = 1500

_log = logging.getLogger(__name__)


class Network(nn.Module):
    """What look.py's `judge` computes, with batch norms that `folded` makes part of the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, inputs, outputs in zip(KERNELS, CHANNELS, CHANNELS[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1] * (POOLED**2 + 1), len(TURNS_DEG) + 1)

    def forward(self, looks: Tensor) -> Tensor:
        """(B, S, S) -> logits (B, 5)."""
        # Aligned to even columns as in `judge`: padding is the same on all sides, and strides begin at the first.
        maps = self.layers(looks[:, None])
        fields = functional.avg_pool2d(maps, maps.shape[-1] // POOLED).permute(0, 2, 3, 1).flatten(1)
        features = torch.cat([fields, maps.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.head(functional.dropout(features, 0.2, self.training))
        return logits

    def folded(self) -> dict[str, NDArray[np.float16]]:
        """The weights that `judge` takes."""
        found: dict[str, Tensor] = {"head": self.head.weight.T, "head_bias": self.head.bias}
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in self.layers if isinstance(layer, nn.BatchNorm2d)]
        for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            found[f"kernel{number}"] = (convolution.weight * scale[:, None, None, None]).permute(2, 3, 1, 0)
            found[f"bias{number}"] = norm.bias - norm.running_mean * scale
        return {name: tensor.detach().numpy().astype(np.float16) for name, tensor in found.items()}


def recordings_of(folder: str, rng: Rng) -> list[Recording]:
    """Some of an archive's recordings."""
    archive = open_archive(folder)
    entries = archive.entries()
    chosen = rng.permutation(len(entries))[:RECORDINGS_PER_ARCHIVE]
    records = [archive.read(entries[int(index)]) for index in chosen]
    return [Recording(each.signal_mv, each.sampling_rate_hz) for each in records if isinstance(each, EcgRecord)]


def real_pages(folder: Path, left_out: frozenset[str] = HELD_APART) -> Iterator[Pixels]:
    """The pictures below a folder but for those left out, at no more than 1000 pixels."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".jpg", ".bmp") and path.stem not in left_out:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            assert image is not None, path
            scale = min(1.0, 1000 / max(image.shape))
            yield np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def make_looks(recordings: list[Recording], real: list[Pixels], pages: int, rng: Rng) -> Looks:
    """`pages` drawn pages, some hundred versions of every real one, and two thirds as many other pictures."""
    parts: list[Looks] = []
    drawn = others = 0
    while drawn < pages:
        parts.append(stored_looks(made := drawn_pages(recordings, rng), is_ecg=True))
        drawn += len(made)
        if real and drawn % 18 == 0:
            parts.append(stored_looks([worn(real[int(rng.integers(len(real)))], rng) for _ in range(3)], is_ecg=True))
        if others < drawn * 2 / 3:
            parts.append(stored_looks(made := other_pictures(rng), is_ecg=False))
            others += len(made)
        if drawn % 900 == 0:
            _log.info("%d pages, %d other pictures", drawn, others)
    return Looks(np.concatenate([part.looks for part in parts]), np.concatenate([part.is_ecg for part in parts]))


def varied(looks: NDArray[np.int8], turns: NDArray[np.intp], rng: Rng) -> NDArray[np.float32]:
    """Looks (B, S, S) moved, faded and made noisy, then so turned that `TURNS_DEG[turns]` (B,) clockwise undoes it."""
    made = np.empty(looks.shape, np.float32)
    for number, look in enumerate(looks):
        matrix = cv2.getRotationMatrix2D((LOOK_PX / 2, LOOK_PX / 2), rng.normal(0, 3), rng.uniform(0.75, 1.25))
        matrix[:, 2] += rng.normal(0, 8, 2)
        moved = cv2.warpAffine(look.astype(np.float32) / STORED, matrix, (LOOK_PX, LOOK_PX))
        # Anticlockwise, as numpy turns.
        made[number] = np.rot90(moved, int(turns[number]))
    shape = (len(looks), 1, 1)
    made *= rng.uniform(0.5, 1.3, shape) * np.where(rng.random(shape) < 0.04, -1, 1)
    made += rng.standard_normal(made.shape, np.float32) * rng.choice([0, 0, 0.1, 0.3], shape)
    return np.clip(made, -STRONGEST, STRONGEST)


def train(network: Network, data: Looks, epochs: int, rng: Rng) -> None:
    """One-cycle AdamW on both questions; which way is up is asked of ECGs alone."""
    steps = epochs * (len(data.looks) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.15)
    network.train().to(memory_format=torch.channels_last)
    for epoch in range(epochs):
        total = np.zeros(2)
        for chosen in np.array_split(rng.permutation(len(data.looks)), len(data.looks) // BATCH):
            turns = rng.integers(0, 4, len(chosen))
            with torch.autocast("cpu", torch.bfloat16):  # Three times faster.
                logits = network(torch.from_numpy(varied(data.looks[chosen], turns, rng))).float()
            is_ecg = torch.from_numpy(data.is_ecg[chosen])
            turn_loss = functional.cross_entropy(logits[is_ecg, :4], torch.from_numpy(turns)[is_ecg])
            ecg_loss = functional.binary_cross_entropy_with_logits(logits[:, 4], is_ecg.float())
            optimiser.zero_grad()
            (turn_loss + ecg_loss).backward()
            optimiser.step()
            schedule.step()
            total += turn_loss.item(), ecg_loss.item()
        _log.info(
            "epoch %d of %d: loss of turns %.4f, of ECG or not %.4f",
            epoch + 1,
            epochs,
            *(total * BATCH / len(data.looks)),
        )
    network.eval()


def fit(
    recordings: list[Recording], real: list[Pixels], pages: int, epochs: int, seed: int
) -> Mapping[str, NDArray[np.float16]]:
    """Weights for `judge`."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = Network()
    train(network, make_looks(recordings, real, pages, rng), epochs, rng)
    return network.folded()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Fit the page finder.")
    parser.add_argument("archives", nargs="+", help="folders of recordings")
    parser.add_argument("--real", type=Path, help="folder of real prints, each upright")
    parser.add_argument("--pages", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    recordings = [each for folder in arguments.archives for each in recordings_of(folder, rng)]
    real = list(real_pages(arguments.real)) if arguments.real else []
    _log.info("%d recordings, %d real pages", len(recordings), len(real))
    weights = fit(recordings, real, arguments.pages, arguments.epochs, arguments.seed)
    np.savez_compressed(arguments.out, allow_pickle=False, **weights)
    _log.info("%s: %d bytes", arguments.out, arguments.out.stat().st_size)


if __name__ == "__main__":
    main()
