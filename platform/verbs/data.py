"""Verbs that make data, and the one that shows all: demo, practice, shard."""

from pathlib import Path

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
def shard(
    archive: Path, out: Path, *, also: Others = None, page_width_px: int = 512, page_height_px: int = 384,
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
