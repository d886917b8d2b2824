"""`vizecg reproduce`: trains and evaluates every variant with every seed, and writes the table.

OUT/runs/<variant>-seed<k>/  one run: bundle/, evaluation/, and result.json once it is evaluated
OUT/table.md, .csv, .json, .svg
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import read_facts
from ..data.dataset_info import load_dataset_info, read_row_index
from ..errors import UserError
from ..evaluate.run import evaluate_bundle
from ..files import claim_folder, write_atomically
from ..train.driver import train_model
from ..train.prepare import UNIMPORTANT, make_job
from .config import ReproduceConfig
from .results import RESULT, read_result
from .table import ComparisonTable, compare
from .write import write_table

OnProgress = Callable[[str, int, int], None]
"""(what is being done, done, total)"""


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    number: int
    """Of the seed, from 0."""
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.number}"


def reproduce(
    shards: Path | str, out: Path | str, config: ReproduceConfig, *, on_progress: OnProgress | None = None
) -> ComparisonTable:
    """Train, evaluate on the test split and compare; the same call goes on where an earlier one stopped.

    More seeds may be asked for later: what is there is kept.

    Raises:
        UserError: shards and a configuration do not fit together, or OUT holds something else.
    """
    shards, out = Path(shards).absolute(), Path(out).absolute()
    follow: OnProgress = on_progress or (lambda what, done, total: None)
    _check(shards, config)
    claim_folder(out / "run.json", {"identity": _identity(shards, config), "shards": str(shards)})
    for run in _runs(out, config):
        _train(run, shards, config, follow)
        _evaluate(run, shards)
    follow("comparing", 0, len(config.variants))
    results = {
        variant: [read_result(run.folder, shards) for run in _runs(out, config) if run.variant == variant]
        for variant in config.variants
    }
    table = compare(config, results, lambda done: follow("comparing", done, len(config.variants)))
    write_table(out, table, _facts(shards, table))
    return table


def _runs(out: Path, config: ReproduceConfig) -> Iterator[Run]:
    """Seed by seed, so that a table of one seed is complete first."""
    for number in range(config.seeds):
        for variant in config.variants:
            yield Run(variant, number, out / "runs" / f"{variant}-seed{number}")


def _check(shards: Path, config: ReproduceConfig) -> None:
    """What would stop the last run stops the first."""
    if not read_row_index(shards, "test"):
        raise UserError(f"{shards}: the test split holds no record, and the table is about those")
    spaces = {variant: make_job(shards, config.train_config(variant)).label_space.name for variant in config.variants}
    if len(set(spaces.values())) > 1:
        listed = ", ".join(f"{variant}: {name}" for variant, name in spaces.items())
        raise UserError(f"the variants tell other labels apart ({listed}); give all the same label_space")


def _train(run: Run, shards: Path, config: ReproduceConfig, follow: OnProgress) -> None:
    train_config = config.train_config(run.variant, run.number)
    follow(run.name, 0, train_config.epochs)
    train_model(
        shards, run.folder, train_config, on_epoch=lambda row: follow(run.name, row["epoch"], train_config.epochs)
    )
    follow(run.name, train_config.epochs, train_config.epochs)


def _evaluate(run: Run, shards: Path) -> None:
    """Evaluate on the test split, unless this bundle was."""
    bundle, evaluation, result = run.folder / "bundle", run.folder / "evaluation", run.folder / RESULT
    content_hash = read_facts(bundle).content_hash
    done = result.exists() and json.loads(result.read_text())["bundle"] == content_hash
    if done and all((evaluation / name).exists() for name in ("metrics.json", "predictions.parquet")):
        return
    evaluate_bundle(bundle, shards, evaluation, split="test")
    # Last: where it stands, the evaluation is whole.
    write_atomically(result, json.dumps({"bundle": content_hash}) + "\n")


def _identity(shards: Path, config: ReproduceConfig) -> str:
    """What a comparison that goes on must share with what is there: all but the seeds and what changes no result."""
    base: dict[str, Any] = {key: value for key, value in config.base.items() if key not in UNIMPORTANT}
    facts = config.model_copy(update={"base": base}).model_dump_json(exclude={"seeds", "num_resamples", "notes"})
    return hashlib.sha256((facts + load_dataset_info(shards).fingerprint).encode()).hexdigest()


def _facts(shards: Path, table: ComparisonTable) -> dict[str, str]:
    """What the table is about, for its head."""
    info = load_dataset_info(shards)
    return {
        "Records": f"{table.num_records:,} of {table.num_patients:,} patients, the test split of "
        f"{', '.join(info.sources)}",
        "Labels": table.label_space,
        "Seeds": str(table.config.seeds),
    }
