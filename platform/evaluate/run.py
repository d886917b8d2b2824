"""`vizecg evaluate`: a bundle on the records of a dataset, as tables, curves and one page to read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..bundle import Bundle, read_facts
from ..data.dataset_info import load_dataset_info
from ..history import HISTORY, read_history
from .examples import example_pages
from .metrics import EvaluationResult, evaluate_predictions
from .plots import label_curves
from .predict import Predictions, predict_split
from .report import ReportData, write_report


def evaluate_bundle(
    bundle: Path | str, shards: Path | str, out: Path | str, *, split: str = "test", num_actors: int = 1
) -> ReportData:
    """Evaluate on one split and write metrics.json, metrics.md, report.html and predictions.parquet into `out`.

    Thresholds are the bundle's: nothing is fitted here.

    Raises:
        UserError: no bundle, no shards, or no record in that split.
    """
    facts = read_facts(bundle)
    predictions = predict_split(bundle, shards, split, num_actors)
    results = stream_results(facts, predictions)
    info = load_dataset_info(shards)
    data = ReportData(
        title=f"{facts.model.name} on {', '.join(info.sources)} ({split})",
        summary=_summary(facts, results),
        facts={
            "Bundle": facts.content_hash[:12],
            "Model": f"{facts.model.name}, size {facts.model.size}",
            "Labels": facts.label_space.name,
            "Records": f"{len(predictions.record_id):,}, split {split}",
            "Page": f"{facts.page.width_px} x {facts.page.height_px} px",
        },
        streams=results,
        label_names={label.key: label.name for label in facts.label_space.labels},
        curves=label_curves(
            predictions.probability[facts.deployed_stream],
            predictions.target,
            predictions.known,
            facts.label_space.keys,
        ),
        history=tuple(read_history(Path(bundle).parent / HISTORY)),
        examples=example_pages(facts, predictions, shards, split),
    )
    write_report(Path(out), data)
    _write_predictions(predictions, facts, Path(out) / "predictions.parquet")
    return data


def stream_results(bundle: Bundle, predictions: Predictions) -> dict[str, EvaluationResult]:
    """Metrics of every stream, the deployed one first, at the thresholds that validation chose."""
    thresholds = {bundle.deployed_stream: bundle.thresholds, **bundle.teacher_thresholds}
    return {
        stream: evaluate_predictions(
            predictions.probability[stream], predictions.target, predictions.known, bundle.label_space.keys, values
        )
        for stream, values in thresholds.items()
        if stream in predictions.probability
    }


def _summary(bundle: Bundle, results: dict[str, EvaluationResult]) -> str:
    macro = results[bundle.deployed_stream].macro.auroc
    value = "undefined" if macro is None else f"{macro:.3f}"
    return f"Reading the {bundle.deployed_stream} alone, the model reaches a macro AUROC of {value}."


def _write_predictions(predictions: Predictions, bundle: Bundle, path: Path) -> None:
    columns = {"record_id": pa.array(predictions.record_id)}
    for k, key in enumerate(bundle.label_space.keys):
        known = predictions.known[:, k]
        columns[f"target_{key}"] = pa.array(predictions.target[:, k], mask=~known)
        for stream, probability in predictions.probability.items():
            columns[f"{stream}_{key}"] = pa.array(probability[:, k])
    pq.write_table(pa.table(columns), path)
