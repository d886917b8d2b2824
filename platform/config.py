"""TrainConfig: everything that decides a training run, read from YAML, checked, and written into every result.

Input and output are arguments of the verbs, not configuration. A search adds what to vary (search.py).
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import UserError

if TYPE_CHECKING:
    from ..models.objectives import ObjectiveConfig

NUM_LANES = 8
"""Lanes of the epoch plan (data/batches.py): the global batch is a multiple of it."""


Stream = Literal["image", "signal", "fused"]
StreamAuroc = Literal["val_image_macro_auroc", "val_signal_macro_auroc", "val_fused_macro_auroc"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    page_width_px: int | None = Field(None, ge=64)
    """Width that the model sees; as stored in the shards where null."""
    page_height_px: int | None = Field(None, ge=64)
    window_rows: int = Field(1024, ge=1)
    """Rows shuffled together (data/batches.py): more is better mixed, and more memory."""
    decode_threads: int = Field(2, ge=1)
    page_shift_px: int = Field(0, ge=0)
    """Move every training page by up to so many pixels, differently in every epoch."""


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


class ScheduleConfig(Section):
    name: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from zero."""


class ScalingSection(Section):
    num_workers: int = Field(1, ge=1)
    use_gpu: bool = False
    threads_per_worker: int = Field(0, ge=0)
    """Torch threads of a CPU worker; 0 shares the machine's cores among its workers."""


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
    precision: Literal["fp32", "bf16"] = "fp32"
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Evaluate and keep a moving average of the weights; 0 keeps the last weights."""
    metric: StreamAuroc = "val_image_macro_auroc"
    """What picks the best epoch and ranks trials; higher is better."""
    scaling: ScalingSection = ScalingSection()
    seed: int = Field(0, ge=0)

    @field_validator("batch_size")
    @classmethod
    def _whole_lanes(cls, value: int) -> int:
        if value % NUM_LANES:
            raise ValueError(f"{value} is no multiple of the {NUM_LANES} lanes in which rows are shuffled")
        return value

    @model_validator(mode="after")
    def _even_shares(self) -> "TrainConfig":
        if self.batch_size % self.scaling.num_workers:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {self.scaling.num_workers} workers; "
                "choose a multiple"
            )
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


def read_yaml(path: Path | str) -> dict[str, Any]:
    """A YAML file that holds a mapping; UserError where it is missing or something else."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; configurations that come with VizECG are in tune_configs/") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    return values


def merge_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with every `a.b=value` put in place; a value is read as YAML, so 3, true and [1, 2] are just that."""
    merged = {key: merge_overrides(value, ()) if isinstance(value, dict) else value for key, value in values.items()}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: expected key=value, such as --set scaling.num_workers=2")
        *sections, last = key.strip().split(".")
        place = merged
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise UserError(f"--set {override}: {section} is a value, it holds no keys")
        place[last] = _parse_scalar(text, override)
    return merged


def _parse_scalar(text: str, override: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML; quote it, such as --set 'key=\"value\"'") from None
    if not isinstance(value, str):
        return value
    try:
        return float(value)  # YAML 1.1 takes 1e-3 for a word.
    except ValueError:
        return value


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first problem of a pydantic error as one sentence."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden" or "[key]" in problem["loc"]:
        near = difflib.get_close_matches(place, list(valid_keys(schema)), n=1, cutoff=0.4)
        return f"unknown key {place!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    return f"{place}{given}: {message}" if place else message


def valid_keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a configuration file may hold."""
    for name, field in schema.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from valid_keys(field.annotation, f"{prefix}{name}.")
        elif get_origin(field.annotation) is dict:
            yield from (f"{prefix}{name}.{key}" for key in get_args(get_args(field.annotation)[0]))
