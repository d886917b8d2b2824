"""The deployed image head never looks at the signal, and every parameter learns."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vizecg.models.batch import EcgBatch
from vizecg.models.objectives import ObjectiveConfig, loss_terms, weighted_total

ABLATIONS = {
    "none": ({"use_smam": False, "use_cmam": False}, 0.0),
    "+SMAM": ({"use_smam": True, "use_cmam": False}, 0.0),
    "+CMAM": ({"use_smam": False, "use_cmam": True}, 0.0),
    "+KD": ({"use_smam": False, "use_cmam": False}, 1.0),
    "all": ({"use_smam": True, "use_cmam": True}, 1.0),
}


def loss_of(model: torch.nn.Module, batch: EcgBatch, objective: ObjectiveConfig | None = None) -> Tensor:
    terms = loss_terms(model(batch), batch, objective or ObjectiveConfig())
    return weighted_total(terms, torch.stack([term.count for term in terms.values()]), 1)


def gradients_of(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@given(
    seed=st.integers(0, 10_000),
    depth=st.integers(0, 3),
    use_smam=st.booleans(),
    use_cmam=st.booleans(),
    cross_in_image_path=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_image_head_never_sees_the_signal(
    make_batch, make_model, seed: int, depth: int, use_smam: bool, use_cmam: bool, cross_in_image_path: bool
) -> None:
    options = {"attention_depth": depth, "use_smam": use_smam, "use_cmam": use_cmam}
    model = make_model({**options, "cross_in_image_path": cross_in_image_path}, seed, gate=None).eval()
    batch, other = make_batch(3, seed), make_batch(3, seed + 1)
    swapped = replace(
        batch,
        signal=100 * other.signal,
        signal_known=~batch.signal_known,
        valid_samples=batch.valid_samples // 2,
        lead_present=~batch.lead_present,
    )

    with torch.inference_mode():
        one, two, deployed = model(batch).logits, model(swapped).logits, model.forward_deployed(batch.page)

    assert torch.equal(one["image"], two["image"])
    assert torch.equal(one["image"], deployed)
    assert not torch.equal(one["signal"], two["signal"])
    assert not torch.equal(one["fused"], two["fused"])


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_what_each_module_touches(make_batch, make_model, gate: float) -> None:
    """SMAM changes both private streams once its gates open; CMAM never touches them, with any gate."""
    batch = make_batch()

    # One seed gives one encoder whatever follows; heads are drawn after the attention, so features are compared.
    none, smam, cmam = (
        make_model(ABLATIONS[name][0], gate=gate).eval()(batch).features for name in ("none", "+SMAM", "+CMAM")
    )

    for stream in ("image", "signal"):
        assert torch.equal(none[stream], cmam[stream])
        assert torch.equal(none[stream], smam[stream]) == (gate == 0)


@pytest.mark.parametrize("size", ["debug", "small"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_gradients_reach_every_parameter(make_batch, make_model, size: str, name: str) -> None:
    options, lambda_kd = ABLATIONS[name]
    model, batch = make_model(options, size=size).train(), make_batch()

    loss = loss_of(model, batch, ObjectiveConfig(lambda_kd=lambda_kd))
    gradients = gradients_of(model, loss)

    assert [key for key, g in gradients.items() if not g.isfinite().all()] == []
    assert [key for key, g in gradients.items() if not g.any()] == []
    assert any("smam" in key for key in gradients) == options["use_smam"]
    assert any("cmam" in key for key in gradients) == options["use_cmam"]


@pytest.mark.parametrize(
    ("stream", "learns"),
    [
        ("image", {"page_encoder", "page_smam", "image_head"}),
        ("signal", {"signal_encoder", "signal_smam", "signal_head"}),
        (
            "fused",
            {"page_encoder", "page_smam", "page_cmam", "signal_encoder", "signal_smam", "signal_cmam", "fused_head"},
        ),
    ],
)
def test_what_each_head_teaches(make_batch, make_model, stream: str, learns: set[str]) -> None:
    model = make_model({"attention_depth": 2}).train()
    alone = {name: float(name == stream) for name in ("image", "signal", "fused")}

    gradients = gradients_of(model, loss_of(model, make_batch(), ObjectiveConfig(lambda_kd=0, head_weights=alone)))

    assert {key.split(".")[0] for key, g in gradients.items() if g.any()} == learns
    assert [key for key, g in gradients.items() if key.split(".")[0] in learns and not g.any()] == []


def test_gradients_reach_every_round(make_batch, make_model) -> None:
    model = make_model({"attention_depth": 3, "cross_in_image_path": True}).train()

    gradients = gradients_of(model, loss_of(model, make_batch()))

    assert sum(key.endswith(".gate") for key in gradients) == 12
    assert [key for key, g in gradients.items() if not g.any()] == []


def test_closed_gates_learn_first(make_batch, make_model) -> None:
    model = make_model({"attention_depth": 2}, gate=0.0).train()

    gradients = gradients_of(model, loss_of(model, make_batch()))

    attention = {key: g for key, g in gradients.items() if "mam." in key}
    assert {key for key, g in attention.items() if g.any()} == {key for key in attention if key.endswith(".gate")}
    assert [key for key, g in gradients.items() if key not in attention and not g.any()] == []


@pytest.mark.parametrize("num_records", [1, 5])
def test_shapes(make_batch, make_model, num_records: int) -> None:
    model, batch = make_model({}).eval(), make_batch(num_records)

    prediction = model(batch)

    assert {name: tuple(x.shape) for name, x in prediction.logits.items()} == dict.fromkeys(
        ("image", "signal", "fused"), (num_records, 3)
    )
    assert all(logits.isfinite().all() for logits in prediction.logits.values())
    assert {tuple(x.shape) for x in prediction.features.values()} == {(num_records, 128)}
    assert model.deployed_stream in prediction.logits
    assert model.inputs == {"page", "signal"}


def test_a_record_does_not_depend_on_its_neighbours(make_batch, make_model) -> None:
    model, batch = make_model({"attention_depth": 2}, gate=None).eval(), make_batch(4)
    alone = {field: value[2:3] for field, value in vars(batch).items()}

    whole, single = model(batch).logits, model(EcgBatch(**alone)).logits

    for stream in whole:
        torch.testing.assert_close(single[stream], whole[stream][2:3], rtol=1e-4, atol=1e-5)


def test_an_unknown_signal_teaches_nothing(make_batch, make_model) -> None:
    """In evaluation mode: in training, batch norm mixes the statistics of all rows."""
    model, batch = make_model({}).eval(), make_batch(4)
    signal = batch.signal.clone().requires_grad_()
    batch = replace(batch, signal=signal, signal_known=torch.tensor([True, False, True, False]))
    noise = 50 * torch.randn_like(signal) * ~batch.signal_known[:, None, None]

    loss, perturbed = loss_of(model, batch), loss_of(model, replace(batch, signal=signal + noise))
    (gradient,) = torch.autograd.grad(loss, signal, retain_graph=True)

    assert torch.equal(loss, perturbed)
    assert gradient.flatten(1).any(1).tolist() == [True, False, True, False]
    for key, g in gradients_of(model, loss).items():
        assert g.isfinite().all(), key


def test_pages_alone_train_the_page_stream_and_leave_the_rest(make_batch, make_model) -> None:
    model, batch = make_model({}).eval(), make_batch(4)
    batch = replace(batch, signal_known=torch.zeros(4, dtype=torch.bool))

    gradients = gradients_of(model, loss_of(model, batch))

    learns = {key.split(".")[0] for key, g in gradients.items() if g.any()}
    assert learns == {"page_encoder", "page_smam", "image_head"}
    assert all(g.isfinite().all() for g in gradients.values())


def test_rows_of_weight_zero_change_nothing(make_batch, make_model) -> None:
    model, batch = make_model({}).eval(), make_batch(4)
    rubbish = make_batch(4, seed=9)
    padding = torch.tensor([False, True, False, True])
    batch = replace(batch, weight=(~padding).float())
    mixed = {
        name: torch.where(padding.view(-1, *[1] * (value.ndim - 1)), getattr(rubbish, name), value)
        for name, value in vars(batch).items()
        if isinstance(value, Tensor) and name != "weight"
    }

    loss, other = loss_of(model, batch), loss_of(model, replace(batch, **mixed))

    torch.testing.assert_close(loss, other, rtol=0, atol=1e-7)
    for key, (one, two) in zip(
        gradients_of(model, loss),
        zip(gradients_of(model, loss_of(model, batch)).values(), gradients_of(model, other).values(), strict=True),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6, msg=key)


def test_cross_in_image_path_reads_known_signals_in_training_alone(make_batch, make_model) -> None:
    options = {"cross_in_image_path": True, "dropout": 0.0}
    batch = replace(make_batch(4), signal_known=torch.tensor([True, True, False, False]))
    other = replace(batch, signal=make_batch(4, seed=5).signal)
    changed = {}

    for dropped in (0.0, 1.0):
        model = make_model({**options, "modality_dropout": dropped}, gate=None).train()
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        one, two = model(batch).logits["image"], model(other).logits["image"]
        changed[dropped] = (one != two).any(1).tolist()

    assert changed == {0.0: [True, True, False, False], 1.0: [False] * 4}


def test_samples_after_the_recording_do_not_reach_the_attention(make_batch, make_model) -> None:
    """Tokens that begin after the last recorded sample are masked everywhere; here they are replaced outright."""
    model, batch = make_model({"attention_depth": 2}, gate=None).eval(), make_batch(4)
    encoder = model.signal_encoder
    plain = encoder.forward

    def with_rubbish_where_invalid(signal, valid_samples):
        tokens, position, valid = plain(signal, valid_samples)
        return torch.where(valid[:, :, None], tokens, torch.full_like(tokens, 7.0)), position, valid

    before = model(batch).logits
    encoder.forward = with_rubbish_where_invalid
    after = model(batch).logits

    assert not encoder(batch.signal, batch.valid_samples)[2].all()
    for stream in before:
        torch.testing.assert_close(before[stream], after[stream], rtol=0, atol=1e-5)
