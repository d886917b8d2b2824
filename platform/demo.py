"""`vizecg demo`: the whole way in order, with a report to look at and one real request to the endpoint.

OUT/archive, OUT/shards     practice records (not with a real archive) and their shards
OUT/exam, OUT/exam-shards   1,000 practice records of another seed, which only the evaluation sees
OUT/run                     training; OUT/run/bundle is the model
OUT/evaluation/report.html  what to look at
OUT/pages, OUT/scores       pictures of pages, and their scores
"""

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from . import console
from .config import TrainConfig, load_config
from .data.dataset_info import load_dataset_info, shard_config, shard_files
from .data.practice import write_practice_archive
from .data.shards import write_shards
from .errors import UserError
from .evaluate.report import write_report
from .evaluate.run import evaluate_bundle
from .ray_session import start_ray
from .score.run import score_pages
from .search.config import load_search
from .search.ranking import metric_of
from .search.run import tune_model
from .settings import look_up
from .train.driver import cpus_of_training, train_model

EXAM_RECORDS = 1000
NUM_PICTURES = 24
_PAGE = {"width_px": 320, "height_px": 240}
_MARKER = ".vizecg-demo"
_MADE = ("archive", "shards", "exam", "exam-shards", "search", "run", "evaluation", "pages", "scores")


@dataclass
class Steps:
    """Runs and times the steps in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        Console(highlight=False).print(f"\n[bold]{len(self.seconds) + 1}. {what}[/]")
        started = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - started


def run_demo(
    out: Path | str, *, archive: Path | str | None = None, num_records: int = 600, with_search: bool = False
) -> Path:
    """Run everything in `out`; the path of the report.

    Args:
        archive: a real archive; None simulates one.
        num_records: to simulate, or to take from the real archive.
        with_search: also search loss weights and attention depth, and train with the best of them.

    Raises:
        UserError: as the verbs do, or `out` holds what no demo made.
    """
    out = Path(out).absolute()
    if archive is not None and Path(archive).absolute().is_relative_to(out):
        raise UserError(f"{archive} lies inside {out}, which the demo clears; choose another OUT")
    _make_room(out)
    steps, config = Steps(), load_config(_shipped("vizecgnet.smoke.yaml"))
    with steps.step("Starting Ray"):
        start_ray(min_cpus=cpus_of_training(config))
    if archive is None:
        with steps.step("Simulating the practice archive"):
            _simulate(out / "archive", num_records, seed=1)
            _simulate(out / "exam", EXAM_RECORDS, seed=2)
    with steps.step("Drawing pages into shards"):
        _shard(
            archive or out / "archive", out / "shards", max_records=num_records, test_fraction=0.15 if archive else 0.05
        )
        if archive is None:
            _shard(out / "exam", out / "exam-shards")
    if with_search:
        with steps.step("Searching loss weights and attention depth"):
            config = _searched(out)
    with steps.step("Training"):
        bundle = _train(out, config)
    exam, split = (out / "shards", "test") if archive else (out / "exam-shards", "all")
    with steps.step("Evaluating"):
        report = evaluate_bundle(bundle, exam, out / "evaluation", split=split)
        console.show_evaluation(report)
    with steps.step("Scoring a folder of pictures"):
        pictures = _write_pictures(exam, split, out / "pages")
        _score(bundle, out)
    with steps.step("Asking the endpoint"):
        answer = _ask_endpoint(bundle, pictures[0])
        Console(highlight=False).print(answer)
    notes = (f"The endpoint was asked about {pictures[0].name}: {answer}.",)
    return write_report(out / "evaluation", replace(report, timings_s=steps.seconds, notes=notes))


def _make_room(out: Path) -> None:
    """An empty OUT; what stands there is removed only if a demo made it."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).exists():
            raise UserError(f"{out}: is not empty, and no demo made it; choose another folder")
        for name in _MADE:
            shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).write_text("Made by `vizecg demo`, which clears this folder when it runs here again.\n")


def _shipped(name: str) -> Path:
    """A configuration that comes with the package."""
    with resources.as_file(resources.files("vizecg.tune_configs") / name) as path:
        return path


def _simulate(out: Path, num_records: int, seed: int) -> None:
    with console.counting("simulating", "records") as progress:
        write_practice_archive(out, num_records, seed, on_progress=progress)


def _shard(archive: Path | str, out: Path, **settings: Any) -> None:
    config = shard_config(page=_PAGE, **settings)
    with console.stages("records") as progress:
        info = write_shards(archive, out, config, on_progress=progress)
    console.show_dataset(info)


def _searched(out: Path) -> TrainConfig:
    """The demo's configuration with the best weights and depth of a search."""
    search = load_search(_shipped("loss-weights.smoke.yaml"))
    with console.search_display(search, metric_of(search), out / "search") as display:
        results = tune_model(out / "shards", out / "search", search, on_change=display.change)
    console.show_leaderboard(results, search)
    best = search.trial_config(results.best).model_dump(mode="json")
    # A ratio sets two keys.
    keys = [key for name, parameter in search.space.items() for key in (name, parameter.to) if key]
    found = {key: look_up(best, key) for key in keys}
    return load_config(_shipped("vizecgnet.smoke.yaml"), [f"{key}={json.dumps(v)}" for key, v in found.items()])


def _train(out: Path, config: TrainConfig) -> Path:
    with console.training_display(config.epochs, config.metric) as display:
        return train_model(out / "shards", out / "run", config, on_epoch=display.epoch, on_progress=display.progress)


def _write_pictures(shards: Path, split: str, folder: Path) -> list[Path]:
    """Some pages as picture files, and one file that is none: a clinic's folder holds such, too."""
    folder.mkdir()
    splits = load_dataset_info(shards).counts if split == "all" else (split,)
    file = next(file for name in splits for file in shard_files(shards, name))
    rows = pq.read_table(file, columns=["record_id", "page"]).slice(0, NUM_PICTURES)
    written = []
    for record_id, page in zip(*(rows[name].to_pylist() for name in ("record_id", "page")), strict=True):
        written.append(folder / f"{record_id.replace('/', '-')}.png")
        written[-1].write_bytes(page)
    (folder / "not-a-page.png").write_text("A letter that somebody saved under a picture's name.\n")
    return written


def _score(bundle: Path, out: Path) -> None:
    with console.scoring_display("scoring") as on_progress:
        summary = score_pages(bundle, out / "pages", out / "scores", on_progress=on_progress)
    console.show_scores(summary)


def _ask_endpoint(bundle: Path, picture: Path) -> str:
    """One real request over HTTP; what came back, in a sentence."""
    from ..serve.server import running_endpoint

    with running_endpoint(str(bundle)) as url:
        request = urllib.request.Request(f"{url}/v1/predict", data=picture.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    found = [f"{label['key']} {label['probability']:.2f}" for label in answer["labels"] if label["positive"]]
    return f"HTTP {response.status}, {', '.join(found) or 'no finding above its threshold'}"
