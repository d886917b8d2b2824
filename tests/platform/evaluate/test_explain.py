"""Explanations point at what a model looks at: models whose answer is known by how they are made."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vizecg.models.attention import SelfModalAttention, positions_2d
from vizecg.models.registry import build_model
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.explain import (
    attention_map,
    attention_weights,
    explain_attention,
    explain_page,
    grad_cam,
    overlay,
)
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")


class Corners(nn.Module):
    """Label 0 is the ink in the top left quarter, label 1 that in the bottom right one, label 2 speaks against ink."""

    inputs = frozenset({"page"})

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(8)
        self.narrow = nn.AdaptiveAvgPool2d(1)

    def forward_deployed(self, page: Tensor) -> Tensor:
        ink = self.cells(255.0 - page)
        height, width = ink.shape[2] // 2, ink.shape[3] // 2
        first = self.narrow(ink[:, :, :height, :width]).mean((1, 2, 3))
        last = self.narrow(ink[:, :, height:, width:]).mean((1, 2, 3))
        return torch.stack([first, last, -first - last], 1)


class Weighted(nn.Module):
    """A feature map of two channels, one for the page's left half and one for its right half, and a linear head."""

    inputs = frozenset({"page"})

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Conv2d(3, 2, 8, stride=8, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.halves.weight.zero_()
            self.halves.weight[0, 0], self.halves.weight[1, 1] = 1.0, 1.0
            self.head.weight.copy_(torch.tensor([[2.0, 0.5], [-1.0, 3.0]]))
        self.requires_grad_(False)

    def forward_deployed(self, page: Tensor) -> Tensor:
        return self.head(self.act(self.halves(page.float())).mean((2, 3)))


def page_of(*spots: tuple[int, int, int]) -> np.ndarray:
    """A black page (3, 48, 64) with a bright square of 8 pixels in (channel, row, column)."""
    page = np.zeros((3, 48, 64), np.uint8)
    for channel, row, column in spots:
        page[channel, row : row + 8, column : column + 8] = 200
    return page


def test_grad_cam_weighs_channels_by_the_gradient() -> None:
    page = torch.from_numpy(page_of((0, 8, 8), (1, 32, 48)))
    model = Weighted().eval()

    first, second = grad_cam(model, page, 0), grad_cam(model, page, 1)

    assert first.shape == second.shape == (48, 64) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() == 1
    # Weights 2 and 0.5: the left spot is hottest, the right one a quarter of it.
    assert np.unravel_index(first.argmax(), first.shape) == pytest.approx((12, 12), abs=4)
    assert first[36, 52] == pytest.approx(0.25, abs=0.02)
    # Weight -1 is nothing that speaks for label 1.
    assert second[12, 12] == pytest.approx(0, abs=0.05)
    assert np.unravel_index(second.argmax(), second.shape) == pytest.approx((36, 52), abs=4)


def test_what_speaks_against_a_label_is_no_heat() -> None:
    page = torch.from_numpy(page_of((0, 8, 8)))
    assert not grad_cam(Corners().eval(), page, 2).any()


def test_maps_without_places_are_passed_over() -> None:
    # The pooled maps (1, C, 1, 1) of Corners come after the grid of cells, which has places.
    heat = grad_cam(Corners().eval(), 255 - torch.from_numpy(page_of((0, 0, 0), (1, 0, 0), (2, 0, 0))), 0)
    assert heat.max() == 1 and np.unravel_index(heat.argmax(), heat.shape) == pytest.approx((4, 4), abs=4)


def test_a_model_without_maps_says_so() -> None:
    class Flat(nn.Module):
        def forward_deployed(self, page: Tensor) -> Tensor:
            return page.flatten(1).float()[:, :2]

    with pytest.raises(ValueError, match="Flat has no feature map"):
        grad_cam(Flat(), torch.zeros(3, 48, 64, dtype=torch.uint8), 0)


def test_attention_weights_are_those_of_the_module() -> None:
    torch.manual_seed(0)
    module = SelfModalAttention(16, 4).eval()
    nn.init.normal_(module.gate)
    x, position = torch.randn(2, 12, 16), positions_2d(3, 4, 16, torch.device("cpu"))

    weights = attention_weights(module, x, position)

    value = module.value(module.norm_context(x)).unflatten(2, (4, -1)).transpose(1, 2)
    attended = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(x + module.gate * module.output(attended), module(x, position))
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 4, 12))


def test_vizecgnet_is_explained_on_its_page(bundle_folder) -> None:
    predictor = Predictor.load(bundle_folder)
    page = np.random.default_rng(0).integers(0, 256, (3, 192, 256), dtype=np.uint8)
    before = predictor.predict_pages(page[None])

    heats = [explain_page(predictor, page, label) for label in range(3)]
    attention = explain_attention(predictor, page)

    assert attention is not None and attention.shape == (192, 256) and 0 <= attention.min() < attention.max() == 1
    assert all(heat.shape == (192, 256) and 0 <= heat.min() <= heat.max() <= 1 for heat in heats)
    assert not np.array_equal(heats[0], heats[1])
    np.testing.assert_array_equal(predictor.predict_pages(page[None]), before)
    assert not any(module._forward_hooks for module in predictor.model.modules())


def test_a_model_without_smam_has_no_attention_map() -> None:
    model = build_model("vizecgnet", "debug", 2, {"use_smam": False}).eval()
    page = torch.zeros(3, 96, 128, dtype=torch.uint8)
    assert attention_map(model, page) is None
    assert grad_cam(model, page, 0).shape == (96, 128)


def test_other_threads_may_predict_meanwhile(bundle_folder) -> None:
    predictor = Predictor.load(bundle_folder)
    pages = np.random.default_rng(1).integers(0, 256, (4, 3, 96, 128), dtype=np.uint8)
    alone = [predictor.predict_pages(page[None]) for page in pages]
    expected, heats, meanwhile = explain_page(predictor, pages[0], 1), [], []
    stop = threading.Event()

    def predict() -> None:
        while not stop.is_set():
            meanwhile.extend(predictor.predict_pages(page[None]) for page in pages)

    thread = threading.Thread(target=predict, daemon=True)
    thread.start()
    try:
        while len(meanwhile) < 12 and thread.is_alive():
            heats.append(explain_page(predictor, pages[0], 1))
    finally:
        stop.set()
    thread.join()
    assert len(meanwhile) >= 12

    for heat in heats:
        np.testing.assert_allclose(heat, expected, atol=1e-5)
    for number, probability in enumerate(meanwhile):
        np.testing.assert_allclose(probability, alone[number % 4], atol=1e-6)


def test_models_that_need_signals_are_refused(predictor) -> None:
    class Signals(nn.Module):
        inputs = frozenset({"signal"})

    with pytest.raises(UserError, match="signals"):
        explain_page(Predictor(predictor.bundle, Signals()), np.zeros((3, 8, 8), np.uint8), 0)


def test_a_highlighter_tints_paper_and_leaves_ink_and_cold_places() -> None:
    page = np.full((2, 2, 3), 250, np.uint8)
    page[1, 1] = 0
    heat = np.array([[0.0, 1.0], [0.5, 1.0]], np.float32)

    drawn = overlay(page, heat, (0, 0, 255))

    assert drawn[0, 0].tolist() == [250, 250, 250] and drawn[1, 1].tolist() == [0, 0, 0]
    assert drawn[0, 1, 2] == 250 and drawn[0, 1, 0] < drawn[1, 0, 0] < 250
