"""VizECG: from archives of 12-lead ECGs to a model that reads printed ones."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .platform.predictor import Predictor

__version__ = "0.1.0"


def load(bundle: Path | str) -> "Predictor":
    """The model in a bundle's folder: `vizecg.load("run/bundle").predict("page.png")`. Needs no Ray.

    Raises:
        UserError: no bundle there, or a damaged one.
    """
    # Late: whoever imports the package for its version need not wait for torch.
    from .platform.predictor import Predictor

    return Predictor.load(bundle)
