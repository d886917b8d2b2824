"""Encoders give tokens in the order of their positions, and know which of them saw a recorded sample."""

import math

import pytest
import torch

from vizecg.models.attention import positions_1d, positions_2d
from vizecg.models.encoders import PageEncoder, signal_encoder

CPU = torch.device("cpu")
NARROW = {"channels": (16, 32, 64, 128)}
PAGE = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_page_tokens_stand_where_their_positions_say() -> None:
    encoder = PageEncoder("resnet18", 128, {**NARROW, "layers": (1, 1, 1, 1)}).eval()
    feature_maps = []
    encoder.backbone.register_forward_hook(lambda module, inputs, output: feature_maps.append(output))

    tokens, position = encoder(PAGE)

    (features,) = feature_maps
    assert features.shape == (2, 128, 2, 3)
    assert torch.equal(position, positions_2d(2, 3, 128, CPU))
    for row in range(2):
        for column in range(3):
            assert torch.equal(tokens[:, row * 3 + column], features[:, :, row, column])


@pytest.mark.parametrize(
    ("name", "options", "num_tokens", "projected"),
    [
        ("resnet18", {**NARROW, "layers": (1, 1, 1, 1)}, 6, True),
        ("mobilenetv3_small_050", {}, 6, True),
        # One class token in front, which is no place on the page.
        ("vit_tiny_patch16_224", {"img_size": (64, 96), "depth": 1, "embed_dim": 64, "num_heads": 2}, 24, False),
    ],
)
def test_any_backbone_ends_at_the_wanted_width(name: str, options: dict, num_tokens: int, projected: bool) -> None:
    encoder = PageEncoder(name, 64, options).eval()

    with torch.inference_mode():
        tokens, position = encoder(PAGE)

    assert tokens.shape == (2, num_tokens, 64)
    assert position.shape == (num_tokens, 64)
    assert isinstance(encoder.project, torch.nn.Linear) == projected


def test_a_page_is_seen_as_ink() -> None:
    encoder = PageEncoder("resnet18", 128, {**NARROW, "layers": (1, 1, 1, 1)}).eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    encoder(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8))
    encoder(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))

    assert seen[0].abs().max() == 0
    assert seen[1].unique().tolist() == [255 / 64]


def test_a_token_is_valid_where_its_samples_begin_within_the_recording() -> None:
    encoder = signal_encoder("resnet1d10", 128, NARROW).eval()
    recorded = torch.tensor([0, 1, 32, 33, 250, 499, 500])

    tokens, position, valid = encoder(torch.randn(7, 12, 500), recorded)

    assert encoder.samples_per_token == 32
    assert tokens.shape == (7, 16, 128)
    assert torch.equal(position, positions_1d(16, 128, CPU))
    assert valid.sum(1).tolist() == [max(1, math.ceil(int(n) / 32)) for n in recorded]
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in valid)


def test_a_signal_moved_by_one_token_moves_the_tokens_by_one() -> None:
    encoder = signal_encoder("resnet1d10", 128, NARROW).eval()
    signal = torch.randn(1, 12, 3200 + 32, generator=torch.Generator().manual_seed(1))
    length = torch.tensor([3200])

    with torch.inference_mode():
        before, later = (encoder(part, length)[0] for part in (signal[:, :, :3200], signal[:, :, 32:]))

    assert torch.allclose(before[:, 31:70], later[:, 30:69], atol=1e-4)
    assert not torch.allclose(before[:, 30:69], later[:, 30:69], atol=1e-2)


@pytest.mark.parametrize(("name", "blocks"), [("resnet1d10", 4), ("resnet1d18", 8), ("resnet1d34", 16)])
def test_signal_encoders_by_name(name: str, blocks: int) -> None:
    assert len(signal_encoder(name, 64, NARROW).blocks) == blocks


def test_a_wrong_name_or_option_is_a_value_error() -> None:
    for make, words in [
        (lambda: PageEncoder("resnet81", 64), "'resnet81' (model.options.page_encoder); nearest: resnet18"),
        (lambda: PageEncoder("resnet18", 64, {"chanels": 3}), "page_encoder_options do not fit resnet18: .*'chanels'"),
        (lambda: signal_encoder("resnet1d81", 64), "'resnet1d81'.* did you mean 'resnet1d18'"),
        (lambda: signal_encoder("resnet1d10", 64, {"chanels": 3}), "signal_encoder_options do not fit .*'chanels'"),
        (lambda: signal_encoder("resnet1d10", 64, {"channels": (16, 32)}), "signal_encoder_options do not fit"),
    ]:
        with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
            make()
