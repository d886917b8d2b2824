"""Verbs that train: train, tune, reproduce."""

from pathlib import Path
from typing import Literal

from ..errors import UserError
from .app import Count, From, Set, app


@app.command
def train(
    shards: Path, out: Path, *, config: Path | None = None, overrides: Set = None, restart: bool = False,
    init_from: From = None,
) -> None:  # fmt: skip
    """Train on shards; OUT/bundle is the result. The same command goes on where a stopped one was.

    Parameters
    ----------
    shards
        Folder written by `vizecg shard`.
    out
        Folder of the run.
    config
        YAML file; see tune_configs/.
    restart
        Throw away what an earlier run left in OUT.
    init_from
        Bundle to fine-tune: its model and weights are taken over.
    """
    from ..config import load_config

    # Before torch and Ray are imported: a mistyped key need not wait for them.
    loaded = load_config(config, overrides or ())
    from ..console import finished, training_display
    from ..train.driver import train_model

    with training_display(loaded.epochs, loaded.metric) as display:
        bundle = train_model(
            shards, out, loaded, restart=restart, init_from=init_from,
            on_epoch=display.epoch, on_progress=display.progress,
        )  # fmt: skip
    finished(f"the model is in {bundle}", f"vizecg evaluate {bundle} {shards} {out}/evaluation")


@app.command
def tune(shards: Path, out: Path, *, config: Path, overrides: Set = None) -> None:
    """Search training configurations; OUT/best.yaml is ready for train. The same command goes on.

    Parameters
    ----------
    shards
        Folder written by `vizecg shard`.
    out
        Folder of the search.
    config
        YAML file of a search; see tune_configs/.
    """
    from ..search.config import load_search

    # Before Ray is imported: a mistyped key need not wait for it.
    search = load_search(config, overrides or ())
    from ..console import finished, search_display, show_leaderboard
    from ..search.ranking import metric_of
    from ..search.run import tune_model

    with search_display(search, metric_of(search), out) as display:
        results = tune_model(shards, out, search, on_change=display.change)
    show_leaderboard(results, search)
    finished(
        f"report.html, leaderboard.md and best.yaml are in {out}", f"vizecg train {shards} run --config {out}/best.yaml"
    )


@app.command
def reproduce(
    shards: Path, out: Path, *, table: Literal["main", "ablation"] = "main", config: Path | None = None,
    overrides: Set = None, seeds: Count | None = None, smoke: bool = False,
) -> None:  # fmt: skip
    """Train and evaluate the paper's comparison, or its ablation; OUT/table.md is the result. The same command goes on.

    Parameters
    ----------
    shards
        Folder written by `vizecg shard`.
    out
        Folder of the comparison.
    table
        VizECGNet and what it is compared with, or what each of its parts adds.
    config
        YAML file in place of tune_configs/reproduce-TABLE.yaml.
    seeds
        Runs of every model; more can be asked for later.
    smoke
        The small twin, which shows that everything works.
    """
    from ..reproduce.config import load_reproduction, shipped_reproduction

    if config and smoke:
        raise UserError(f"--config {config} --smoke: the small twin is a file, too; give one of them")
    loaded = load_reproduction(config) if config else shipped_reproduction(table, smoke)
    changed = loaded.with_changes(seeds, overrides or ())
    from ..console import finished, show_markdown, stages
    from ..reproduce.run import reproduce as run

    with stages("done") as progress:
        run(shards, out, changed, on_progress=progress)
    show_markdown((out / "table.md").read_text())
    bundle = out / "runs" / f"{changed.reference}-seed0" / "bundle"
    finished(f"table.md, .csv, .json and .svg are in {out}", f"vizecg serve {bundle}")
