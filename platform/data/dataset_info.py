"""What a dataset of shards is: its settings, its facts (`dataset.json`) and where its rows lie.

OUT/dataset.json                       written last: without it the dataset is unfinished
OUT/{train,val,test}/part-00000.parquet
"""

import posixpath
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError
from ..settings import explain
from ..storage import filesystem_of, join, write_whole
from .printing.style import usual_duration_s
from .splits import SPLITS

if TYPE_CHECKING:
    from .page import PageStyle

SCHEMA_VERSION = 1
INFO_FILE = "dataset.json"


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageSettings(_Checked):
    """How pages are printed (page.py: PageStyle)."""

    layout: str = "3x4+1"
    """Of one page, because a record has one."""
    width_px: int = Field(512, ge=64, le=20_000)
    height_px: int = Field(384, ge=64, le=20_000)
    paper_speed_mm_per_s: float = Field(25.0, gt=0)
    gain_mm_per_mv: float = 10.0
    chest_gain_mm_per_mv: float | None = None
    timing: Literal["sequential", "simultaneous"] = "sequential"
    grid: str = "pink"
    """Its colour (page.py: GRID_COLOURS)."""
    pulse: Literal["left", "right", "none"] = "left"
    varied: bool = False
    """Print every record in another way, as devices do: of these settings only the size is kept then."""

    @model_validator(mode="after")
    def _printable(self) -> "PageSettings":
        from .page import GRID_COLOURS
        from .printing.styles import ONE_PAGE_LAYOUTS

        choices = {"layout": ONE_PAGE_LAYOUTS}
        if not self.varied:
            choices["grid"] = tuple(GRID_COLOURS)
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"page {name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        self.style("")
        return self

    def style(self, record_id: str) -> "PageStyle":
        """The style of a record's page."""
        from .page import GRID_COLOURS, PageStyle
        from .printing.styles import page_style

        if self.varied:
            return page_style(np.random.default_rng(zlib.crc32(record_id.encode())), self.width_px, self.height_px)
        fields = self.model_dump(exclude={"grid", "varied"})
        duration_s = usual_duration_s(self.paper_speed_mm_per_s)
        width_mm = 285.0 if self.pulse == "right" else PageStyle.paper_width_mm
        return PageStyle(**fields, **GRID_COLOURS[self.grid], duration_s=duration_s, paper_width_mm=width_mm)


class ShardConfig(_Checked):
    """Everything that decides what `write_shards` writes, apart from the archive."""

    sampling_rate_hz: float = Field(default=100.0, gt=0)
    duration_s: float = Field(default=10.0, gt=0)
    page: PageSettings = PageSettings()
    rows_per_file: int = Field(default=256, ge=1)
    """Also the share of one task: small enough that a small archive keeps several processes busy."""
    rows_per_row_group: int = Field(default=32, ge=1)
    """What training reads and shuffles at a time."""
    val_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Of patients, where the archive has no folds of its own."""
    test_fraction: float = Field(default=0.15, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    max_records: int | None = Field(default=None, ge=1)
    """Take so many at random, for a trial run."""
    allow_missing_leads: bool = False
    """Keep records that lack leads, marked absent, instead of rejecting them."""

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "ShardConfig":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction and test_fraction leave nothing to train on")
        if self.num_samples < 1:
            raise ValueError("duration_s is shorter than one sample")
        return self

    @property
    def num_samples(self) -> int:
        """T"""
        return round(self.duration_s * self.sampling_rate_hz)


def shard_config(**values: Any) -> ShardConfig:
    """A checked configuration from plain values; UserError where one is wrong."""
    try:
        return ShardConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"shards: {explain(error, ShardConfig)}") from None


class Rejection(_Checked):
    """A record that is not in the dataset, and why."""

    record_id: str
    reason: str
    message: str


class DatasetInfo(_Checked):
    """`dataset.json`. Holds no patient ids."""

    schema_version: int = SCHEMA_VERSION
    sources: list[str]
    fingerprint: str
    """Of the archives: changes with their records and labels."""
    config: ShardConfig
    sampling_rate_hz: float
    num_samples: int
    """T"""
    page: PageSettings
    default_label_space: str
    code_sets: dict[str, list[str]]
    """By source, the codes that it annotates at all."""
    counts: dict[str, int]
    """Records by split."""
    code_counts: dict[str, dict[str, int]]
    """Records by split and code."""
    quality_counts: dict[str, int]
    """Records by quality flag."""
    rejected_counts: dict[str, int]
    """Records by reason; with `counts` they add up to the archives' records."""
    rejected: list[Rejection]

    @property
    def num_records(self) -> int:
        return sum(self.counts.values())


def save_dataset_info(location: str | Path, info: DatasetInfo) -> None:
    filesystem, path = filesystem_of(location)
    write_whole(filesystem, posixpath.join(path, INFO_FILE), info.model_dump_json(indent=1).encode())


def load_dataset_info(location: str | Path) -> DatasetInfo:
    """The facts of a finished dataset.

    Raises:
        UserError: no dataset there, an unfinished one, or one that another version wrote.
    """
    filesystem, path = filesystem_of(location)
    try:
        with filesystem.open_input_file(posixpath.join(path, INFO_FILE)) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise UserError(f"no finished dataset in {location} (no {INFO_FILE}); write one with `vizecg shard`") from error
    try:
        return DatasetInfo.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{location}/{INFO_FILE} is not of this version ({place}: {problem['msg']}); write the dataset again"
        ) from error


def shard_files(location: str | Path, split: str) -> list[str]:
    """The Parquet files of one split in order: local paths, or URIs where `location` is one."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    filesystem, path = filesystem_of(location)
    folder = pafs.FileSelector(posixpath.join(path, split), allow_not_found=True)
    names = sorted(file.base_name for file in filesystem.get_file_info(folder) if file.extension == "parquet")
    return [join(location, split, name) for name in names]


def read_row_index(location: str | Path, split: str) -> list[tuple[str, int, int]]:
    """(file, row group, rows) of every row group of a split, in order, from the files' footers.

    Raises:
        UserError: no finished dataset, or one that has lost rows since.
    """
    counts = load_dataset_info(location).counts
    files, expected = shard_files(location, split), counts.get(split, 0)
    with ThreadPoolExecutor(8) as pool:
        index = [row_group for groups in pool.map(_row_groups, files) for row_group in groups]
    found = sum(num_rows for _, _, num_rows in index)
    if found != expected:
        raise UserError(f"{location} has {found} {split} records and {INFO_FILE} says {expected}; write it again")
    return index


def _row_groups(file: str) -> list[tuple[str, int, int]]:
    filesystem, path = filesystem_of(file)
    footer = pq.read_metadata(path, filesystem=filesystem)
    return [(file, group, footer.row_group(group).num_rows) for group in range(footer.num_row_groups)]


def differing_settings(found: BaseModel, wanted: BaseModel) -> Iterator[str]:
    """`key: found -> wanted` for every setting that differs."""
    values: dict[str, Any] = found.model_dump()
    for key, value in wanted.model_dump().items():
        if values[key] != value:
            yield f"{key}: {values[key]} -> {value}"
