"""The network as a worker trains it: built from its seed or from a bundle, in its precision, layout and norm mode."""

from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...models.registry import build_model
from ..bundle import WEIGHTS
from .job import TrainJob
from .worker import Worker


def prepared_model(job: TrainJob, worker: Worker) -> nn.Module:
    """The job's model with its first weights, on the worker's device, wrapped for its gradients to be shared."""
    config = job.config
    torch.manual_seed(config.seed)
    model = build_model(config.model.name, config.model.size, len(job.label_space.labels), config.model.options)
    if job.init_from:
        load_matching_weights(model, Path(job.init_from))
    if config.precision == "fp64":
        model = model.double()
    if config.channels_last:
        model = cast(nn.Module, model.to(memory_format=torch.channels_last))
    if config.compile:
        model.compile()
    return worker.prepare(model, config.sync_batch_norm)


def load_matching_weights(model: nn.Module, bundle: Path) -> list[str]:
    """Start from a bundle's weights; names of those that stay random, which are the heads of another label space."""
    weights = safetensors.torch.load_file(bundle / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fitting = {name: tensor for name, tensor in weights.items() if shapes.get(name) == tensor.shape}
    return model.load_state_dict(fitting, strict=False).missing_keys


def moving_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights; none where the decay is zero."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def train_mode(model: nn.Module, freeze_batch_norm: bool) -> None:
    """Ready to train; frozen batch norms keep their statistics until the next call."""
    model.train()
    if freeze_batch_norm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
