"""The application that verbs join, and the kinds of arguments that several of them take."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ... import __version__

app = App(name="vizecg", version=__version__, help="From archives of 12-lead ECGs to a model that reads printed ones.")

Set = Annotated[list[str] | None, Parameter(name="--set", negative=(), help="key=value over the file, repeatable.")]

From = Annotated[Path | None, Parameter(name="--from")]

Count = Annotated[int, Parameter(validator=Number(gte=1))]

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]

Listed = Annotated[bool | str, Parameter(negative=())]
"""An option that stands alone or takes a list with commas."""

Others = Annotated[list[Path] | None, Parameter(negative=())]
