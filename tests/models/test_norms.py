"""Statistics of batch norms come from records and signals that are there."""

import torch

from vizecg.models.batch import EcgBatch
from vizecg.models.encoders import signal_encoder
from vizecg.models.norms import encode_signals, frozen_norms

OPTIONS = {"channels": (16, 16, 16, 16)}


def batch_of(signal: torch.Tensor, known: list[bool]) -> EcgBatch:
    size = len(known)
    return EcgBatch(
        page=torch.zeros(size, 3, 8, 8, dtype=torch.uint8), signal=signal, signal_known=torch.tensor(known),
        lead_present=torch.ones(size, 12, dtype=torch.bool), valid_samples=torch.full((size,), 128),
        target=torch.zeros(size, 2), target_known=torch.ones(size, 2, dtype=torch.bool), weight=torch.ones(size),
    )  # fmt: skip


def test_known_signals_are_encoded_as_if_they_were_alone() -> None:
    torch.manual_seed(0)
    signal = torch.randn(5, 12, 128)
    known = [True, False, True, True, False]
    mixed, alone = (signal_encoder("resnet1d10", None, OPTIONS).train() for _ in range(2))
    alone.load_state_dict(mixed.state_dict())
    tokens, _, valid = encode_signals(mixed, batch_of(signal, known))
    expected, _, expected_valid = encode_signals(alone, batch_of(signal[[0, 2, 3]], [True] * 3))
    assert torch.equal(tokens[[0, 2, 3]], expected) and torch.equal(valid[[0, 2, 3]], expected_valid)
    assert not tokens[[1, 4]].any() and valid[[1, 4]].sum() == 2
    assert all(torch.equal(a, b) for a, b in zip(mixed.buffers(), alone.buffers(), strict=True))


def test_without_any_signal_no_statistic_moves_and_gradients_exist() -> None:
    encoder = signal_encoder("resnet1d10", None, OPTIONS).train()
    before = [buffer.clone() for buffer in encoder.buffers()]
    tokens, _, _ = encode_signals(encoder, batch_of(torch.randn(2, 12, 128), [False, False]))
    tokens.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.buffers(), strict=True))
    # Distributed training waits for the gradient of every weight.
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert encoder.training and all(module.training for module in encoder.modules())


def test_norms_that_were_frozen_stay_frozen() -> None:
    norms = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)).train()
    norms[0].eval()
    with frozen_norms(norms):
        assert not norms[1].training
    assert [norm.training for norm in norms] == [False, True]
