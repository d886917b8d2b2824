"""Verbs that make data, and the one that shows all: demo, practice, draw, shard."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .app import Count, Others, app


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
    from ..console import finished
    from ..demo import run_demo

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
    from ..console import counting, finished
    from ..data.practice import write_practice_archive

    with counting("simulating", "records") as progress:
        summary = write_practice_archive(out, records, seed, sampling_rate_hz, on_progress=progress)
    finished(f"{summary.num_records} records of {summary.num_patients} patients in {out}", f"vizecg shard {out} shards")


@app.command
def draw(
    archive: Path, out: Path, *, records: int | Literal["all"] = 20, layout: str = "3x4+1", condition: str = "clean",
    dpi: float | None = None, width_px: int | None = None, height_px: int | None = None,
    paper_speed_mm_per_s: Annotated[float | None, Parameter(name="--speed")] = None,
    gain_mm_per_mv: Annotated[float | None, Parameter(name="--gain")] = None, grid: str | None = None,
    format: Literal["png", "jpeg", "pdf"] | None = None, truth: bool = False, allow_missing_leads: bool = False,
    seed: int = 0, processes: Count | None = None,
) -> None:  # fmt: skip
    """Draw the records of an archive as printed, scanned or photographed pages: PNG, JPEG or PDF files.

    Parameters
    ----------
    archive
        Its folder; what it holds is recognised.
    out
        New folder for the pages, and for the table that makes them an archive of labelled pages.
    records
        So many at random, or all.
    layout
        3x4, 3x4+1, 3x4+3, 6x2, 6x2+1, 12x1, of two pages 6x1,6x1 and 3x2+1,3x2+1; varied prints every record in
        another way, as devices do.
    condition
        clean, scan-colour, scan-bw, photo-clean, photo-stained, photo-crumpled, screen-photo; varied takes another one
        for every record.
    dpi
        Resolution of whole sheets in exact millimetres: 200 where no size is given.
    width_px
        Of the pages, in place of a resolution.
    height_px
        Of the pages, in place of a resolution.
    paper_speed_mm_per_s
        Millimetres a second: 25 where not given.
    gain_mm_per_mv
        Millimetres a millivolt: 10 where not given.
    grid
        pink, orange, green, blue, grey, dots, black or none: pink where not given.
    format
        Of the files: png for clean pages and scan-bw, jpeg for all others where not given.
    truth
        Also write NAME.json beside each page: boxes, names, the path of every trace, all settings.
    allow_missing_leads
        Draw records that lack leads, with gaps, instead of rejecting them.
    seed
        Of everything random.
    processes
        At most so many at once: all cores where not given.
    """
    from ..console import counting, finished, show_rejected
    from ..data.draw_archive import MARKER, draw_archive
    from ..data.draw_settings import DrawSettings

    settings = DrawSettings(
        records=records, seed=seed, layout=layout, condition=condition, dpi=dpi, width_px=width_px,
        height_px=height_px, paper_speed_mm_per_s=paper_speed_mm_per_s, gain_mm_per_mv=gain_mm_per_mv, grid=grid,
        format=format, truth=truth, allow_missing_leads=allow_missing_leads,
    )  # fmt: skip
    with counting("drawing", "records") as progress:
        summary = draw_archive(archive, out, settings, processes=processes, on_progress=progress)
    show_rejected(summary.rejected_counts, MARKER)
    finished(f"{summary.num_pages} pages of {summary.num_records} records in {out}", f"vizecg shard {out} page-shards")


@app.command
def shard(
    archive: Path, out: Path, *, also: Others = None, page_width_px: int = 512, page_height_px: int = 384,
    page_layout: str = "3x4+1", page_grid: str = "pink",
    sampling_rate_hz: float = 100, duration_s: float = 10, max_records: int | None = None,
    val_fraction: float = 0.15, test_fraction: float = 0.15, allow_missing_leads: bool = False, seed: int = 0,
) -> None:  # fmt: skip
    """Turn an archive (practice, PTB-XL, a CinC folder, labelled pages) into shards of signals and pages.

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
    page_layout
        3x4, 3x4+1, 3x4+3, 6x2, 6x2+1 or 12x1; varied prints every record in another way, as devices do.
    page_grid
        pink, orange, green, blue, grey, dots, black or none.
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
    from ..console import finished, show_dataset, stages
    from ..data.dataset_info import shard_config
    from ..data.shards import write_shards

    page = {"varied": True} if page_layout == "varied" else {"layout": page_layout, "grid": page_grid}
    config = shard_config(
        page=page | {"width_px": page_width_px, "height_px": page_height_px}, sampling_rate_hz=sampling_rate_hz,
        duration_s=duration_s, max_records=max_records, val_fraction=val_fraction, test_fraction=test_fraction,
        allow_missing_leads=allow_missing_leads, seed=seed,
    )  # fmt: skip
    with stages("records") as progress:
        info = write_shards([archive, *(also or ())], out, config, on_progress=progress)
    show_dataset(info)
    finished(
        f"{info.num_records} records in {out}", f"vizecg train {out} run --config tune_configs/vizecgnet.smoke.yaml"
    )
