"""`vizecg evaluate`: a bundle on the records of a dataset, as tables, curves and one page to read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..bundle import Bundle, read_facts
from ..data.dataset_info import load_dataset_info
from ..errors import UserError
from ..files import write_atomically
from ..history import HISTORY, read_history
from ..model_card import model_card
from ..predictor import Predictor
from .abstention import coverage_curve
from .bootstrap import Intervals, bootstrap_intervals
from .compare import Comparison, compare_predictions, require_same_labels
from .conditions import checked_conditions, evaluate_conditions
from .confusion import confusion_of
from .contact_sheet import choose_errors, wrong_readings
from .examples import choose_examples, example_pages, read_pages
from .metrics import EvaluationResult, evaluate_predictions
from .plots import label_curves
from .predict import Predictions, predict_split
from .reliability import reliability_of
from .report import write_report
from .report_data import ReportData
from .subgroups import groups_by_trait, subgroup_metrics


def evaluate_bundle(
    bundle: Path | str,
    shards: Path | str,
    out: Path | str,
    *,
    split: str = "test",
    num_actors: int = 1,
    against: Path | str | None = None,
    conditions: Sequence[str] = (),
    varied: bool = False,
    num_resamples: int = 1000,
) -> ReportData:
    """Evaluate on one split and write the report, metrics, a model card and predictions.parquet into `out`.

    Thresholds and calibration are the bundle's: nothing is fitted here. `against` names another bundle with the same
    labels, whose deployed stream is compared on the same records. `conditions` are names of artefacts.PRESETS: the
    records are printed anew, with `varied` each in another way, and worn; conditions.csv has what that costs.

    Raises:
        UserError: no bundle, no shards, no record in that split, bundles that tell other labels apart, an unknown
            condition, or one for a model or records without pages to print.
    """
    facts = read_facts(bundle)
    wanted = checked_conditions(bundle, facts, conditions)
    if against is not None:
        require_same_labels(str(bundle), facts.label_space, str(against), read_facts(against).label_space)
    predictions = predict_split(bundle, shards, split, num_actors)
    if not predictions.known_to(facts.deployed_stream).any():
        raise UserError(
            f"{shards}: no record of the {split} split says anything about the labels of {bundle} "
            f"({facts.label_space.name}), or has what its {facts.deployed_stream} stream reads; use others"
        )
    results = stream_results(facts, predictions)
    data = ReportData(
        title=f"{facts.model.name} on {', '.join(load_dataset_info(shards).sources)} ({split})",
        summary=_summary(facts, results),
        facts=_facts(facts, predictions, split),
        streams=results,
        label_names={label.key: label.name for label in facts.label_space.labels},
        history=tuple(read_history(Path(bundle).parent / HISTORY)),
        comparison=_against(facts, predictions, against, shards, split, num_actors, num_resamples),
        conditions=evaluate_conditions(
            bundle, facts, shards, split, wanted, varied=varied, num_actors=num_actors, num_resamples=num_resamples
        ),
        **_spread(facts, predictions, results, num_resamples),
        **_behaviour(facts, predictions),
        **_pages(facts, predictions, bundle, shards, split),
    )
    write_report(Path(out), data)
    write_atomically(Path(out) / "MODEL_CARD.md", model_card(facts, data.metrics()))
    if data.conditions:
        write_atomically(Path(out) / "conditions.csv", data.conditions.to_csv())
    _write_predictions(predictions, facts, Path(out) / "predictions.parquet")
    return data


def thresholds_of(bundle: Bundle) -> dict[str, list[float]]:
    """By stream, the deployed one first."""
    return {bundle.deployed_stream: bundle.thresholds, **bundle.teacher_thresholds}


def stream_results(bundle: Bundle, predictions: Predictions) -> dict[str, EvaluationResult]:
    """Metrics of every stream, the deployed one first, at the thresholds that validation chose."""
    codes = [label.codes for label in bundle.label_space.labels]
    keys, target = bundle.label_space.keys, predictions.target
    return {
        stream: evaluate_predictions(
            predictions.probability[stream], target, predictions.known_to(stream), keys, limits, codes
        )
        for stream, limits in thresholds_of(bundle).items()
        if stream in predictions.probability
    }


def _spread(
    bundle: Bundle, predictions: Predictions, results: dict[str, EvaluationResult], num_resamples: int
) -> dict[str, Any]:
    """Intervals of every stream, and of the deployed one's frequent labels."""
    keys, limits, deployed = bundle.label_space.keys, thresholds_of(bundle), bundle.deployed_stream
    intervals = {
        stream: _intervals(predictions, stream, keys, limits[stream], range(len(keys)), num_resamples)
        for stream in results
    }
    result = results[deployed]
    if len(result.frequent) == len(keys) - len(result.left_out):
        return {"intervals": intervals, "frequent_intervals": intervals[deployed].macro}
    frequent = [k for k, key in enumerate(keys) if key in result.frequent]
    some = _intervals(predictions, deployed, keys, limits[deployed], frequent, num_resamples).macro if frequent else {}
    return {"intervals": intervals, "frequent_intervals": some}


def _intervals(
    predictions: Predictions, stream: str, keys: Sequence[str], limits: list[float], chosen: Sequence[int], count: int
) -> Intervals:
    columns = list(chosen)
    return bootstrap_intervals(
        predictions.probability[stream][:, columns],
        predictions.target[:, columns],
        predictions.known_to(stream)[:, columns],
        [keys[k] for k in columns],
        [limits[k] for k in columns],
        predictions.patients,
        num_resamples=count,
    )


def _behaviour(bundle: Bundle, predictions: Predictions) -> dict[str, Any]:
    """How the deployed stream ranks, how far it can be believed, whom it reads less well, what it confuses."""
    limits, keys = np.array(bundle.thresholds), bundle.label_space.keys
    probability, target, known = (
        predictions.probability[bundle.deployed_stream], predictions.target,
        predictions.known_to(bundle.deployed_stream),
    )  # fmt: skip
    return {
        "curves": label_curves(probability, target, known, keys),
        "reliability": reliability_of(probability, target, known, keys),
        "coverage": coverage_curve(probability, target, known, limits),
        "subgroups": subgroup_metrics(
            probability, target, known, limits, predictions.patients, groups_by_trait(predictions)
        ),
        "confusion": confusion_of(probability >= limits, target, known, keys),
    }


def _pages(
    bundle: Bundle, predictions: Predictions, folder: Path | str, shards: Path | str, split: str
) -> dict[str, Any]:
    """Pages that were read well and badly, explained where the model reads pages."""
    examples, errors = choose_examples(predictions, bundle), choose_errors(predictions, bundle)
    pages = read_pages(shards, split, [predictions.record_id[n] for n in (*examples, *errors)])
    predictor = Predictor.load(folder)
    return {
        "examples": example_pages(bundle, predictions, examples, pages, predictor if predictor.reads_pages else None),
        "errors": wrong_readings(bundle, predictions, errors, pages),
    }


def _against(
    bundle: Bundle, predictions: Predictions, against: Path | str | None,
    shards: Path | str, split: str, num_actors: int, num_resamples: int,
) -> Comparison | None:  # fmt: skip
    if against is None:
        return None
    other, theirs = read_facts(against), predict_split(against, shards, split, num_actors)
    assert theirs.record_id == predictions.record_id, "both models are asked about the same records in the same order"
    return compare_predictions(
        (predictions.probability[bundle.deployed_stream], bundle.thresholds),
        (theirs.probability[other.deployed_stream], other.thresholds),
        predictions.target,
        predictions.known_to(bundle.deployed_stream) & predictions.known_to(other.deployed_stream),
        predictions.patients,
        bundle.label_space.keys,
        other=f"{other.model.name}, size {other.model.size} (bundle {other.content_hash[:12]})",
        num_resamples=num_resamples,
    )


def _facts(bundle: Bundle, predictions: Predictions, split: str) -> dict[str, str]:
    return {
        "Bundle": bundle.content_hash[:12],
        "Model": f"{bundle.model.name}, size {bundle.model.size}",
        "Labels": bundle.label_space.name,
        "Records": f"{len(predictions):,} ({predictions.patients.max() + 1:,} patients), split {split}",
        "Page": f"{bundle.page.width_px} x {bundle.page.height_px} px",
    }


def _summary(bundle: Bundle, results: dict[str, EvaluationResult]) -> str:
    macro = results[bundle.deployed_stream].macro.auroc
    value = "undefined" if macro is None else f"{macro:.3f}"
    read = {"image": "the page alone", "signal": "the signal alone"}.get(bundle.deployed_stream, "page and signal")
    return f"Reading {read}, the model reaches a macro AUROC of {value}."


def _write_predictions(predictions: Predictions, bundle: Bundle, path: Path) -> None:
    columns = {"record_id": pa.array(predictions.record_id)}
    for k, key in enumerate(bundle.label_space.keys):
        known = predictions.known[:, k]
        columns[f"target_{key}"] = pa.array(predictions.target[:, k], mask=~known)
        for stream, probability in predictions.probability.items():
            columns[f"{stream}_{key}"] = pa.array(probability[:, k])
    pq.write_table(pa.table(columns), path)
