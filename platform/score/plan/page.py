"""plan.json and plan.html: a plan as files, for programs and for people."""

import json
from functools import lru_cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ...storage import filesystem_of, write_whole
from .chart import cost_chart, time_chart
from .facts import Plan
from .text import assumptions, cells, decisions, facts, headings


def write_plan(plan: Plan, out: str) -> None:
    """Both files into `out`, a local folder or a URI, which is made where it is missing."""
    filesystem, root = filesystem_of(out)
    write_whole(filesystem, f"{root.rstrip('/')}/plan.json", (json.dumps(plan.to_dict(), indent=2) + "\n").encode())
    write_whole(filesystem, f"{root.rstrip('/')}/plan.html", render_plan(plan).encode())


def render_plan(plan: Plan) -> str:
    """The page, which loads nothing else."""
    return _template().render(
        plan=plan,
        decisions=decisions(plan),
        facts=facts(plan),
        headings=headings(plan),
        rows=[(cells(option), option is plan.cheapest, option is plan.fastest) for option in plan.options],
        assumptions=list(assumptions(plan)),
        time_chart=Markup(time_chart(plan)),
        cost_chart=Markup(cost_chart(plan)),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(resources.files(__package__ or "").joinpath("plan.html.j2").read_text())
