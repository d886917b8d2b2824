"""Settings from YAML and `--set key=value`, and what is said of those that cannot be."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .errors import UserError


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
    return number_or_text(value)


def number_or_text(value: Any) -> Any:
    """A number where YAML gives a text that is one: YAML 1.1 takes 1e-3 for a word."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def key_values(texts: Sequence[str], option: str) -> dict[str, str]:
    """Every `key=value` of a repeatable option, as text; UserError where one is something else."""
    split = {text: text.partition("=") for text in texts}
    wrong = next((text for text, (key, _, value) in split.items() if not key or not value), None)
    if wrong is not None:
        raise UserError(f"{option} {wrong}: expected NAME=VALUE")
    return {key: value for key, _, value in split.values()}


def look_up(values: dict[str, Any], key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    place: Any = values
    for part in key.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


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
