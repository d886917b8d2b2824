"""From tokens to logits.

Shapes: B records, K labels, N tokens, D channels of a token.
"""

from torch import Tensor, nn


def classification_head(dim: int, num_labels: int, dropout: float) -> nn.Sequential:
    """Pooled features (B, D) -> logits (B, K)."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Dropout(dropout), nn.Linear(dim, num_labels))


def masked_mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """tokens (B, N, D), valid bool (B, N) with at least one true a record -> (B, D)."""
    weight = valid.unsqueeze(2).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1)
