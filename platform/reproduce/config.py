"""What a table compares: a base configuration, named variants of it, seeds, and what the paper reports."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..config import TrainConfig, parse_config
from ..errors import UserError
from ..settings import explain, merge_overrides, read_yaml

Table = Literal["main", "ablation"]
Family = Literal["proposed", "signal", "image", "hybrid", "ablation"]


class Variant(BaseModel):
    """One row of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    family: Family
    set: dict[str, Any] = {}
    """Dotted key of the configuration -> value, over the base."""


class ReportedGain(BaseModel):
    """What the paper says that its network gains over a family, as percentages; null where it says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Family
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    source: str


class ReproduceConfig(BaseModel):
    """What a reproduce-*.yaml in tune_configs/ says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    base: dict[str, Any] = {}
    """Configuration of every run (config.py: TrainConfig)."""
    variants: dict[str, Variant] = Field(min_length=1)
    reference: str
    """The variant that the others are compared with."""
    gain: Literal["of_reference", "over_reference"] = "of_reference"
    """What a row shows as gain: reference minus this one, or this one minus the reference."""
    seeds: int = Field(3, ge=1)
    """Runs of every variant, whose seeds count up from the base's."""
    num_resamples: int = Field(1000, ge=100)
    """Of the bootstrap over patients."""
    reported: list[ReportedGain] = []
    notes: list[str] = []

    @model_validator(mode="after")
    def _has_its_reference(self) -> "ReproduceConfig":
        if self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is no variant; there are {', '.join(self.variants)}")
        return self

    def train_config(self, variant: str, seed_number: int = 0) -> TrainConfig:
        """The configuration of one run, `seed_number` from 0; UserError where a key does not exist."""
        overrides = [f"{key}={json.dumps(value)}" for key, value in self.variants[variant].set.items()]
        config = parse_config(merge_overrides(self.base, overrides), f"variant {variant}")
        return config.model_copy(update={"seed": config.seed + seed_number})

    def with_changes(self, seeds: int | None, overrides: Sequence[str]) -> "ReproduceConfig":
        """With another number of seeds, and `key=value` over the base."""
        base = merge_overrides(self.base, overrides)
        return self.model_copy(update={"base": base, "seeds": seeds or self.seeds})

    def reported_for(self, variant: str) -> ReportedGain | None:
        """What the paper reports for the family of a variant."""
        return next((gain for gain in self.reported if gain.family == self.variants[variant].family), None)


def load_reproduction(path: Path | str) -> ReproduceConfig:
    """A comparison from YAML; a wrong key or a variant that cannot be trained is a UserError here."""
    try:
        config = ReproduceConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, ReproduceConfig)}") from None
    for variant in config.variants:
        config.train_config(variant)
    return config


def shipped_reproduction(table: Table, smoke: bool) -> ReproduceConfig:
    """The comparison of that name in tune_configs/, or its small twin."""
    name = f"reproduce-{table}{'.smoke' if smoke else ''}.yaml"
    with resources.as_file(resources.files("vizecg.tune_configs") / name) as path:
        return load_reproduction(path)
