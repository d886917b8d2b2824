"""The verbs. Parses arguments and calls; whatever does the work is a plain function in its module."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from .. import __version__
from .errors import PageError, RecordError, UserError

app = App(name="vizecg", version=__version__, help="From archives of 12-lead ECGs to a model that reads printed ones.")

Set = Annotated[list[str] | None, Parameter(name="--set", negative=(), help="key=value over the file, repeatable.")]

Count = Annotated[int, Parameter(validator=Number(gte=1))]

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]

Others = Annotated[list[Path] | None, Parameter(negative=())]


def main() -> None:
    """Entry point: a user's mistake ends with one sentence and status 2."""
    try:
        _refuse_uris(sys.argv[1:])
        app()
    except (UserError, PageError, RecordError) as error:
        print(f"vizecg: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # A full disk, a folder without permission: nothing that a stack trace explains better.
        print(f"vizecg: {error.strerror or error}: {error.filename or 'the file system'}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("vizecg: stopped; the same command goes on where this one was", file=sys.stderr)
        sys.exit(130)


def _refuse_uris(arguments: list[str]) -> None:
    # As a path "s3://bucket" is a local folder called "s3:", and would be made.
    for argument in arguments:
        if "://" in argument:
            raise UserError(f"{argument}: object stores cannot be named here yet; mount it, and give the local path")


@app.command
def demo(out: Path = Path("demo"), *, archive: Path | None = None, records: Count = 600, search: bool = False) -> None:
    """The whole way: archive, shards, training, evaluation, scoring, one request to the endpoint, a report.

    Parameters
    ----------
    out
        Folder for everything that is made; what an earlier demo left there is replaced.
    archive
        A real archive instead of the practice archive.
    records
        How many to simulate, or to take from the real archive.
    search
        Also search loss weights and attention depth, and train with the best of them.
    """
    from .console import finished
    from .demo import run_demo

    report = run_demo(out, archive=archive, num_records=records, with_search=search)
    finished(f"everything is in {out}; look at {report}", f"vizecg serve {out}/run/bundle")


@app.command
def practice(out: Path, *, records: Count = 600, seed: int = 1, sampling_rate_hz: int = 500) -> None:
    """Write the practice archive: simulated, labelled 12-lead ECGs as WFDB.

    Parameters
    ----------
    out
        New folder for the records.
    records
        How many.
    seed
        Another seed gives other patients.
    sampling_rate_hz
        Of the signals.
    """
    from .console import counting, finished
    from .data.practice import write_practice_archive

    with counting("simulating", "records") as progress:
        summary = write_practice_archive(out, records, seed, sampling_rate_hz, on_progress=progress)
    finished(f"{summary.num_records} records of {summary.num_patients} patients in {out}", f"vizecg shard {out} shards")


@app.command
def shard(
    archive: Path, out: Path, *, also: Others = None, page_width_px: int = 512, page_height_px: int = 384,
    sampling_rate_hz: float = 100, duration_s: float = 10, max_records: int | None = None,
    val_fraction: float = 0.15, test_fraction: float = 0.15, allow_missing_leads: bool = False, seed: int = 0,
) -> None:  # fmt: skip
    """Turn an archive (practice, PTB-XL, a CinC folder) into shards of paired signals and pages.

    Parameters
    ----------
    archive
        Its folder; what it holds is recognised.
    out
        New folder for the shards.
    also
        Another archive into the same dataset, repeatable; recordings in both are taken once.
    page_width_px
        Of the drawn pages.
    page_height_px
        Of the drawn pages.
    sampling_rate_hz
        Signals are resampled to it.
    duration_s
        Longer signals are cut, shorter ones padded.
    max_records
        Take so many at random, for a trial run.
    val_fraction
        Share of patients for validation, where the archive has no folds of its own.
    test_fraction
        Share of patients for testing, where the archive has no folds of its own.
    allow_missing_leads
        Keep records that lack leads, marked, instead of rejecting them.
    seed
        Of everything random.
    """
    from .console import finished, show_dataset, stages
    from .data.dataset_info import shard_config
    from .data.shards import write_shards

    config = shard_config(
        page={"width_px": page_width_px, "height_px": page_height_px}, sampling_rate_hz=sampling_rate_hz,
        duration_s=duration_s, max_records=max_records, val_fraction=val_fraction, test_fraction=test_fraction,
        allow_missing_leads=allow_missing_leads, seed=seed,
    )  # fmt: skip
    with stages("records") as progress:
        info = write_shards([archive, *(also or ())], out, config, on_progress=progress)
    show_dataset(info)
    finished(
        f"{info.num_records} records in {out}", f"vizecg train {out} run --config tune_configs/vizecgnet.smoke.yaml"
    )


@app.command
def train(shards: Path, out: Path, *, config: Path | None = None, overrides: Set = None, restart: bool = False) -> None:
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
    """
    from .config import load_config

    # Before torch and Ray are imported: a mistyped key need not wait for them.
    loaded = load_config(config, overrides or ())
    from .console import epochs, finished
    from .train.driver import train_model

    with epochs(loaded.epochs, loaded.metric) as on_epoch:
        bundle = train_model(shards, out, loaded, restart=restart, on_epoch=on_epoch)
    finished(f"the model is in {bundle}", f"vizecg evaluate {bundle} {shards} {out}/evaluation")


@app.command
def tune(shards: Path, out: Path, *, config: Path) -> None:
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
    from .console import finished, show_leaderboard, trials
    from .search import load_search, tune_model

    search = load_search(config)
    with trials(search.num_trials) as on_trial:
        ranked = tune_model(shards, out, search, on_trial=on_trial)
    show_leaderboard(ranked)
    finished(f"leaderboard.md and best.yaml are in {out}", f"vizecg train {shards} run --config {out}/best.yaml")


@app.command
def evaluate(bundle: Path, shards: Path, out: Path, *, split: str = "test", actors: Count = 1) -> None:
    """Metrics of a bundle on shards: metrics.json, metrics.md, report.html.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    shards
        Folder written by `vizecg shard`.
    out
        Folder for the results.
    split
        train, val, test or all.
    actors
        Predictors at once.
    """
    from .console import finished, show_evaluation, working
    from .evaluate.run import evaluate_bundle

    with working(f"evaluating on {split}"):
        data = evaluate_bundle(bundle, shards, out, split=split, num_actors=actors)
    show_evaluation(data)
    finished(f"report in {out}/report.html", f"vizecg serve {bundle}")


@app.command
def score(bundle: Path, source: Path, out: Path, *, actors: Count = 1) -> None:
    """Score pages (a folder of pictures, one picture, or shards) into Parquet. The same command goes on.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    source
        Pictures or shards.
    out
        Folder for the scores.
    actors
        Predictors at once.
    """
    from .console import counting, finished, show_scores
    from .score import score_pages

    with counting("scoring", "pages") as progress:
        summary = score_pages(bundle, source, out, num_actors=actors, on_progress=progress)
    show_scores(summary)
    finished(f"{summary['pages']} pages in {out}/parts", f"vizecg serve {bundle}")


@app.command
def serve(bundle: Path, *, host: str = "127.0.0.1", port: Port = 8000, replicas: Count = 1) -> None:
    """Serve a bundle over HTTP, with a web page, until Ctrl-C.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    host
        Address to listen on.
    port
        0 takes a free one.
    replicas
        Processes that predict.
    """
    from ..serve.server import serve_bundle

    serve_bundle(str(bundle), host=host, port=port, num_replicas=replicas)


if __name__ == "__main__":
    main()
