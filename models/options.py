"""Checks of a model's options; each error is one sentence that names the nearest valid choice."""

import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any


def require(value: str, valid: Sequence[str], place: str) -> None:
    """Raises ValueError where `value` is none of the valid ones; `place` is the key that the user wrote."""
    if value not in valid:
        near = difflib.get_close_matches(value, valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(valid)}"
        raise ValueError(f"{place}: unknown value {value!r}; {hint}")


def require_fields(options: dict[str, Any], config: type) -> None:
    """Raises ValueError where an option is no field of the dataclass `config`, or of another kind than its default."""
    defaults = config()
    for key, value in options.items():
        require(key, [field.name for field in fields(config)], "model.options")
        _require_kind(key, value, getattr(defaults, key))


def require_range(config: Any, **limits: tuple[float, float | None]) -> None:
    """Raises ValueError where a field of `config` is below the first or above the second limit."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if value < low or (high is not None and value > high):
            text = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ValueError(f"model.options.{name} = {value}: expected {text}")


def _require_kind(key: str, value: Any, default: Any) -> None:
    """`value` is of the kind of `default`; a whole number passes for a float, true and false for no number."""
    fits = isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"model.options.{key} = {value!r}: expected {type(default).__name__}, such as {default!r}")
