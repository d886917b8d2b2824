"""TrainConfig: everything that decides a training run, read from YAML, checked, and written into every result.

Input and output are arguments of the verbs, not configuration. A search adds what to vary (search/).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import UserError
from .settings import explain, merge_overrides, read_yaml

if TYPE_CHECKING:
    from ..models.objectives import ObjectiveConfig

NUM_LANES = 8
"""Lanes of the epoch plan (data/batches.py): the global batch is a multiple of it."""


Stream = Literal["image", "signal", "fused"]
Metric = Literal[
    "val_image_macro_auroc", "val_signal_macro_auroc", "val_fused_macro_auroc",
    "val_image_macro_auprc", "val_signal_macro_auprc", "val_fused_macro_auprc",
    "val_image_macro_f1", "val_signal_macro_f1", "val_fused_macro_f1",
]  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Layout = Literal["3x4", "3x4+1", "3x4+3", "6x2", "6x2+1", "12x1"]
"""Those of one page (data/printing/layout.py)."""
Condition = Literal["clean", "scan-colour", "scan-bw", "photo-clean", "photo-stained", "photo-crumpled", "screen-photo"]
"""What befalls a page (data/artefacts.py: PRESETS)."""


class DrawnSection(Section):
    """Pages of `page: drawn`."""

    layouts: tuple[Layout, ...] | None = Field(None, min_length=1)
    """Which ones; all where null."""
    conditions: dict[Condition, Annotated[float, Field(ge=0)]] = Field(default_factory=lambda: {"clean": 1.0})
    """How often each befalls a page, by weight."""
    artefact_strength: float = Field(1.0, ge=0)
    """Over the conditions' own: 0 leaves every page clean, 1 is what clinics have."""
    measurements: bool = False
    """Print rate, axis and intervals: computed ones on half of the pages, random ones on the others, because they tell
    what is to be learnt."""

    @field_validator("conditions")
    @classmethod
    def _some(cls, value: dict[str, float]) -> dict[str, float]:
        if not sum(value.values()) > 0:
            raise ValueError("expected at least one condition with a weight above 0")
        return value


class DataConfig(Section):
    page_width_px: int | None = Field(None, ge=64)
    """Width that the model sees; as stored in the shards where null."""
    page_height_px: int | None = Field(None, ge=64)
    window_rows: int = Field(1024, ge=1)
    """Rows shuffled together (data/batches.py): more is better mixed, and more memory."""
    decode_threads: int = Field(2, ge=1)
    page: Literal["stored", "drawn"] = "stored"
    """In training: pages as they are in the shards, or drawn anew from the signal in every epoch."""
    drawn: DrawnSection = Field(default_factory=DrawnSection)
    page_shift_px: int = Field(0, ge=0)
    """Move every training page by up to so many pixels, differently in every epoch."""
    balance: float = Field(0.0, ge=0, le=1)
    """How much more often records with rare labels are trained on: 0 takes every record once an epoch, 1 makes all
    labels equally frequent, as far as records with several labels allow."""


class ModelConfig(Section):
    name: str = "vizecgnet"
    size: str = "base"
    """`debug` trains on a CPU in seconds."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Over the size's own choices, such as `attention_depth: 2` (models/vizecgnet.py: VizEcgNetConfig)."""


class OptimizerConfig(Section):
    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    accumulate: int = Field(1, ge=1)
    """Every worker computes its share of a batch in so many parts: less memory, the same gradient."""


class ScheduleConfig(Section):
    name: Literal["cosine", "constant", "one_cycle", "plateau"] = "cosine"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from zero; 0.3 is usual for one_cycle."""
    plateau_patience: int = Field(5, ge=0)
    """Epochs without a better `metric` before a plateau schedule lowers the rate."""
    plateau_factor: float = Field(0.1, gt=0, lt=1)


class EarlyStoppingSection(Section):
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better `metric`; never where null."""
    min_delta: float = Field(0.0, ge=0)
    """What counts as better."""


class CheckpointSection(Section):
    every_s: float = Field(300.0, gt=0)
    """Seconds between checkpoints within an epoch; one is always made at its end."""
    every_steps: int | None = Field(None, ge=1)
    """Steps between them, in place of seconds."""
    keep_last: int = Field(2, ge=1)
    """Each also holds the best weights so far."""


class TrackingSection(Section):
    tensorboard: bool = True
    """Write OUT/tensorboard."""
    mlflow_uri: str | None = None
    """Also log to this MLflow (extra `track`): http://host:port or sqlite:///path."""
    mlflow_experiment: str = "vizecg"

    @field_validator("mlflow_uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        # The configuration is written into every result.
        if value and "@" in urlsplit(value).netloc:
            raise ValueError("leave name and password to MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return value


class ScalingSection(Section):
    num_workers: int | tuple[int, int] = 1
    """Workers, or [least, most]: the run then takes as many as the cluster has room for, and goes on with fewer."""
    use_gpu: bool = False
    threads_per_worker: int = Field(0, ge=0)
    """Torch threads of a CPU worker; 0 shares the machine's cores among its workers."""
    resize_every_s: float = Field(60.0, gt=0)
    """With [least, most]: how often to look for room for more workers."""
    max_failures: int = Field(16, ge=0)
    """Failures of workers before a run gives up; announced preemptions do not count."""

    @field_validator("num_workers")
    @classmethod
    def _a_range(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        least, most = (value, value) if isinstance(value, int) else value
        if not 1 <= least <= most:
            raise ValueError("expected at least one worker, or [least, most] with 1 <= least <= most")
        return value

    @property
    def min_workers(self) -> int:
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


class ObjectiveSection(Section):
    """The fields of models/objectives.py: ObjectiveConfig, checked."""

    lambda_cls: float = Field(1.0, ge=0)
    lambda_kd: float = Field(1.0, ge=0)
    head_weights: dict[Stream, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"image": 1.0, "signal": 1.0, "fused": 1.0}
    )
    classification: Literal["bce", "asymmetric"] = "bce"
    pos_weight: float = Field(1.0, gt=0)
    focusing_negative: float = Field(4.0, ge=0)
    student: Stream = "image"
    teacher: Stream = "fused"
    distance: Literal["bernoulli", "mse_probability", "mse_logit"] = "bernoulli"
    mutual: bool = False
    temperature: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _two_streams(self) -> "ObjectiveSection":
        if self.student == self.teacher:
            raise ValueError(f"student and teacher are both {self.student!r}; distillation needs two streams")
        return self

    def build(self) -> "ObjectiveConfig":
        # Imported late: processes that only read data and configuration do not need torch and its two seconds.
        from ..models.objectives import ObjectiveConfig

        return ObjectiveConfig(**self.model_dump())


class TrainConfig(Section):
    label_space: str | None = None
    """Name of a label space (data/label_spaces/) or path of one; the archive's own default where null."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveSection = ObjectiveSection()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=NUM_LANES)
    """Global: of all workers together."""
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    """Of forward and backward pass; weights stay fp32. fp64, for proofs, is double throughout."""
    channels_last: bool = True
    """Memory layout of pages and feature maps: faster on CPUs with AMX and on tensor cores, the same result."""
    compile: bool = False
    """torch.compile: pays in long runs; needs a C++ compiler on CPUs."""
    sync_batch_norm: bool = False
    """Batch norm over all workers' records; on GPUs alone."""
    freeze_batch_norm: bool = False
    """Batch norms keep their statistics: for fine-tuning, and for results that no number of workers changes."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Evaluate and keep a moving average of the weights; 0 keeps the last weights."""
    metric: Metric = "val_image_macro_auroc"
    """What picks the best epoch and ranks trials; higher is better."""
    threshold_recall: float | None = Field(None, gt=0, le=1)
    """Choose thresholds for this recall on the validation split; for the best F1 where null."""
    early_stopping: EarlyStoppingSection = EarlyStoppingSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
    scaling: ScalingSection = ScalingSection()
    seed: int = Field(0, ge=0)

    @field_validator("batch_size")
    @classmethod
    def _whole_lanes(cls, value: int) -> int:
        if value % NUM_LANES:
            raise ValueError(f"{value} is no multiple of the {NUM_LANES} lanes in which rows are shuffled")
        return value

    @model_validator(mode="after")
    def _work_for_all(self) -> "TrainConfig":
        if self.batch_size < self.scaling.max_workers:
            raise ValueError(
                f"batch_size {self.batch_size} has no record for some of {self.scaling.max_workers} workers"
            )
        if self.sync_batch_norm and not self.scaling.use_gpu:
            raise ValueError("sync_batch_norm works on GPUs alone; set scaling.use_gpu as well")
        return self


def load_config(path: Path | str | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a YAML file, with `key.sub=value` overrides on top.

    Raises:
        UserError: no such file, no YAML, an unknown key (named with the nearest valid one) or a bad value.
    """
    return parse_config(merge_overrides(read_yaml(path) if path else {}, overrides), str(path or "--set"))


def parse_config(values: dict[str, Any], place: str) -> TrainConfig:
    """Checked configuration from plain values; `place` names their origin in errors."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{place}: {explain(error, TrainConfig)}") from None
