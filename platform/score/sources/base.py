"""What every kind of input offers, so that no later step knows where a page came from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from ...data.dataset_info import PageSettings
from ...data.read_page import PageSpec, Reading, ReadPage
from ...errors import PageError, RecordError, UserError
from ...settings import explain
from ...storage import told

Loaded = ReadPage | PageError | RecordError
"""A page as the model sees it, or why there is none."""
Pages = Callable[[PageSpec, Reading], Iterator[Loaded]]

PICTURE_BYTES = 200_000
"""Taken for a picture whose size is not known before it is read."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """How tables are read and signals are drawn. Raises UserError for a page that cannot be drawn."""

    column: str | None = None
    """Of a table, the one with paths or bytes."""
    id_column: str | None = None
    layout: str = "3x4+1"
    """Of pages drawn from signals, as the fields below."""
    grid: str = "pink"
    paper_speed_mm_per_s: float = 25.0
    gain_mm_per_mv: float = 10.0

    def __post_init__(self) -> None:
        self.page_settings(PageSpec())

    def page_settings(self, spec: PageSpec) -> PageSettings:
        """How a signal is drawn at the model's size."""
        try:
            return PageSettings(
                layout=self.layout, grid=self.grid, paper_speed_mm_per_s=self.paper_speed_mm_per_s,
                gain_mm_per_mv=self.gain_mm_per_mv, width_px=spec.width_px, height_px=spec.height_px,
            )  # fmt: skip
        except ValidationError as error:
            raise UserError(f"drawn pages: {explain(error, PageSettings)}") from None


@dataclass(frozen=True)
class Item:
    """A file, a record or a row of a table."""

    id: str
    source: str
    """Path or URI of the file it comes from."""
    pages: Pages
    """Reads and decodes, page by page, when it is asked; never raises for what is wrong with the item."""


class Reader(Protocol):
    """Opens items wherever it is; small, and pickles."""

    def open(self, items: Sequence[str]) -> Iterator[Item]:
        """One Item for every item, in their order."""


class Source(Protocol):
    """The input of a run. Read from start to end by the driver; items are opened by readers on the workers."""

    @property
    def kind(self) -> str:
        """`pictures`, `table`, `shards`, `signals` or `dicom`."""

    @property
    def num_items(self) -> int: ...

    @property
    def identity(self) -> str:
        """A digest of the listing: equal at every start while nothing in the input changes."""

    @property
    def reader(self) -> Reader: ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """Files there that are not taken, by suffix."""

    def items(self) -> Iterator[tuple[str, int]]:
        """(item, bytes that reading it takes), in the same order at every call; millions fit into little memory."""


@dataclass(frozen=True)
class ReadItem:
    """An item whose pages are given as they come: what is raised on the way is the last of them."""

    load: Pages

    def __call__(self, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
        try:
            yield from self.load(spec, reading)
        except (PageError, RecordError) as error:
            yield error
        except OSError as error:
            yield PageError("unreadable_file", f"cannot be read: {told(error)}")
        except UserError as error:
            yield PageError("unreadable_file", str(error))


@dataclass(frozen=True)
class Unreadable:
    """An item known to be unreadable before its pages are asked for."""

    error: PageError | RecordError

    def __call__(self, spec: PageSpec, reading: Reading) -> Iterator[Loaded]:
        yield self.error
