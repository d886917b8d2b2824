"""Losses against their formulas, and no dependence on how a batch is shared among workers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vizecg.models.batch import EcgBatch, Prediction
from vizecg.models.objectives import (
    LossTerm,
    ObjectiveConfig,
    loss_terms,
    objective_terms,
    term_counts,
    weighted_total,
)

B, K = 8, 3
STREAMS = ("image", "signal", "fused")


def random_batch(seed: int, num_records: int = B, weights: bool = True) -> EcgBatch:
    """Plain tensors with holes in everything that can be unknown; no page, no signal."""
    rng = torch.Generator().manual_seed(seed)
    chance = lambda *shape: torch.rand(shape, generator=rng)  # noqa: E731
    return EcgBatch(
        page=torch.zeros(num_records, 3, 1, 1, dtype=torch.uint8),
        signal=torch.zeros(num_records, 12, 1),
        signal_known=chance(num_records) < 0.6,
        lead_present=torch.ones(num_records, 12, dtype=torch.bool),
        valid_samples=torch.ones(num_records, dtype=torch.int64),
        target=(chance(num_records, K) < 0.4).double(),
        target_known=chance(num_records, K) < 0.7,
        weight=(chance(num_records) < 0.8).double() if weights else torch.ones(num_records, dtype=torch.float64),
    )


def random_logits(seed: int, num_records: int = B) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1000 + seed)
    return {s: 3 * torch.randn((num_records, K), generator=rng, dtype=torch.float64) for s in STREAMS}


def terms_of(logits: dict[str, Tensor], batch: EcgBatch, **config) -> dict[str, LossTerm]:
    return loss_terms(Prediction(logits=logits), batch, ObjectiveConfig(**config))


def mean_of(term: LossTerm) -> float:
    return float(term.total / term.count)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def kl_by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    return temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def rows_known(batch: EcgBatch, stream: str) -> np.ndarray:
    weight = batch.weight.numpy()
    return weight if stream == "image" else weight * batch.signal_known.numpy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pos_weight", [1.0, 2.5])
def test_bce_is_a_mean_over_what_is_known(seed: int, pos_weight: float) -> None:
    batch, logits = random_batch(seed), random_logits(seed)

    terms = terms_of(logits, batch, pos_weight=pos_weight)

    for stream in STREAMS:
        p, y = sigmoid(logits[stream].numpy()), batch.target.numpy()
        loss = -(pos_weight * y * np.log(p) + (1 - y) * np.log(1 - p))
        known = batch.target_known.numpy() * rows_known(batch, stream)[:, None]
        assert float(terms[f"cls_{stream}"].count) == known.sum()
        assert mean_of(terms[f"cls_{stream}"]) == pytest.approx(loss[known > 0].mean(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_asymmetric_loss_is_the_formula_of_its_paper(gamma: float) -> None:
    batch, logits = random_batch(1), random_logits(1)

    term = terms_of(logits, batch, classification="asymmetric", focusing_negative=gamma)["cls_image"]

    p, y = sigmoid(logits["image"].numpy()), batch.target.numpy()
    shifted = np.maximum(p - 0.05, 0)
    loss = -(y * np.log(p) + (1 - y) * shifted**gamma * np.log(1 - shifted))
    known = batch.target_known.numpy() * batch.weight.numpy()[:, None] > 0
    assert mean_of(term) == pytest.approx(loss[known].mean(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_asymmetric_loss_has_a_gradient_everywhere(gamma: float) -> None:
    """Also where the shifted probability is zero, and at the ends of the number range."""
    batch = replace(random_batch(1, weights=False), target_known=torch.ones(B, K, dtype=torch.bool))
    logits = torch.linspace(-100, 100, B * K).reshape(B, K).requires_grad_()

    terms = terms_of({"image": logits}, batch, classification="asymmetric", focusing_negative=gamma)
    terms["cls_image"].total.backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("student", "teacher"), [("image", "fused"), ("image", "signal"), ("signal", "image")])
def test_distillation_is_a_divergence_of_bernoullis(student: str, teacher: str, temperature: float) -> None:
    batch, logits = random_batch(2), random_logits(2)

    term = terms_of(logits, batch, student=student, teacher=teacher, temperature=temperature, lambda_kd=0.7)["kd"]

    expected = kl_by_hand(logits[student].numpy(), logits[teacher].numpy(), temperature)
    known = rows_known(batch, "fused") > 0
    assert mean_of(term) == pytest.approx(expected[known].mean(), rel=1e-10)
    assert float(term.count) == known.sum() * K
    assert term.weight == 0.7


def test_distillation_variants() -> None:
    batch, logits = random_batch(3), random_logits(3)
    known = rows_known(batch, "fused") > 0
    one, two = logits["image"].numpy()[known], logits["fused"].numpy()[known]

    got = {
        distance: mean_of(terms_of(logits, batch, distance=distance, temperature=2.0)["kd"])
        for distance in ("mse_probability", "mse_logit")
    }
    mutual = mean_of(terms_of(logits, batch, mutual=True)["kd"])

    assert got["mse_probability"] == pytest.approx(((sigmoid(one / 2) - sigmoid(two / 2)) ** 2).mean())
    assert got["mse_logit"] == pytest.approx(((one - two) ** 2).mean())
    assert mutual == pytest.approx((kl_by_hand(one, two, 1) + kl_by_hand(two, one, 1)).mean())


@given(st.floats(-30, 30), st.floats(-30, 30), st.sampled_from([0.5, 1.0, 4.0]))
@settings(max_examples=100, deadline=None)
def test_divergence_is_zero_exactly_where_the_streams_agree(student: float, teacher: float, temperature: float) -> None:
    batch = replace(random_batch(0, 1, weights=False), signal_known=torch.tensor([True]))
    logits = {s: torch.full((1, K), x, dtype=torch.float64) for s, x in (("image", student), ("fused", teacher))}

    divergence = mean_of(terms_of(logits, batch, temperature=temperature)["kd"])

    assert divergence >= -1e-12
    if abs(student - teacher) > 0.1:
        # Of two sure streams the divergence is as small as their distance in probability.
        assert divergence > 0 or min(abs(student), abs(teacher)) > 25 * temperature
    if student == teacher:
        assert divergence == 0


def test_the_teacher_learns_nothing_unless_mutual() -> None:
    batch = replace(random_batch(4), signal_known=torch.ones(B, dtype=torch.bool))
    for mutual in (False, True):
        logits = {s: x.requires_grad_() for s, x in random_logits(4).items()}

        terms_of(logits, batch, mutual=mutual)["kd"].total.backward()

        assert logits["image"].grad is not None and logits["image"].grad.any()
        assert (logits["fused"].grad is not None) == mutual
        assert logits["signal"].grad is None


def test_the_student_moves_towards_the_teacher() -> None:
    """The gradient of the divergence by a student's logit is q - p, times the temperature."""
    batch = replace(random_batch(4, weights=False), signal_known=torch.ones(B, dtype=torch.bool))
    logits = random_logits(5)
    student = logits["image"].requires_grad_()

    terms_of(logits, batch, temperature=2.0)["kd"].total.backward()

    expected = 2.0 * (torch.sigmoid(student / 2) - torch.sigmoid(logits["fused"] / 2))
    torch.testing.assert_close(student.grad, expected.detach())


def test_terms_follow_the_model_and_the_configuration() -> None:
    batch, logits = random_batch(6), random_logits(6)

    alone = terms_of({"image": logits["image"]}, batch)
    weighted = terms_of(logits, batch, lambda_cls=2.0, lambda_kd=0.0, head_weights={"image": 3.0, "fused": 0.0})

    assert set(alone) == {"cls_image"}
    assert {name: term.weight for name, term in weighted.items()} == {
        "cls_image": 6.0, "cls_signal": 2.0, "cls_fused": 0.0
    }  # fmt: skip


def test_half_precision_logits_are_measured_in_float32() -> None:
    batch, logits = random_batch(7), {s: x.bfloat16() for s, x in random_logits(7).items()}

    for term in terms_of(logits, batch).values():
        assert term.total.dtype in (torch.float32, torch.float64)


@given(
    seed=st.integers(0, 10_000),
    shares=st.sampled_from([2, 4, 8]),
    mutual=st.booleans(),
    classification=st.sampled_from(["bce", "asymmetric"]),
)
@settings(max_examples=30, deadline=None)
def test_sharing_a_batch_changes_neither_loss_nor_gradient(
    seed: int, shares: int, mutual: bool, classification: str
) -> None:
    """What DDP does: every worker differentiates its total, gradients are averaged. Shares may hold nothing known."""
    config = ObjectiveConfig(mutual=mutual, classification=classification, lambda_kd=0.5, head_weights={"signal": 0.3})
    batch, inputs = random_batch(seed), torch.randn(B, 5, generator=torch.Generator().manual_seed(seed)).double()

    def totals(parts: int) -> tuple[Tensor, list[Tensor]]:
        seeds = {stream: torch.Generator().manual_seed(number) for number, stream in enumerate(STREAMS)}
        layers = {s: torch.randn(5, K, generator=seeds[s]).double() for s in STREAMS}
        weights = [layers[s].requires_grad_() for s in STREAMS]
        terms = []
        for part in range(parts):
            rows = slice(part * B // parts, (part + 1) * B // parts)
            share = EcgBatch(**{name: value[rows] for name, value in vars(batch).items()})
            prediction = Prediction(logits={s: inputs[rows] @ layers[s] for s in STREAMS})
            terms.append(loss_terms(prediction, share, config))
        counts = torch.stack([torch.stack([term.count for term in part.values()]) for part in terms]).sum(0)
        losses = torch.stack([weighted_total(part, counts, parts) for part in terms])
        return losses.mean().detach(), list(torch.autograd.grad(losses.mean(), weights))

    whole, whole_gradients = totals(1)
    shared, shared_gradients = totals(shares)

    torch.testing.assert_close(shared, whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shared_gradients, whole_gradients, rtol=1e-10, atol=1e-10)


def test_nothing_known_costs_nothing() -> None:
    batch = replace(random_batch(8), target_known=torch.zeros(B, K, dtype=torch.bool), weight=torch.zeros(B))
    logits = {s: x.requires_grad_() for s, x in random_logits(8).items()}

    terms = terms_of(logits, batch)
    loss = weighted_total(terms, torch.stack([term.count for term in terms.values()]), 1)
    loss.backward()

    assert float(loss.detach()) == 0
    assert all(x.grad is not None and not x.grad.any() for x in (logits["image"], logits["signal"]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("streams", [STREAMS, ("image",), ("signal",), ("signal", "image")])
@pytest.mark.parametrize("options", [{}, {"lambda_kd": 0.0}, {"teacher": "signal"}, {"student": "fused"}])
def test_counts_are_known_before_the_forward_pass(seed: int, streams: tuple[str, ...], options: dict) -> None:
    batch, config = random_batch(seed), ObjectiveConfig(**options)
    logits = {stream: random_logits(seed)[stream] for stream in streams}

    if options.get("student") == "fused":
        config = replace(config, teacher="signal")
    terms = loss_terms(Prediction(logits=logits), batch, config)
    specs = objective_terms(streams, config)

    assert [spec.name for spec in specs] == list(terms)
    assert [spec.weight for spec in specs] == [term.weight for term in terms.values()]
    assert term_counts(batch, streams, config).tolist() == [float(term.count) for term in terms.values()]


def test_double_logits_are_measured_in_double_precision_whatever_the_targets() -> None:
    batch, logits = random_batch(9), random_logits(9)
    single = replace(batch, target=batch.target.float(), weight=batch.weight.float())

    for name, term in terms_of(logits, single, pos_weight=2.0).items():
        exact = terms_of(logits, batch, pos_weight=2.0)[name]
        assert term.total.dtype == torch.float64
        assert float(term.total) == pytest.approx(float(exact.total), rel=1e-14)
