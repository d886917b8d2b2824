"""What a file in tune_configs/ says of a search, and every mistake in it told before anything starts."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..config import TrainConfig, parse_config
from ..errors import UserError
from ..settings import explain, look_up, merge_overrides, read_yaml, valid_keys
from .space import Parameter, Point

EXTENSIBLE = {"num_trials", "max_concurrent", "budget_device_hours", "confirm", "max_failures", "share_shards"}
"""What may change when a search goes on: neither trials nor their order depend on it."""
KEEPS_MODEL = {
    "optimizer.learning_rate", "optimizer.weight_decay", "optimizer.clip_norm",
    "data.page", "data.page_shift_px", "data.balance",
}  # fmt: skip
"""What population based training may change, beside the objective, of a run that goes on with another one's weights."""
FIXED = {
    "metric": "trials are ranked by it",
    "label_space": "trials are compared on the same labels",
}
"""What cannot vary, and why."""


class Confirm(BaseModel):
    """Train the best trials again, whole, with other seeds; the best mean is the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int = Field(5, ge=1)
    seeds: int = Field(3, ge=1)


class SearchConfig(BaseModel):
    """A search: what every trial starts from, what varies, and how the next trial is chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    base: dict[str, Any] = {}
    """Configuration of every trial (config.py: TrainConfig)."""
    space: dict[str, Parameter]
    """What varies: dotted key of the configuration -> values."""
    num_trials: int | None = Field(None, ge=1)
    """Trials in all; a grid takes all of its points where null, other searchers 8."""
    scheduler: Literal["asha", "hyperband", "pbt", "fifo"] = "asha"
    """Which trials end early; fifo lets all run to their end."""
    grace_epochs: int = Field(1, ge=1)
    """ASHA stops no trial earlier."""
    reduction_factor: int = Field(2, ge=2)
    """ASHA and HyperBand let one of so many trials go on at every rung."""
    perturb_epochs: int = Field(1, ge=1)
    """PBT: epochs between two exchanges of weights."""
    searcher: Literal["optuna", "random", "grid"] = "optuna"
    minimize_latency: bool = False
    """Search for high metric and low latency of the image path together; the result is a Pareto front."""
    budget_device_hours: float | None = Field(None, gt=0)
    """Start nothing more, and stop what runs, after so many hours of workers (GPUs where trials use them)."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at once; as many as the cluster holds where null. Say it where an autoscaler adds nodes. HyperBand and PBT
    take what the cluster holds."""
    gpus_per_trial: float = Field(1.0, gt=0)
    """With scaling.use_gpu and one worker: 0.5 runs two trials on a GPU; above 1 a whole number."""
    max_failures: int = Field(1, ge=0)
    """How often a trial that fails is started again, from its last checkpoint."""
    share_shards: bool = True
    """Keep the shards in the memory of every node, where they fit, in place of reading them for every trial."""
    confirm: Confirm | None = None
    seed: int = Field(0, ge=0)

    @field_validator("space")
    @classmethod
    def _something(cls, space: dict[str, Parameter]) -> dict[str, Parameter]:
        if not space:
            raise ValueError("it is empty; name at least one key that varies, with its values")
        return space

    @model_validator(mode="after")
    def _varied_once(self) -> "SearchConfig":
        ratios = [parameter.to for parameter in self.space.values() if parameter.to]
        keys = [*self.space, *ratios]
        for key in keys:
            if reason := FIXED.get(key):
                raise ValueError(f"space: {key} cannot vary: {reason}")
            if keys.count(key) > 1:
                raise ValueError(f"space: {key} is set by two dimensions; a ratio sets both of its keys")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> "SearchConfig":
        ranges = [key for key, parameter in self.space.items() if parameter.values is None]
        if self.searcher == "grid" and ranges:
            raise ValueError(f"searcher grid: {ranges[0]} is a range; give its values as `choice`")
        if self.minimize_latency and self.scheduler == "pbt":
            raise ValueError("minimize_latency: pbt does not vary the model; take scheduler asha or fifo")
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(f"gpus_per_trial = {self.gpus_per_trial:g}: above 1 Ray gives whole GPUs alone")
        if self.starts_whole and self.max_concurrent:
            raise ValueError(
                f"max_concurrent: with scheduler {self.scheduler} trials take turns, as many at once as the cluster "
                "holds; leave it out"
            )
        if self.scheduler == "pbt":
            for key in self.space:
                if not (key in KEEPS_MODEL or key.startswith("objective.")):
                    raise ValueError(f"scheduler pbt: {key} cannot change while a run goes on; take asha or fifo")
        return self

    @property
    def starts_whole(self) -> bool:
        """All trials begin together and take turns, as many at once as the cluster holds: so the searcher has nothing
        to learn from, and draws at random."""
        return self.scheduler in ("hyperband", "pbt")

    @property
    def trials_wanted(self) -> int:
        if self.searcher == "grid":
            return min(self.num_trials or len_of_grid(self.space), len_of_grid(self.space))
        return self.num_trials or 8

    def first_point(self) -> Point:
        """Any one point of the space."""
        return {key: parameter.candidates()[0] for key, parameter in self.space.items()}

    def trial_config(self, point: Point, seed: int | None = None) -> TrainConfig:
        """The configuration of a trial; UserError where a key does not exist or does not take the value."""
        settings: dict[str, Any] = {}
        for key, value in point.items():
            settings |= self.space[key].settings(key, value, self._base_values(key))
        if seed is not None:
            settings["seed"] = seed
        overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        return parse_config(merge_overrides(self.base, overrides), f"trial {settings}")

    def _base_values(self, key: str) -> dict[str, float]:
        """Of both sides of a ratio."""
        other = self.space[key].to
        if other is None:
            return {}
        base = parse_config(self.base, "base").model_dump()
        values = {name: _number_at(base, name) for name in (key, other)}
        if sum(values.values()) <= 0:
            raise UserError(f"space: {key}: log_ratio keeps the sum with {other}, and that is 0 in `base`")
        return values

    def trial_configs(self) -> list[TrainConfig]:
        """One for every value of every dimension, the others at their first."""
        first = self.first_point()
        return [self.trial_config({**first, key: value}) for key, p in self.space.items() for value in p.candidates()]


def _number_at(values: dict[str, Any], key: str) -> float:
    place = look_up(values, key)
    if isinstance(place, bool) or not isinstance(place, int | float):
        near = difflib.get_close_matches(key, valid_keys(TrainConfig), n=1)
        hint = f"; did you mean {near[0]!r}?" if near and near[0] != key else ""
        raise UserError(f"space: log_ratio needs a number in the configuration, and {key!r} is none there{hint}")
    return float(place)


def len_of_grid(space: dict[str, Parameter]) -> int:
    count = 1
    for parameter in space.values():
        count *= len(parameter.candidates())
    return count


def load_search(path: Path | str, overrides: Sequence[str] = ()) -> SearchConfig:
    """A search from YAML, with `key=value` overrides on top.

    Raises:
        UserError: a wrong key, a space without values, or a value that no trial takes.
    """
    try:
        search = SearchConfig.model_validate(merge_overrides(read_yaml(path), overrides))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, SearchConfig)}") from None
    parse_config(search.base, f"{path}: base")
    try:
        configs = search.trial_configs()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    epochs = min(config.epochs for config in configs)
    if search.scheduler == "asha" and search.grace_epochs > epochs:
        raise UserError(f"{path}: grace_epochs = {search.grace_epochs}: trials have {epochs} epochs")
    if search.scheduler == "pbt" and search.perturb_epochs >= epochs:
        raise UserError(
            f"{path}: perturb_epochs = {search.perturb_epochs}: trials have {epochs} epochs, so none takes over another"
        )
    if search.starts_whole and any(config.scaling.max_workers > 1 for config in configs):
        raise UserError(f"{path}: scheduler {search.scheduler}: trials need scaling.num_workers 1; take asha or fifo")
    return search
