"""The verb that scores archives, compares two scorings of one, and plans a large one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UserError
from .app import Count, Port, app

if TYPE_CHECKING:
    from ..score.job import ScoreSettings
    from ..score.sources.base import SourceSettings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the input is read."""

    any_picture: Annotated[bool, Parameter(help="Score also what does not look like a page of an ECG.")] = False
    rectify: Annotated[bool, Parameter(help="Undo rotation, skew and perspective of scans and photos.")] = False
    column: Annotated[str | None, Parameter(help="Of a table: the column with paths or bytes.")] = None
    id_column: Annotated[str | None, Parameter(help="Of a table: the column with ids.")] = None
    layout: Annotated[str, Parameter(help="Of pages drawn from signals, such as 6x2.")] = "3x4+1"
    grid: Annotated[str, Parameter(help="The colour of their grid.")] = "pink"
    speed: Annotated[float, Parameter(help="Their paper speed in mm/s.")] = 25.0
    gain: Annotated[float, Parameter(help="Their gain in mm/mV.")] = 10.0

    def sources(self) -> "SourceSettings":
        """As open_source takes them."""
        from ..score.sources.base import SourceSettings

        return SourceSettings(
            column=self.column,
            id_column=self.id_column,
            layout=self.layout,
            grid=self.grid,
            paper_speed_mm_per_s=self.speed,
            gain_mm_per_mv=self.gain,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Who works."""

    predictors: Annotated[
        str, Parameter(help="Processes that predict: a number, or MIN:MAX between which they come and go.")
    ] = "1:"
    cpus_per_predictor: Annotated[Count | None, Parameter(help="Cores of each; without it at most 4.")] = None
    gpus_per_predictor: Annotated[float, Parameter(help="GPUs of each; 0.25 shares one among four.")] = 0.0
    decoders: Annotated[int, Parameter(help="Processes that only read and decode, which pays beside GPUs.")] = 0
    batch_pages: Annotated[Count | None, Parameter(help="Pages in one forward pass.")] = None
    chunk_pages: Annotated[Count, Parameter(help="Files or records that a predictor is given at a time.")] = 256
    backend: Annotated[
        str, Parameter(help="What computes; auto takes the fastest that agrees with torch-fp32 within 0.02.")
    ] = "auto"
    metrics_port: Annotated[Port | None, Parameter(help="Where Prometheus finds the run.")] = None
    metrics_host: Annotated[str, Parameter(help="0.0.0.0 where Prometheus is on another machine.")] = "127.0.0.1"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a plan assumes."""

    sample_pages: Annotated[Count, Parameter(help="Of a plan: pages to measure.")] = 256
    cores_per_node: Annotated[Count | None, Parameter(help="Of a plan; without it as this machine has.")] = None
    price_per_core_hour: Annotated[float | None, Parameter(help="Of a plan.")] = None
    price_per_gpu_hour: Annotated[float | None, Parameter(help="Of a plan.")] = None
    storage_mb_per_s: Annotated[float | None, Parameter(help="Of a plan; without it as the sample was read.")] = None


@app.command
def score(
    bundle: str, source: str, out: str | None = None, *,
    max_rejected: float | None = None, rows_per_file: Count = 100_000,
    worklist: str | None = None, worklist_size: Count = 200,
    compare: Annotated[bool, Parameter(negative=())] = False, plan: Annotated[bool, Parameter(negative=())] = False,
    input_options: InputOptions = InputOptions(), workers: WorkerOptions = WorkerOptions(),
    plan_options: PlanOptions = PlanOptions(),
) -> None:  # fmt: skip
    """Score an archive of pages into Parquet: every page once, bad ones with a reason. The same command goes on.

    With --compare, BUNDLE and SOURCE are the OUT folders of two scorings of one archive. With --plan, nothing is
    scored but a sample.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    source
        Pictures (a folder, one, a quoted glob, a .txt list), PDFs, DICOM files, a Parquet table, a signal archive or
        shards; a path or a URI.
    out
        Folder or URI for the scores.
    max_rejected
        Stop where a greater share of pages is rejected, such as 0.2.
    rows_per_file
        Pages in one Parquet file.
    worklist
        Labels, with commas: also write the pages with the highest probabilities of these as a sheet and a table.
    worklist_size
        Pages on that sheet.
    compare
        Tell what changed between two scorings.
    plan
        Tell how long all of it would take, and what it would cost, on clusters of several sizes.
    """
    if compare and plan:
        raise UserError("--compare and --plan do different things; give one of them")
    if (compare or plan) and (worklist is not None or max_rejected is not None):
        raise UserError("--worklist and --max-rejected belong to a scoring; leave them out with --compare and --plan")
    if not compare and "://" in bundle:
        raise UserError(f"{bundle}: bundle must be a local folder; copy it there first")
    if compare:
        _compare(bundle, source, _needed(out))
    elif plan:
        _plan(bundle, source, out, input_options, workers, plan_options)
    else:
        labels = [key.strip() for key in worklist.split(",")] if worklist else []
        settings = _settings(input_options, workers, max_rejected, rows_per_file)
        _score(bundle, source, _needed(out), settings, input_options.sources(), labels, worklist_size)


def _needed(out: str | None) -> str:
    from ..storage import shown, what_is

    if out is None:
        raise UserError("OUT is missing: name the folder or URI for the results")
    if out.lower().startswith(("http://", "https://")):
        raise UserError(f"{shown(out)}: nothing can be written there; choose a local folder or a bucket as OUT")
    if what_is(out) == "file":
        raise UserError(f"{shown(out)}: is a file; choose a folder as OUT")
    return out


def _score(
    bundle: str, source: str, out: str, settings: "ScoreSettings", sources: "SourceSettings",
    labels: list[str], worklist_size: int,
) -> None:  # fmt: skip
    from ..console import finished, scoring_display, show_scores
    from ..score.run import score_pages
    from ..score.worklist import check_labels, write_worklist
    from ..storage import shown

    if labels:
        check_labels(bundle, labels)
    with scoring_display("scoring") as on_progress:
        summary = score_pages(bundle, source, out, settings=settings, sources=sources, on_progress=on_progress)
    show_scores(summary)
    if labels:
        write_worklist(out, labels, worklist_size)
    sheet = "worklist.html" if labels else "report.html"
    finished(
        f"{summary['pages']:,} pages in {shown(out)}/scores, to look at: {shown(out)}/{sheet}", f"vizecg serve {bundle}"
    )


def _settings(
    options: InputOptions, workers: WorkerOptions, max_rejected: float | None = None, rows_per_file: int = 100_000
) -> "ScoreSettings":
    from ..data.read_page import Reading
    from ..score.job import PoolSettings, ScoreSettings

    if max_rejected is not None and not 0 <= max_rejected <= 1:
        raise UserError(f"max_rejected {max_rejected:g} is no share of the pages; give a number from 0 to 1")
    for name, value in (("decoders", workers.decoders), ("gpus-per-predictor", workers.gpus_per_predictor)):
        if not value >= 0:
            raise UserError(f"{name} {value:g}: cannot be negative; give 0 for none")
    least, most = _range(workers.predictors)
    pool = PoolSettings(
        min_predictors=least,
        max_predictors=most,
        cpus_per_predictor=workers.cpus_per_predictor,
        gpus_per_predictor=workers.gpus_per_predictor,
        decoders=workers.decoders,
        batch_pages=workers.batch_pages,
        chunk_pages=workers.chunk_pages,
    )
    return ScoreSettings(
        reading=Reading(check=not options.any_picture, rectify=options.rectify),
        backend=workers.backend,
        pool=pool,
        rows_per_file=rows_per_file,
        max_rejected=max_rejected,
        metrics_port=workers.metrics_port,
        metrics_host=workers.metrics_host,
    )


def _range(written: str) -> tuple[int, int | None]:
    """`4` -> (4, 4), `1:8` -> (1, 8), `2:` -> (2, None)."""
    least, colon, most = written.partition(":")
    if not least.isdecimal() or int(least) < 1 or (most and (not most.isdecimal() or int(most) < int(least))):
        raise UserError(f"predictors {written!r}: give a number such as 4, or a range such as 1:16")
    return int(least), int(most) if most else None if colon else int(least)


def _compare(old: str, new: str, out: str) -> None:
    from ..console import finished, show_changes, working
    from ..score.compare import compare_scores

    with working("comparing"):
        changes = compare_scores(old, new, out)
    show_changes(changes)
    finished(f"{out}/changes.html and {out}/changes.parquet", f"vizecg score --compare {new} NEWER OUT")


def _plan(
    bundle: str, source: str, out: str | None, options: InputOptions, workers: WorkerOptions, assumed: PlanOptions
) -> None:
    from ..console import finished, show_plan, working
    from ..score.plan.page import write_plan
    from ..score.plan.predict import plan_scoring

    with working(f"measuring {assumed.sample_pages} pages"):
        plan = plan_scoring(
            bundle,
            source,
            _settings(options, workers),
            sources=options.sources(),
            sample_pages=assumed.sample_pages,
            cores_per_node=assumed.cores_per_node,
            price_per_core_hour=assumed.price_per_core_hour,
            price_per_gpu_hour=assumed.price_per_gpu_hour,
            storage_mb_per_s=assumed.storage_mb_per_s,
        )
    show_plan(plan)
    if out:
        write_plan(plan, out)
    finished(f"plan in {out}/plan.html" if out else "nothing was written", f"vizecg score {bundle} {source} OUT")
