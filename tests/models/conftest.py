"""What tests of models share: batches of random records, and models whose gates stand open."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from vizecg.models.batch import EcgBatch
from vizecg.models.registry import build_model

MakeBatch = Callable[..., EcgBatch]
MakeModel = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def always_one_thread(one_thread: None) -> None:
    """Every test of this folder computes."""


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Random records with everything known: 6 page tokens and 16 signal tokens each in all sizes."""

    def make(num_records: int = 4, seed: int = 0, num_labels: int = 3) -> EcgBatch:
        rng = torch.Generator().manual_seed(seed)
        return EcgBatch(
            page=torch.randint(0, 256, (num_records, 3, 64, 96), generator=rng).to(torch.uint8),
            signal=torch.randn((num_records, 12, 500), generator=rng),
            signal_known=torch.ones(num_records, dtype=torch.bool),
            lead_present=torch.ones(num_records, 12, dtype=torch.bool),
            valid_samples=torch.tensor([500, 320, 100, 500] * num_records)[:num_records],
            target=torch.randint(0, 2, (num_records, num_labels), generator=rng).float(),
            target_known=torch.ones(num_records, num_labels, dtype=torch.bool),
            weight=torch.ones(num_records),
            record_id=[f"practice:{n}" for n in range(num_records)],
        )

    return make


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """A model whose branches all take part: `gate` gives every gate its values, zero-started norms become one."""

    def make(options: dict[str, Any], seed: int = 0, gate: float | None = 0.1, size: str = "debug") -> nn.Module:
        torch.manual_seed(seed)
        model = build_model("vizecgnet", size, 3, options)
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                nn.init.normal_(parameter) if gate is None else nn.init.constant_(parameter, gate)
            elif ".bn" in name and name.endswith("weight"):
                nn.init.ones_(parameter)  # timm starts the last norm of every block at zero.
        return model

    return make
