"""Every model reads what it says it reads and no more; the comparison systems are what their names say."""

import json
from dataclasses import asdict, replace

import pytest
import timm
import torch
from torch import Tensor

from vizecg.models.objectives import ObjectiveConfig, loss_terms, term_counts, weighted_total
from vizecg.models.registry import MODELS, build_model

PLAIN = ObjectiveConfig(lambda_kd=0.0)


def debug_model(name: str, options: dict | None = None, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(name, "debug", 3, {"dropout": 0.0, **(options or {})})


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_gives(make_batch, name: str) -> None:
    model = debug_model(name).eval()

    with torch.inference_mode():
        logits = model(make_batch(4)).logits

    assert tuple(logits) == model.streams
    assert model.deployed_stream in model.streams
    assert all(values.shape == (4, 3) for values in logits.values())


@pytest.mark.parametrize("name", MODELS)
def test_the_deployed_stream_reads_the_inputs_it_needs(make_batch, name: str) -> None:
    model, batch, other = debug_model(name).eval(), make_batch(4, seed=0), make_batch(4, seed=1)

    with torch.inference_mode():
        logits, without_page, without_signal = (
            model(part).logits[model.deployed_stream]
            for part in (batch, replace(batch, page=other.page), replace(batch, signal=other.signal))
        )
        if hasattr(model, "forward_deployed"):
            assert torch.equal(model.forward_deployed(batch.page), logits)

    assert torch.equal(logits, without_page) == (name == "resnet1d")
    assert torch.equal(logits, without_signal) == hasattr(model, "forward_deployed")


@pytest.mark.parametrize("name", MODELS)
def test_options_spelled_out_build_the_same_model(name: str) -> None:
    model = debug_model(name, seed=3)
    options = json.loads(json.dumps(asdict(model.config)))
    torch.manual_seed(3)

    again = build_model(name, "debug", 3, options).state_dict()

    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_double_precision_is_double_throughout(make_batch, name: str) -> None:
    """A signal and a page reach the logits with more digits than float32 has."""
    model, batch = debug_model(name).double().eval(), make_batch(2).double()
    # Whole numbers of mV but zero: float32 would round the small step away.
    batch = replace(batch, signal=batch.signal.round() + 10)
    moved = replace(batch, signal=batch.signal + 1e-10)

    logits, nearly = (model(part).logits for part in (batch, moved))

    for stream, values in logits.items():
        assert values.dtype == torch.float64
        assert (values != values.float().double()).any()
        if stream == "signal":
            assert 0 < (values - nearly[stream]).abs().max() < 1e-8


@pytest.mark.parametrize(
    ("name", "size", "timm_name"),
    [("resnet18", "base", "resnet18"), ("mobilenetv3", "small", "mobilenetv3_small_100")],
)
def test_page_models_are_those_of_timm(make_batch, name: str, size: str, timm_name: str) -> None:
    model = build_model(name, size, 5).eval()
    theirs = timm.create_model(timm_name, num_classes=5).eval()
    theirs.load_state_dict(model.backbone.state_dict())
    page = make_batch(2).page

    with torch.inference_mode():
        torch.testing.assert_close(model.forward_deployed(page), theirs((255 - page.float()) / 64))


def gradients(model: torch.nn.Module, batch, streams: tuple[str, ...]) -> dict[str, Tensor]:
    terms = loss_terms(model(batch), batch, PLAIN)
    weighted_total(terms, term_counts(batch, streams, PLAIN), 1).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("part", "name"), [("page_model", "resnet18"), ("signal_model", "resnet1d")])
def test_in_late_fusion_each_model_learns_what_it_learns_alone(make_batch, part: str, name: str) -> None:
    batch, both, alone = make_batch(4), debug_model("late-fusion"), debug_model(name)
    alone.load_state_dict(getattr(both, part).state_dict())

    theirs, own = gradients(both, batch, both.streams), gradients(alone, batch, alone.streams)

    assert own
    for key, gradient in own.items():
        torch.testing.assert_close(theirs[f"{part}.{key}"], gradient)


def test_late_fusion_is_the_mean_and_can_learn_better_weights(make_batch) -> None:
    batch = make_batch(4)
    plain = debug_model("late-fusion").eval()
    learned = debug_model("late-fusion", {"fusion": "learned"}).eval()

    for model in (plain, learned):
        logits = model(batch).logits
        torch.testing.assert_close(logits["fused"], (logits["image"] + logits["signal"]) / 2)
    assert gradients(learned, batch, learned.streams)["page_weight"].any()
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        debug_model("late-fusion", {"fusion": "mena"})


def test_late_fusion_without_a_signal_is_the_page(make_batch) -> None:
    known = torch.tensor([True, False, True, False])
    batch = replace(make_batch(4), signal_known=known)

    logits = debug_model("late-fusion").eval()(batch).logits

    assert torch.equal(logits["fused"][~known], logits["image"][~known])
    assert not torch.isclose(logits["fused"][known], logits["image"][known]).any()
