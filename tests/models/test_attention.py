"""SMAM and CMAM compute what their formula says, place by place."""

import math

import pytest
import torch
from torch import Tensor

from vizecg.models.attention import CrossModalAttention, GatedAttention, SelfModalAttention, positions_1d, positions_2d

DIM, HEADS = 8, 2
CPU = torch.device("cpu")


def opened(module: GatedAttention, seed: int = 0) -> GatedAttention:
    """Every parameter random, the gate with them, in float64."""
    torch.manual_seed(seed)
    module = module.double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normed_by_hand(values: list[float], weight: list[float], bias: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
    return [(v - mean) / deviation * w + b for v, w, b in zip(values, weight, bias, strict=True)]


def linear_by_hand(layer: torch.nn.Linear, values: list[float]) -> list[float]:
    bias = layer.bias.tolist() if layer.bias is not None else [0.0] * layer.out_features
    rows = zip(layer.weight.tolist(), bias, strict=True)
    return [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in rows]


def attention_by_hand(module, x, context, position, context_position, valid) -> Tensor:
    """One record, one query, one head at a time, with numbers instead of tensors. x (B, N, D), context (B, M, D)."""
    out = x.clone()
    width = DIM // HEADS
    plus = lambda a, b: [p + q for p, q in zip(a, b, strict=True)]  # noqa: E731
    norms = [(norm.weight.tolist(), norm.bias.tolist()) for norm in (module.norm, module.norm_context)]
    for b in range(len(x)):
        seen = [m for m in range(context.shape[1]) if valid is None or valid[b, m]]
        normed = {m: normed_by_hand(context[b, m].tolist(), *norms[1]) for m in seen}
        keys = {m: linear_by_hand(module.key, plus(normed[m], context_position[m].tolist())) for m in seen}
        values = {m: linear_by_hand(module.value, normed[m]) for m in seen}
        for n in range(x.shape[1]):
            asked = plus(normed_by_hand(x[b, n].tolist(), *norms[0]), position[n].tolist())
            query = linear_by_hand(module.query, asked)
            joined = []
            for head in range(HEADS):
                part = range(head * width, (head + 1) * width)
                score = {m: sum(query[d] * keys[m][d] for d in part) / math.sqrt(width) for m in seen}
                whole = sum(math.exp(s) for s in score.values())
                joined += [sum(math.exp(score[m]) / whole * values[m][d] for m in seen) for d in part]
            branch = torch.tensor(linear_by_hand(module.output, joined), dtype=torch.float64)
            out[b, n] = x[b, n] + module.gate * branch
    return out


VALID = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])


@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize("seed", [1, 2])
def test_cmam_against_plain_loops(seed: int, valid: Tensor | None) -> None:
    module = opened(CrossModalAttention(DIM, HEADS), seed)
    x, context, position, context_position = (
        tokens(seed, 2, 3, DIM), tokens(seed + 1, 2, 5, DIM), tokens(seed + 2, 3, DIM), tokens(seed + 3, 5, DIM)
    )  # fmt: skip

    got = module(x, context, position, context_position, valid)

    torch.testing.assert_close(got, attention_by_hand(module, x, context, position, context_position, valid))


@pytest.mark.parametrize("valid", [None, VALID])
def test_smam_against_plain_loops(valid: Tensor | None) -> None:
    module = opened(SelfModalAttention(DIM, HEADS))
    x, position = tokens(1, 2, 5, DIM), tokens(2, 5, DIM)

    got = module(x, position, valid)

    torch.testing.assert_close(got, attention_by_hand(module, x, x, position, position, valid))


def test_a_new_module_changes_nothing() -> None:
    x, context, position = tokens(1, 2, 5, DIM).float(), tokens(2, 2, 5, DIM).float(), tokens(3, 5, DIM).float()

    assert torch.equal(SelfModalAttention(DIM, HEADS)(x, position), x)
    assert torch.equal(CrossModalAttention(DIM, HEADS)(x, context, position, position), x)


def test_masked_context_has_no_influence() -> None:
    module = opened(CrossModalAttention(DIM, HEADS))
    x, context, position, places = tokens(1, 2, 3, DIM), tokens(2, 2, 5, DIM), tokens(3, 3, DIM), tokens(4, 5, DIM)
    changed = torch.where(VALID[:, :, None], context, 1e3 * tokens(5, 2, 5, DIM))

    one, other = (module(x, c, position, places, VALID) for c in (context, changed))

    assert torch.equal(one, other)
    assert not torch.equal(module(x, context, position, places), module(x, changed, position, places))


def test_a_masked_token_of_smam_tells_the_others_nothing() -> None:
    module = opened(SelfModalAttention(DIM, HEADS))
    x, position = tokens(1, 2, 5, DIM), tokens(2, 5, DIM)
    changed = torch.where(VALID[:, :, None], x, tokens(3, 2, 5, DIM))

    one, other = module(x, position, VALID), module(changed, position, VALID)

    assert torch.equal(one[VALID], other[VALID])


def test_context_is_a_set_of_tokens_with_their_positions() -> None:
    module = opened(CrossModalAttention(DIM, HEADS))
    x, context, position, places = tokens(1, 2, 3, DIM), tokens(2, 2, 5, DIM), tokens(3, 3, DIM), tokens(4, 5, DIM)
    order = torch.tensor([3, 0, 4, 1, 2])

    straight = module(x, context, position, places, VALID)
    moved = module(x, context[:, order], position, places[order], VALID[:, order])
    left_their_places = module(x, context[:, order], position, places, VALID[:, order])

    torch.testing.assert_close(moved, straight)
    assert (left_their_places - straight).abs().max() > 1e-3


def test_smam_moves_with_its_tokens() -> None:
    module = opened(SelfModalAttention(DIM, HEADS))
    x, position = tokens(1, 2, 5, DIM), tokens(2, 5, DIM)
    order = torch.tensor([3, 0, 4, 1, 2])

    torch.testing.assert_close(module(x[:, order], position[order]), module(x, position)[:, order])
    assert (module(x[:, order], position) - module(x, position)[:, order]).abs().max() > 1e-3


def test_records_of_a_batch_do_not_meet() -> None:
    module = opened(CrossModalAttention(DIM, HEADS))
    x, context, position, places = tokens(1, 2, 3, DIM), tokens(2, 2, 5, DIM), tokens(3, 3, DIM), tokens(4, 5, DIM)

    alone = module(x[:1], context[:1], position, places, VALID[:1])

    torch.testing.assert_close(alone, module(x, context, position, places, VALID)[:1])


def test_dropout_is_off_in_evaluation() -> None:
    module = opened(SelfModalAttention(DIM, HEADS, dropout=0.5))
    x, position = tokens(1, 2, 5, DIM), tokens(2, 5, DIM)

    assert torch.equal(module(x, position), module(x, position))
    assert not torch.equal(module.train()(x, position), module(x, position))


@pytest.mark.parametrize("dim", [16, 17, 128])
def test_every_place_has_a_position_of_its_own(dim: int) -> None:
    sequence, grid = positions_1d(700, dim, CPU), positions_2d(24, 32, dim, CPU)

    assert sequence.shape == (700, dim)
    assert grid.shape == (24 * 32, dim)
    for position in (sequence, grid):
        distance = torch.cdist(position.double(), position.double()) + 10 * torch.eye(len(position))
        assert distance.min() > 0.05


def test_a_grid_is_told_row_by_row() -> None:
    rows, columns = positions_1d(3, 8, CPU), positions_1d(4, 8, CPU)

    grid = positions_2d(3, 4, 16, CPU)

    for row in range(3):
        for column in range(4):
            assert torch.equal(grid[row * 4 + column], torch.cat([rows[row], columns[column]]))


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"num_heads = 3 does not divide model.options.dim = 8"):
        SelfModalAttention(8, 3)
