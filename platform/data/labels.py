"""Label spaces: ordered labels, each with the codes that mean it, resolved when a shard is read.

A shard knows codes alone, so one dataset serves every label space. A label is present where the record has one of its
codes, absent where the source annotates one of its codes and the record has none, and unknown where the source does
not annotate it at all: a CPSC record without the code of sinus bradycardia may well show one. What a record without
any label says is for the label space to tell (`unlabelled`).

Shapes: K labels.
"""

import difflib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError

SYSTEMS = ("snomed", "scp")
_FOLDER = Path(__file__).parent / "label_spaces"


class Label(BaseModel):
    """One output of a classifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1)
    """Short and stable, such as `1dAVb`: the column name in scores."""
    name: str = Field(min_length=1)
    """For people, such as `First-degree AV block`."""
    codes: tuple[str, ...] = Field(min_length=1)
    """`system:code`, any of which means this label."""

    @model_validator(mode="after")
    def _known_systems(self) -> "Label":
        for code in self.codes:
            system, colon, value = code.partition(":")
            if system not in SYSTEMS or not colon or not value:
                raise ValueError(f"code {code!r} of label {self.key!r} is not one of {SYSTEMS}, a colon and a code")
        return self


class LabelSpace(BaseModel):
    """What a classifier tells apart, in the order of its outputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    source: str = ""
    """Where the list comes from."""
    unlabelled: Literal["absent", "unknown"] = "absent"
    """What a record without any of the labels says: that all are absent, or nothing, so that it is left out."""
    labels: tuple[Label, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct_keys(self) -> "LabelSpace":
        if len(set(self.keys)) < len(self.labels):
            raise ValueError(f"a key of label space {self.name!r} occurs twice")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(label.key for label in self.labels)

    def targets(self, codes: Iterable[str], code_set: Iterable[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What a record with `codes`, from a source that annotates `code_set`, teaches.

        Returns:
            target float32 (K,) of 0 and 1, and known bool (K,): false where the target means nothing.
        """
        target = self._mark(codes)
        if self.unlabelled == "unknown" and not target.any():
            return target.astype(np.float32), target
        return target.astype(np.float32), target | self._mark(code_set)

    def _mark(self, codes: Iterable[str]) -> NDArray[np.bool_]:
        marked = np.zeros(len(self.labels), dtype=np.bool_)
        for code in codes:
            marked[self._labels_of_code.get(code, [])] = True
        return marked

    @cached_property
    def _labels_of_code(self) -> dict[str, list[int]]:
        labels_of_code: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            for code in label.codes:
                labels_of_code.setdefault(code, []).append(index)
        return labels_of_code


def label_space_names() -> list[str]:
    """The label spaces that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_label_space(name_or_path: str | Path) -> LabelSpace:
    """A label space by its name, or a YAML file of one's own by its path (ending in .yaml or .yml).

    Raises:
        UserError: no such name or file (naming the nearest name), or a file that is not a label space.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = _shipped(str(name_or_path))
    try:
        return LabelSpace.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"label space {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} is not a label space: {place}: {first['msg']}") from error


def _shipped(name: str) -> Path:
    names = label_space_names()
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise UserError(f"no label space {name!r}; did you mean {nearest!r}? There are {', '.join(names)}")
    return _FOLDER / f"{name}.yaml"
