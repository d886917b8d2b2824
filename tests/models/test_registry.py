"""Models by name: wrong names are told, every debug size trains in seconds, a seed decides the weights."""

import time

import pytest
import torch

from vizecg.models.objectives import ObjectiveConfig, loss_terms, weighted_total
from vizecg.models.registry import MODELS, build_model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vizecgnett", "debug", 3), "model.name: unknown value 'vizecgnett'; did you mean 'vizecgnet'?"),
        (("transformer", "debug", 3), "model.name: unknown value 'transformer'; there are vizecgnet"),
        (("vizecgnet", "debgu", 3), "model.size: unknown value 'debgu'; did you mean 'debug'?"),
        (("vizecgnet", "huge!", 3), "model.size: unknown value 'huge!'; there are debug, small, base"),
        (
            ("vizecgnet", "debug", 3, {"use_smamm": True}),
            "model.options: unknown value 'use_smamm'; did you mean 'use_smam'?",
        ),
        (("vizecgnet", "debug", 3, {"page_encoder": "resnet81"}), "nearest: resnet18"),
        (("vizecgnet", "debug", 3, {"signal_encoder": "resnet1d81"}), "did you mean 'resnet1d18'?"),
        (("vizecgnet", "debug", 3, {"dim": "wide"}), "model.options.dim = 'wide': expected int, such as 512"),
        (("vizecgnet", "debug", 3, {"dim": True}), "model.options.dim = True: expected int"),
        (("vizecgnet", "debug", 3, {"use_smam": "no"}), "model.options.use_smam = 'no': expected bool"),
        (("vizecgnet", "debug", 3, {"dropout": "0.1"}), "model.options.dropout = '0.1': expected float"),
        (("vizecgnet", "debug", 3, {"num_heads": 0}), "model.options.num_heads = 0: expected at least 1"),
        (("vizecgnet", "debug", 3, {"num_heads": 3}), "num_heads = 3 does not divide model.options.dim = 128"),
        (("vizecgnet", "debug", 3, {"attention_depth": -1}), "model.options.attention_depth = -1: expected at least 0"),
        (
            ("vizecgnet", "debug", 3, {"modality_dropout": 1.5}),
            "model.options.modality_dropout = 1.5: expected between",
        ),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_one_sentence(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        build_model(*arguments)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_go_over_the_size() -> None:
    model = build_model("vizecgnet", "debug", 5, {"attention_depth": 2, "dim": 64, "dropout": 0})

    assert (model.config.attention_depth, model.config.dim, model.config.num_heads) == (2, 64, 4)
    assert len(model.page_smam) == 2
    assert model.image_head[-1].out_features == 5


@pytest.mark.parametrize("size", [size for size in MODELS["vizecgnet"].sizes if size != "base"])
def test_no_stage_is_narrower_than_torch_can_bear(size: str) -> None:
    """torch 2.15: the CPU backward of strided 1x1 convolutions corrupts memory below 16 channels."""
    for module in build_model("vizecgnet", size, 3).modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and set(module.kernel_size) == {1}:
            assert min(module.in_channels, module.out_channels) >= 16


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_debug_size_takes_a_step_in_two_seconds(make_batch, name: str, precision: torch.dtype) -> None:
    started, batch = time.monotonic(), make_batch(8)
    torch.manual_seed(0)
    model = build_model(name, "debug", 3, {"dropout": 0.0}).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []

    for _ in range(3):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            prediction = model(batch)
        terms = loss_terms(prediction, batch, ObjectiveConfig(lambda_kd=0.0))
        loss = weighted_total(terms, torch.stack([term.count for term in terms.values()]), 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))

    assert (time.monotonic() - started) / 3 < 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[2] < losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_decides_everything(make_batch, name: str) -> None:
    def outcome(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model, batch = build_model(name, "debug", 3).train(), make_batch(4)
        terms = loss_terms(model(batch), batch, ObjectiveConfig())
        weighted_total(terms, torch.stack([term.count for term in terms.values()]), 1).backward()
        return [p.grad for p in model.parameters()]

    one, same, other = outcome(1), outcome(1), outcome(2)

    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
