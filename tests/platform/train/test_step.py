"""One optimiser step in every precision, and where it must not be taken."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vizecg.models.batch import EcgBatch
from vizecg.models.registry import build_model
from vizecg.platform.config import TrainConfig
from vizecg.platform.train.optimizer import build_optimizer
from vizecg.platform.train.step import NotFinite, Stepper
from vizecg.platform.train.worker import Worker

NUM_LABELS = 4
WORKER = Worker(rank=0, world_size=1, device=torch.device("cpu"), report=lambda metrics: None)


def random_batch(size: int = 6) -> EcgBatch:
    random = torch.Generator().manual_seed(1)
    return EcgBatch(
        page=torch.randint(0, 255, (size, 3, 64, 96), dtype=torch.uint8, generator=random),
        signal=torch.randn(size, 12, 256, generator=random),
        signal_known=torch.ones(size, dtype=torch.bool),
        lead_present=torch.ones(size, 12, dtype=torch.bool),
        valid_samples=torch.full((size,), 256),
        target=torch.randint(0, 2, (size, NUM_LABELS), generator=random).float(),
        target_known=torch.ones(size, NUM_LABELS, dtype=torch.bool),
        weight=torch.ones(size),
        record_id=[str(number) for number in range(size)],
    )


def stepper_of(config: TrainConfig) -> tuple[Stepper, torch.nn.Module]:
    torch.manual_seed(0)
    model = build_model("vizecgnet", "debug", NUM_LABELS, {"dropout": 0.0})
    model = model.double() if config.precision == "fp64" else model
    return Stepper(config, model, build_optimizer(config.optimizer, model), WORKER), model


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_what_double_precision_learns(
    precision: str, tiny_config: Callable[..., TrainConfig], one_thread: None
) -> None:
    curves = []
    for name in ("fp64", precision):
        stepper, _ = stepper_of(tiny_config(f"precision={name}"))
        batch = random_batch().double() if name == "fp64" else random_batch()
        curves.append([stepper.means(stepper(batch, step, 1e-3)[0])["train_loss"] for step in range(4)])
    assert curves[0][-1] < 0.7 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=0.03)


def test_fp16_skips_a_step_whose_gradient_overflows(tiny_config: Callable[..., TrainConfig], one_thread: None) -> None:
    stepper, model = stepper_of(tiny_config("precision=fp16"))
    stepper(random_batch(), 0, 1e-3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.image_head[2].weight.register_hook(lambda grad: grad * float("inf"))  # type: ignore[index,union-attr]
    scale = stepper.scaler.get_scale()
    stepper(random_batch(), 1, 1e-3)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
    assert stepper.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nothing_infinite_reaches_the_weights(
    what: str, tiny_config: Callable[..., TrainConfig], one_thread: None
) -> None:
    stepper, model = stepper_of(tiny_config())
    batch = random_batch()
    if what == "loss":
        batch = replace(batch, signal=batch.signal.index_fill(0, torch.tensor([2]), float("nan")))
    else:
        model.image_head[2].weight.register_hook(lambda grad: grad * float("inf"))  # type: ignore[index,union-attr]
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(NotFinite) as caught:
        stepper(batch, 5, 1e-3)
    assert (caught.value.what, caught.value.step, caught.value.record_ids) == (what, 5, list("012345"))
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_unknown_targets_and_signals_teach_nothing(tiny_config: Callable[..., TrainConfig], one_thread: None) -> None:
    """What is not known may hold anything: the weights after the step are the same, and so are the statistics."""
    known = replace(
        random_batch(),
        target_known=torch.arange(6 * NUM_LABELS).reshape(6, NUM_LABELS) % 3 > 0,
        signal_known=torch.arange(6) % 3 > 0,
    )
    other = replace(
        known,
        target=torch.where(known.target_known, known.target, 1 - known.target),
        signal=torch.where(known.signal_known[:, None, None], known.signal, 9.0),
    )
    after = []
    for batch in (known, other):
        stepper, model = stepper_of(tiny_config())
        stepper(batch, 0, 1e-3)
        after.append(model.state_dict())
    before = stepper_of(tiny_config())[1].state_dict()
    assert all(torch.equal(after[0][name], after[1][name]) for name in before)
    assert not torch.equal(before["signal_head.2.weight"], after[0]["signal_head.2.weight"])


def test_a_record_that_only_fills_a_place_teaches_nothing(
    tiny_config: Callable[..., TrainConfig], one_thread: None
) -> None:
    stepper, model = stepper_of(tiny_config("optimizer.weight_decay=0"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    nobody = torch.zeros(1, dtype=torch.bool)
    empty = replace(
        random_batch(1), weight=torch.zeros(1), signal_known=nobody, target_known=nobody[:, None].repeat(1, NUM_LABELS)
    )
    stepper(empty, 0, 1e-3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_fp16_gives_up_where_every_gradient_overflows(
    tiny_config: Callable[..., TrainConfig], one_thread: None
) -> None:
    stepper, model = stepper_of(tiny_config("precision=fp16"))
    stepper(random_batch(), 0, 1e-3)
    model.image_head[2].weight.register_hook(lambda grad: grad * float("nan"))  # type: ignore[index,union-attr]
    stepper.scaler.update(2.0)
    stepper(random_batch(), 1, 1e-3)
    with pytest.raises(NotFinite) as caught:
        stepper(random_batch(), 2, 1e-3)
    assert caught.value.what == "gradient"
