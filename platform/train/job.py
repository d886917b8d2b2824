"""What a training run is, looked up once by the driver and sent to every worker."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import TrainConfig
from ..data.labels import LabelSpace
from ..data.order import RowGroup
from ..data.read_page import PageSpec
from .mlflow_log import MlflowSettings


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that decides a run: no worker looks anything up on its own."""

    config: TrainConfig
    label_space: LabelSpace
    page: PageSpec
    train: list[RowGroup]
    val: list[RowGroup]
    num_samples: int
    """Of every signal."""
    identity: str
    """Fingerprint of configuration and data; a checkpoint of another one is refused."""
    shards: str
    dataset_fingerprint: str
    sampling_rate_hz: float
    sampling_weights: NDArray[np.float64] | None = None
    """(N,) how often each training record should come, where classes are balanced."""
    init_from: str | None = None
    """Bundle whose weights the run starts from."""
    mlflow: MlflowSettings | None = None
    """Where else to log."""

    @property
    def num_train(self) -> int:
        return sum(group.num_rows for group in self.train)

    @property
    def num_val(self) -> int:
        return sum(group.num_rows for group in self.val)
