"""What a request may ask for, the same over HTTP and gRPC."""

from dataclasses import dataclass

from .problems import Refused
from .settings import DEFAULT_MODEL

MAX_EXPLAINED = 8
TOP = "top"
"""In place of a label's key: the most probable one."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Raises Refused for what makes no sense."""

    model: str = DEFAULT_MODEL
    labels: tuple[str, ...] = ()
    """Keys of the labels to answer; none means all."""
    explain: tuple[str, ...] = ()
    """Keys of labels to explain, or `top`."""
    page: int = 1
    """Of a document, from 1."""
    rectify: bool = False
    """Undo rotation, skew and perspective of photos; takes 30 to 50 ms."""
    page_image: bool = False
    """Also give the page as the model saw it."""

    def __post_init__(self) -> None:
        if self.page < 1:
            raise Refused(400, "bad_option", f"Page {self.page} does not exist: pages are counted from 1.")
        if len(self.explain) > MAX_EXPLAINED:
            raise Refused(400, "bad_option", f"At most {MAX_EXPLAINED} labels are explained at once.")
