"""The rules of the house that no compiler keeps: what imports what, what is shipped, what the README says is here."""

import ast
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import vizecg
from vizecg.platform.cli import app
from vizecg.platform.config import load_config
from vizecg.platform.reproduce.config import load_reproduction
from vizecg.platform.search.config import load_search

ROOT = Path(vizecg.__file__).parent
SHIPPED = ("models", "platform", "serve", "tune_configs", "cluster")
CODE = (".py", ".js", ".css", ".html", ".j2")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

MAY_IMPORT: dict[str, set[str]] = {
    "models": set(),
    "platform.errors": set(),
    "platform.files": {"platform.errors"},
    "platform.history": set(),
    "platform.ray_session": {"platform.errors"},
    "platform.settings": {"platform.errors"},
    "platform.listing": set(),
    "platform.storage": {"platform.listing", "platform.files", "platform.errors"},
    "platform.config": {"platform.settings", "platform.errors", "models"},
    "platform.data": {
        "platform.config", "platform.settings", "platform.storage", "platform.errors", "platform.files",
        "platform.ray_session", "models",
    },
    "platform.calibration": set(),
    "platform.reference": set(),
    "platform.page_look": {"platform.data"},
    "platform.bundle_facts": {
        "platform.calibration", "platform.reference", "platform.page_look", "platform.config", "platform.settings",
        "platform.data", "platform.errors",
    },
    "platform.model_card": {"platform.bundle_facts"},
    "platform.bundle": {"platform.bundle_facts", "platform.model_card", "platform.errors", "models"},
    "platform.backends": {
        "platform.bundle", "platform.bundle_facts", "platform.calibration", "platform.data", "platform.errors",
    },
    "platform.predictor": {
        "platform.backends", "platform.bundle", "platform.bundle_facts", "platform.calibration", "platform.data",
        "models",
    },
    "": {"platform.predictor"},
    "platform.evaluate": {
        "models", "platform.predictor", "platform.bundle", "platform.bundle_facts", "platform.model_card",
        "platform.calibration", "platform.reference", "platform.data", "platform.storage", "platform.errors",
        "platform.files", "platform.history", "platform.ray_session",
    },
    "platform.drift": set(),
    "platform.bundle_source": {
        "platform.backends", "platform.bundle_facts", "platform.errors", "platform.storage",
    },
    "serve": {
        "platform.predictor", "platform.backends", "platform.bundle", "platform.bundle_facts",
        "platform.bundle_source", "platform.data", "platform.drift", "platform.errors", "platform.evaluate",
        "platform.files", "platform.page_look", "platform.ray_session", "platform.reference",
    },
    "platform.score": {
        "platform.drift",
        "models", "platform.backends", "platform.evaluate", "platform.reference", "platform.bundle_facts",
        "platform.predictor", "platform.bundle", "platform.data", "platform.settings", "platform.listing",
        "platform.storage", "platform.errors", "platform.files", "platform.ray_session",
    },
    "platform.train": {
        "platform.evaluate", "platform.predictor", "platform.bundle", "platform.calibration", "platform.reference",
        "platform.data", "platform.config", "platform.errors", "platform.files", "platform.history",
        "platform.page_look", "platform.ray_session", "models",
    },
    "platform.search": {
        "platform.train", "platform.data", "platform.config", "platform.settings", "platform.storage",
        "platform.errors", "platform.files", "platform.ray_session", "models",
    },
    "platform.reproduce": {
        "platform.train", "platform.evaluate", "platform.bundle", "platform.data", "platform.config",
        "platform.settings", "platform.storage", "platform.errors", "platform.files",
    },
    "platform.training_display": set(),
    "platform.scoring_display": {"platform.score", "platform.training_display"},
    "platform.search_progress": {"platform.search", "platform.history"},
    "platform.search_table": {"platform.search", "platform.search_progress", "platform.training_display"},
    "platform.search_display": {
        "platform.search", "platform.search_progress", "platform.search_table", "platform.training_display",
    },
    "platform.console": {
        "serve",
        "platform.scoring_display",
        "platform.search", "platform.search_display", "platform.search_table", "platform.training_display",
        "platform.score", "platform.evaluate", "platform.data",
    },
    "platform.demo": {
        "serve", "platform.console", "platform.search", "platform.train", "platform.score", "platform.evaluate",
        "platform.data", "platform.config", "platform.settings", "platform.errors", "platform.ray_session",
    },
    "platform.verbs": {
        "serve", "platform.demo", "platform.console", "platform.scoring_display",
        "platform.search", "platform.reproduce", "platform.train", "platform.storage",
        "platform.score", "platform.evaluate", "platform.data", "platform.config", "platform.settings",
        "platform.errors",
    },
    "platform.cli": {"platform.verbs", "platform.errors"},
}  # fmt: skip
"""The arrows: a part may import itself and what stands here, which is always above it. "" is the package's own file."""

TORCH_ONLY = {"torch", "timm", "numpy"}
"""What models/ may import beside the standard library."""


def _tree() -> list[str]:
    """Every file of the project: what git knows, and what it would be asked to add."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted({path for path in listed.stdout.splitlines() if (ROOT / path).is_file()})


TREE = _tree()
PYTHON = [path for path in TREE if path.endswith(".py")]
OWN_CODE = [path for path in TREE if path.endswith(CODE) and not path.startswith("tests/")]
PACKAGE = [path for path in PYTHON if path.startswith(SHIPPED) or path == "__init__.py"]
CONFIGS = [path for path in TREE if path.startswith("tune_configs/")]

pytestmark = pytest.mark.skipif(not TREE, reason="not a git checkout, so nothing says which files are the project's")


def test_platform_is_no_package():
    # With this file `platform` would shadow the standard library's: Ray workers die while the driver sees a timeout.
    assert not (ROOT / "platform" / "__init__.py").exists()


def _part(module: str) -> str:
    """The entry of MAY_IMPORT that a dotted module below the root belongs to; the module itself where there is none."""
    entry = next((part for part in MAY_IMPORT if part and f"{module}.".startswith(f"{part}.")), module)
    return entry if entry.startswith(SHIPPED) else ""


def _own_imports(path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted target of every import of our own modules, those inside functions included."""
    package = Path(path).parent.parts
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                if alias.name != "__version__":
                    yield node.lineno, ".".join([*filter(None, base), alias.name])


def test_table_of_arrows_has_no_circle():
    parts = list(MAY_IMPORT)
    for number, (part, targets) in enumerate(MAY_IMPORT.items()):
        assert targets <= set(parts[:number]), f"{part!r} may import something that stands below it"


@pytest.mark.parametrize("path", PACKAGE)
def test_arrows_point_one_way(path: str):
    part = _part(path.removesuffix("__init__.py").removesuffix(".py").strip("/").replace("/", "."))
    assert part in MAY_IMPORT, f"{path} has no line in the table of arrows"
    allowed = MAY_IMPORT[part] | {part}
    wrong = [f"line {line}: {target}" for line, target in _own_imports(path) if _part(target) not in allowed]
    assert not wrong, f"{path} ({part}) may import {sorted(MAY_IMPORT[part])} only"


def _foreign_imports(path: str) -> set[str]:
    """First names of every absolute import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_package_imports_itself_relatively():
    assert [path for path in PACKAGE if "vizecg" in _foreign_imports(path)] == []


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.startswith("models/")])
def test_models_need_torch_alone(path: str):
    assert _foreign_imports(path) - set(sys.stdlib_module_names) <= TORCH_ONLY


def test_every_module_says_what_it_is_for():
    assert [path for path in PYTHON if not ast.get_docstring(ast.parse((ROOT / path).read_text()))] == []


@pytest.mark.parametrize("path", OWN_CODE)
def test_files_and_functions_stay_small(path: str):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = (
        node
        for node in (ast.walk(ast.parse(text)) if path.endswith(".py") else ())
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES]
    assert not long, f"longer than {MAX_FUNCTION_LINES} lines"


def test_wheel_holds_every_file_of_the_package(tmp_path: Path):
    # Built from a copy: what an older build left beside the sources would be packed, too.
    for path in TREE:
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes((ROOT / path).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tmp_path / "source"]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("vizecg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {f"vizecg/{path}" for path in TREE if path.startswith(SHIPPED) or path == "__init__.py"}


@pytest.mark.parametrize("path", CONFIGS)
def test_config_is_read_and_says_how_it_is_run(path: str):
    header = (ROOT / path).read_text().partition("\n\n")[0]
    header = "\n".join(line for line in header.splitlines() if line.startswith("#"))
    for word in ("Source", "Expect", "Run"):
        assert re.search(rf"^# {word} +\S", header, re.MULTILINE), f"the comment on top has no line `# {word}`"
    assert f"--config {path}" in header
    values = yaml.safe_load((ROOT / path).read_text())
    load = load_search if "space" in values else load_reproduction if "variants" in values else load_config
    load(ROOT / path)


@pytest.mark.parametrize("path", CONFIGS)
def test_config_has_its_twin(path: str):
    is_smoke = path.endswith(".smoke.yaml")
    twin = path.replace(".smoke.yaml", ".yaml") if is_smoke else path.replace(".yaml", ".smoke.yaml")
    assert twin in CONFIGS


def _listed_in_readme() -> dict[str, str]:
    """Path -> comment of the tree in the README; folders end with a slash."""
    section = (ROOT / "README.md").read_text().partition("## What is where")[2]
    listed: dict[str, str] = {}
    folders: list[str] = []
    for line in section.split("```")[1].splitlines()[1:]:
        name, _, comment = line.strip().partition(" ")
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        listed["".join([*folders, name])] = comment.strip()
        folders.append(name)
    return listed


def test_readme_lists_what_is_here():
    listed = _listed_in_readme()
    here = {path for path in TREE if not path.startswith("tests/")}
    assert {path for path in listed if not path.endswith("/")} == here
    assert {path for path in listed if path.endswith("/") and not (ROOT / path).is_dir()} == set()
    assert [path for path, comment in listed.items() if not comment] == []


def _commands(path: str) -> list[str]:
    """Every `vizecg ...` line in the code blocks of a page or in the comments of a configuration."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    lines = (line.strip("# ") for line in text.splitlines())
    lines = (re.sub(r"^(\$ |Run +)", "", line).partition(" # ")[0] for line in lines)
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("vizecg ")]


@pytest.mark.parametrize(
    ("path", "command"),
    [(path, command) for path in TREE if path.endswith((".md", ".yaml")) for command in _commands(path)],
)
def test_written_commands_are_commands(path: str, command: str):
    app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
