"""What a search varies: the dimensions of its space, and how a point of it becomes settings of a configuration."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..settings import number_or_text

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Point = dict[str, Any]
"""A value for every dimension, by dotted key of the configuration."""
RANGES = ("uniform", "log_uniform", "integers", "log_ratio")
MAX_COUNTED = 100
"""Whole numbers that are still tried one by one before a search starts."""


class Parameter(BaseModel):
    """One dimension: exactly one of the ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    choice: list[str | int | float | bool | None] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    integers: tuple[int, int] | None = None
    """Whole numbers, both ends included."""
    log_ratio: tuple[float, float] | None = None
    """Of this key's value to that of the key in `to`, drawn as log_uniform is; the sum of both stays as in `base`.

    Adam ignores the common scale of the loss weights, so lambda_kd and lambda_cls are one dimension and not two.
    """
    to: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_as_one(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        known = "choice, uniform, log_uniform, integers and log_ratio"
        if not isinstance(given, dict):
            raise ValueError(f"expected one of {known}, such as {{choice: [1, 2]}}")
        for key, value in given.items():
            if key not in cls.model_fields:
                raise ValueError(f"{key!r} is none of {known}")
            if key in RANGES and value is not None and not (isinstance(value, (list, tuple)) and len(value) == 2):
                raise ValueError(f"{key}: {value!r} is no range; give both ends, such as [1, 2]")
        return given

    @field_validator("choice", mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        if not isinstance(values, list):
            return values
        for value in values:
            if not isinstance(value, str | int | float | bool | None):
                raise ValueError(f"{value!r} is no text, number, true, false or null")
        values = [number_or_text(value) for value in values]
        if any(value in values[:index] for index, value in enumerate(values)):  # Optuna takes 1 and true for one value.
            raise ValueError("a value stands there twice")
        return values

    @model_validator(mode="after")
    def _one_of_them(self) -> "Parameter":
        if sum(getattr(self, name) is not None for name in ("choice", *RANGES)) != 1:
            raise ValueError("give exactly one of choice, uniform, log_uniform, integers and log_ratio")
        if (self.log_ratio is None) != (self.to is None):
            raise ValueError("log_ratio and to (the key that it is a ratio to) belong together")
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"{list(self.range)} is no range")
        if self.is_log and self.range and self.range[0] <= 0:
            raise ValueError(f"{list(self.range)} is no range: a logarithmic one starts above 0")
        return self

    @property
    def range(self) -> tuple[float, float] | None:
        """Both ends; None for a choice."""
        return self.uniform or self.log_uniform or self.integers or self.log_ratio

    @property
    def is_log(self) -> bool:
        return bool(self.log_uniform or self.log_ratio)

    @property
    def values(self) -> list[Any] | None:
        """All values, where there are few enough to go through."""
        if self.choice is not None:
            return list(self.choice)
        if self.integers is None or self.integers[1] - self.integers[0] >= MAX_COUNTED:
            return None
        return list(range(self.integers[0], self.integers[1] + 1))

    def candidates(self) -> list[Any]:
        """All values, or both ends of a range."""
        return self.values or list(self.range or ())

    def distribution(self) -> "BaseDistribution":
        """As Optuna draws from it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choice is not None:
            return CategoricalDistribution(self.choice)
        if self.integers:
            return IntDistribution(*self.integers)
        return FloatDistribution(*(self.range or (0, 1)), log=self.is_log)

    def settings(self, key: str, value: Any, base: dict[str, float]) -> dict[str, Any]:
        """What a value means for the configuration: dotted key -> setting.

        Args:
            base: the values of `key` and `to` in the base configuration, where this is a ratio.
        """
        if self.to is None:
            return {key: value}
        total = base[key] + base[self.to]
        return {key: total * value / (1 + value), self.to: total / (1 + value)}


def named(key: str, parameter: Parameter) -> str:
    """The dimension as people read it."""
    short = key.removeprefix("objective.").removeprefix("model.options.").removeprefix("optimizer.")
    return f"{short} / {parameter.to.rpartition('.')[2]}" if parameter.to else short
