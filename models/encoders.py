"""Encoders: a page or a signal becomes a sequence of feature tokens.

Shapes: B records, L = 12 leads, T samples, C channels, H x W pixels, h x w token grid, N tokens, D channels of a token.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .attention import positions_1d, positions_2d


class PageEncoder(nn.Module):
    """Any timm backbone on the page, projected to `dim` channels where it ends at another number."""

    def __init__(self, name: str, dim: int, options: dict[str, Any] | None = None):
        super().__init__()
        self.backbone = page_backbone(name, {**(options or {}), "num_classes": 0, "global_pool": ""})
        # Some backbones' head widens the features behind `num_features`; the width is what really comes out.
        width = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)
        self.dim = dim

    def forward(self, page: Tensor) -> tuple[Tensor, Tensor]:
        """page uint8 RGB (B, 3, H, W) -> tokens (B, N, D) and their positions (N, D)."""
        features = self.backbone(as_ink(page, self.backbone))
        if features.ndim == 4:
            height, width = features.shape[2:]
            tokens = self.project(features.flatten(2).transpose(1, 2))
            return tokens, positions_2d(height, width, self.dim, page.device)
        tokens = self.project(features[:, getattr(self.backbone, "num_prefix_tokens", 0) :])
        return tokens, positions_1d(tokens.shape[1], self.dim, page.device)


def page_backbone(name: str, options: dict[str, Any]) -> Any:
    """The timm model of that name with random weights.

    Raises:
        ValueError: no such model, or options that it does not take.
    """
    # Late: it takes several times as long to import as torch, and only who builds a model needs it.
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.0)
        raise ValueError(f"timm has no model {name!r} (model.options.page_encoder); nearest: {', '.join(near)}")
    try:
        return timm.create_model(name, **options)
    except TypeError as error:
        raise ValueError(f"model.options.page_encoder_options do not fit {name}: {error}") from None


def as_ink(page: Tensor, reader: nn.Module) -> Tensor:
    """page uint8 RGB (B, 3, H, W) -> ink in the precision of the module that reads it, about 0 to 4.

    Ink instead of paper: the blank page is zero, which is also what convolutions pad with.
    """
    ink = (255 - page.to(_dtype_of(reader))) / 64
    return ink.contiguous(memory_format=torch.channels_last)


class ResNet1d(nn.Module):
    """The residual network of He et al. 2016 with one-dimensional convolutions over time."""

    def __init__(
        self, dim: int | None, channels: Sequence[int] = (64, 128, 256, 512), layers: Sequence[int] = (2, 2, 2, 2),
        kernel_size: int = 7, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(12, channels[0], 15, stride=2, padding=7, bias=False),
            nn.BatchNorm1d(channels[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool1d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        width_in = channels[0]
        for stage, (width, depth) in enumerate(zip(channels, layers, strict=True)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(ResidualBlock1d(width_in, width, kernel_size, stride, dropout))
                width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.samples_per_token = 4 * 2 ** (len(channels) - 1)
        self.dim = dim or width_in
        self.project = nn.Identity() if width_in == self.dim else nn.Linear(width_in, self.dim)

    def forward(self, signal: Tensor, valid_samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """signal (B, L, T) in mV -> tokens (B, N, D), positions (N, D), bool (B, N): which saw recorded samples."""
        features = self.blocks(self.stem(signal.to(_dtype_of(self))))
        tokens = self.project(features.transpose(1, 2))
        start = torch.arange(tokens.shape[1], device=signal.device) * self.samples_per_token
        # The first token always counts: a softmax over nothing is not a number.
        valid = (start < valid_samples[:, None]) | (start == 0)
        return tokens, positions_1d(tokens.shape[1], self.dim, signal.device), valid


class ResidualBlock1d(nn.Module):
    def __init__(self, width_in: int, width: int, kernel_size: int, stride: int, dropout: float):
        super().__init__()
        padding = kernel_size // 2
        self.body = nn.Sequential(
            nn.Conv1d(width_in, width, kernel_size, stride, padding, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, kernel_size, 1, padding, bias=False),
            nn.BatchNorm1d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv1d(width_in, width, 1, stride, bias=False), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def signal_encoder(name: str, dim: int | None, options: dict[str, Any] | None = None) -> ResNet1d:
    """The signal encoder of that name, projected to `dim` channels; None leaves as many as its last stage has.

    Raises:
        ValueError: no such encoder.
    """
    layers = {"resnet1d10": (1, 1, 1, 1), "resnet1d18": (2, 2, 2, 2), "resnet1d34": (3, 4, 6, 3)}
    if name not in layers:
        near = difflib.get_close_matches(name, layers, n=1, cutoff=0.0)[0]
        raise ValueError(f"no signal encoder {name!r} (model.options.signal_encoder); did you mean {near!r}?")
    try:
        return ResNet1d(dim, layers=layers[name], **(options or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"model.options.signal_encoder_options do not fit {name}: {error}") from None


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
