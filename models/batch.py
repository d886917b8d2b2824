"""What every model takes and gives.

Shapes: B records in the batch, K labels, L = 12 leads, T samples, H x W pixels.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EcgBatch:
    """One batch of paired records.

    `signal_known` is false for records that exist as pages alone, `target_known` is false where a source does not
    annotate a label; `weight` is zero for rows that only fill up the last step of an epoch.
    """

    page: Tensor
    """uint8 RGB (B, 3, H, W); the model normalises."""
    signal: Tensor
    """float32 (B, L, T) in mV."""
    signal_known: Tensor
    """bool (B,)"""
    lead_present: Tensor
    """bool (B, L)"""
    valid_samples: Tensor
    """int64 (B,): samples of `signal` that were recorded; the rest is padding."""
    target: Tensor
    """float32 (B, K) of 0 and 1."""
    target_known: Tensor
    """bool (B, K)"""
    weight: Tensor
    """float32 (B,)"""
    record_id: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.page.shape[0]

    def to(self, device: torch.device | str) -> "EcgBatch":
        """Every tensor on `device`, copied asynchronously where the memory is pinned."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def parts(self, number: int) -> "list[EcgBatch]":
        """The records in up to `number` parts of about one size, in order."""
        if number == 1:
            return [self]
        size = -(-len(self) // number)
        return [self._slice(start, start + size) for start in range(0, len(self), size)]

    def _slice(self, start: int, end: int) -> "EcgBatch":
        return EcgBatch(**{f.name: getattr(self, f.name)[start:end] for f in fields(self)})

    def double(self) -> "EcgBatch":
        """Signals and targets in double precision."""
        return replace(self, signal=self.signal.double(), target=self.target.double())


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Logits by stream: `{"image": (B, K), "signal": (B, K), "fused": (B, K)}`, as far as the model has them."""

    logits: dict[str, Tensor]
    features: dict[str, Tensor] = field(default_factory=dict)
    """What an objective or a picture may want besides, by name."""
