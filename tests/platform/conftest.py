"""What tests of bundles, batches and predictions share: a small dataset of shards and a bundle of random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

MakeBundle = Callable[..., object]


@pytest.fixture(scope="session")
def small_dataset(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 practice records as shards of small pages, in several files and row groups of uneven length."""
    from vizecg.platform.data.dataset_info import PageSettings, ShardConfig
    from vizecg.platform.data.practice import write_practice_archive
    from vizecg.platform.data.shards import write_shards

    folder = tmp_path_factory.mktemp("small")
    write_practice_archive(folder / "archive", 64, seed=3, sampling_rate_hz=100)
    page = PageSettings(width_px=128, height_px=96)
    config = ShardConfig(sampling_rate_hz=50, page=page, rows_per_file=20, rows_per_row_group=7, val_fraction=0.2)
    write_shards(folder / "archive", folder / "shards", config)
    return folder / "shards"


@pytest.fixture(scope="session")
def make_bundle(one_thread: None) -> MakeBundle:
    """Writes a bundle of the debug model with random weights and open gates; returns its facts."""
    import torch

    from vizecg.models.registry import build_model
    from vizecg.platform.bundle import Bundle, save_bundle
    from vizecg.platform.config import ModelConfig, TrainConfig
    from vizecg.platform.data.labels import load_label_space
    from vizecg.platform.data.read_page import PageSpec

    def make(folder: Path, seed: int = 0) -> Bundle:
        labels = load_label_space("practice")
        torch.manual_seed(seed)
        model = build_model("vizecgnet", "debug", len(labels.labels))
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                torch.nn.init.normal_(parameter)
        draft = Bundle(
            model=ModelConfig(size="debug"),
            deployed_stream="image",
            label_space=labels,
            thresholds=[0.25 + 0.1 * index for index in range(len(labels.labels))],
            teacher_thresholds={"fused": [0.5] * len(labels.labels)},
            page=PageSpec(width_px=128, height_px=96),
            metrics={"val_image_macro_auroc": 0.875, "val_fused_macro_auroc": None},
            dataset_fingerprint="f" * 64,
            train_config=TrainConfig(model=ModelConfig(size="debug")),
        )
        return save_bundle(folder, draft, model.state_dict())

    return make
