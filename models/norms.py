"""What must not enter a batch norm's statistics: records that only fill a place, and signals that nobody knows.

Shapes: B records, T samples, N tokens, D channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batch import EcgBatch
from .encoders import ResNet1d


@contextmanager
def frozen_norms(model: nn.Module) -> Iterator[None]:
    """While the block runs, batch norms in training keep their statistics and normalise with them."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    yield
    for norm in norms:
        norm.train()


def encode_signals(encoder: ResNet1d, batch: EcgBatch) -> tuple[Tensor, Tensor, Tensor]:
    """The encoder's tokens (B, N, D), positions (N, D) and valid tokens bool (B, N); in training from known signals
    alone, and zero for the others.
    """
    known = batch.signal_known
    # A synchronised norm waits for all workers: none may pass it by.
    alike = not encoder.training or any(isinstance(module, nn.SyncBatchNorm) for module in encoder.modules())
    if alike or bool(known.all()):
        return encoder(batch.signal, batch.valid_samples)
    if not known.any():
        with frozen_norms(encoder):
            return encoder(batch.signal, batch.valid_samples)
    rows = known.nonzero().squeeze(1)
    tokens, position, valid = encoder(batch.signal[rows], batch.valid_samples[rows])
    whole = tokens.new_zeros(len(batch), *tokens.shape[1:]).index_copy(0, rows, tokens)
    # The first token always counts: a softmax over nothing is not a number.
    whole_valid = (torch.arange(valid.shape[1], device=valid.device) == 0).repeat(len(batch), 1)
    return whole, position, whole_valid.index_copy(0, rows, valid)
