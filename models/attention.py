"""SMAM and CMAM: how a stream looks at itself and at the other stream (VizECGNet, arXiv 2408.02888).

The paper names both modules and what they are for; their wiring here is this project's documented choice: pre-norm
residual multi-head attention whose residual branch starts closed (gate zero), so that a new network begins as its two
plain encoders and opens each module as far as it helps.

Shapes: B records, N query tokens, M context tokens, D channels, h heads, H x W token grid.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedAttention(nn.Module):
    """`x + gate * attention(norm(x), norm(context))`; SMAM where the context is `x`, CMAM where the other stream."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"model.options.num_heads = {num_heads} does not divide model.options.dim = {dim}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        # A bias on the keys adds the same to all scores of a query: softmax removes it and it never gets a gradient.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.gate = nn.Parameter(torch.zeros(dim))

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        position: Tensor,
        context_position: Tensor,
        context_valid: Tensor | None = None,
    ) -> Tensor:
        """x (B, N, D), context (B, M, D), positions (N, D) and (M, D), context_valid bool (B, M) -> (B, N, D)."""
        normed, normed_context = self.norm(x), self.norm_context(context)
        query = self._split_heads(self.query(normed + position))
        key = self._split_heads(self.key(normed_context + context_position))
        value = self._split_heads(self.value(normed_context))
        mask = None if context_valid is None else context_valid[:, None, None, :]
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        attended = attended.transpose(1, 2).flatten(2)
        return x + self.gate * self.output(attended)

    def _split_heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class SelfModalAttention(GatedAttention):
    """SMAM: long-range dependencies within one stream."""

    def forward(self, x: Tensor, position: Tensor, valid: Tensor | None = None) -> Tensor:  # pyrefly: ignore[bad-override]
        """x (B, N, D), position (N, D), valid bool (B, N) -> (B, N, D)."""
        return super().forward(x, x, position, position, valid)


class CrossModalAttention(GatedAttention):
    """CMAM: queries from the stream being updated, keys and values from the other."""


def positions_1d(length: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal encoding (N, D) of a token sequence (Vaswani 2017), so that no length is built into the weights."""
    return _sinusoid(torch.arange(length, device=device, dtype=torch.float32), dim)


def positions_2d(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal encoding (H * W, D) of a token grid: half of the channels tell the row, half the column."""
    rows = positions_1d(height, dim // 2, device)
    columns = positions_1d(width, dim - dim // 2, device)
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None, :].expand(height, -1, -1)], dim=-1)
    return grid.flatten(0, 1)


def _sinusoid(place: Tensor, dim: int) -> Tensor:
    frequency = torch.exp(-math.log(1e4) * torch.arange(0, dim, 2, device=place.device, dtype=torch.float32) / dim)
    angle = place[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]
