"""MODEL_CARD.md: a bundle for people, with what an evaluation found where there was one."""

from collections.abc import Iterable
from typing import Any

from scipy.special import expit, logit

from .bundle_facts import Bundle, Recalibration

MEASURES = {
    "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "precision": "precision", "recall": "recall",
    "brier": "Brier score", "ece": "calibration error (ECE)",
}  # fmt: skip
LABEL_MEASURES = ("auroc", "f1", "precision", "recall")


def model_card(bundle: Bundle, evaluation: dict[str, Any] | None = None) -> str:
    """The card as Markdown; `evaluation` is the content of the metrics.json that `vizecg evaluate` wrote."""
    parts = [
        f"# {bundle.model.name} ({bundle.model.size})",
        "## Intended use",
        _intended_use(bundle),
        _facts(bundle),
        "## Labels",
        _labels(bundle),
        _operating_points(bundle),
    ]
    if bundle.recalibration:
        parts += ["## Recalibration", _recalibration(bundle.recalibration)]
    if bundle.metrics:
        rows = [[name.removeprefix("val_").replace("_", " "), _number(value)] for name, value in bundle.metrics.items()]
        parts += ["## On the validation split", _table(["metric", "value"], rows)]
        parts += [
            "Of the training data, before recalibration."
            if bundle.recalibration
            else "The best epoch, calibration and thresholds were chosen here, so these figures are optimistic."
        ]
    if evaluation:
        parts += ["## Evaluation", *_evaluation(bundle.deployed_stream, evaluation)]
    return "\n\n".join(parts) + "\n"


def _intended_use(bundle: Bundle) -> str:
    reads = "a picture of a printed 12-lead ECG"
    if bundle.deployed_stream != "image":
        reads = f"the signal of a 12-lead ECG (stream {bundle.deployed_stream}), to compare models that read pages with"
    return (
        f"Reads {reads}, and gives a probability per label. For research; not a medical device, and no basis for "
        "diagnosis or treatment. It knows the labels below and nothing else: an ECG without any of them need not be "
        "normal. The probabilities hold where the labels are about as frequent as in the data they were calibrated on; "
        "`vizecg recalibrate` fits them to another site."
    )


def _facts(bundle: Bundle) -> str:
    facts = {
        "Label space": bundle.label_space.name,
        "Page as the model sees it": f"{bundle.page.width_px} x {bundle.page.height_px} px",
        "Deployed stream": f"{bundle.deployed_stream}; backend {bundle.backend}",
        "Trained by": f"VizECG {bundle.package_version} on data with fingerprint `{bundle.dataset_fingerprint[:16]}`",
        "Content hash": f"`{bundle.content_hash[:16]}`",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _labels(bundle: Bundle) -> str:
    head = ["label", "meaning", "threshold", "left open", "calibration", "positives", "negatives"]
    thresholds = bundle.thresholds
    widths = bundle.abstention_widths or [0.0] * len(thresholds)
    columns = (bundle.label_space.labels, thresholds, widths, bundle.deployed_calibration)
    rows = [
        [
            *(label.key, label.name, f"{threshold:.3f}", _left_open(threshold, width)),
            *(fit.kind, f"{fit.positives:,}", f"{fit.negatives:,}"),
        ]
        for label, threshold, width, fit in zip(*columns, strict=True)
    ]
    return _table(head, rows)


def _left_open(threshold: float, width: float) -> str:
    """The probabilities within so many log-odds of the threshold."""
    if not width or not 0 < threshold < 1:
        return ""
    low, high = expit(logit(threshold) - width), expit(logit(threshold) + width)
    return f"{low:.3f} to {high:.3f}"


def _operating_points(bundle: Bundle) -> str:
    recall = bundle.train_config.threshold_recall
    aim = "the best F1" if recall is None else f"a recall of {recall:g}"
    text = (
        "Positives and negatives are the records that a label's calibration was fitted on; `identity` is the sigmoid "
        f"of the logit, where they were too few. Thresholds, on calibrated probabilities, were chosen for {aim}."
    )
    if bundle.abstention_widths is not None:
        text += " Between the two probabilities of `left open`, the least certain tenth, a person had better decide."
    return text


def _recalibration(note: Recalibration) -> str:
    lines = [
        f"Calibration and thresholds are of {note.num_records:,} records of {', '.join(note.sources)}, with "
        f"fingerprint `{note.dataset_fingerprint[:16]}`; the weights are of bundle `{note.original_bundle[:16]}`.",
        "",
    ]
    groups = {
        "Fitted anew": note.refitted,
        "Moved to the new prevalence, for want of records to fit more": note.shifted,
        "As before, for want of positives or negatives": note.kept,
    }
    return "\n".join(lines + [f"- {what}: {', '.join(keys)}" for what, keys in groups.items() if keys])


def _evaluation(stream: str, evaluation: dict[str, Any]) -> Iterable[str]:
    """What was measured, macro means and labels of the deployed stream, with 95 % intervals where there are any."""
    result = evaluation["streams"][stream]
    intervals = evaluation.get("intervals") or {}
    intervals = intervals.get(stream, intervals)
    yield "\n".join(f"- {name}: {value}" for name, value in evaluation.get("facts", {}).items())
    macro, macro_intervals = result["macro"], intervals.get("macro", {})
    shown = [name for name in MEASURES if name in macro]
    rows = [[MEASURES[name], _number(macro[name]), _interval(macro_intervals.get(name))] for name in shown]
    yield _table(["macro mean", "value", "95 % interval"], rows)
    if evaluation.get("conditions"):
        yield from _conditions(evaluation["conditions"])
    label_intervals = intervals.get("labels", {})
    rows = [
        [
            *(label["key"], f"{label['positives']:,}"),
            *(_with_interval(label[name], label_intervals.get(label["key"], {}).get(name)) for name in LABEL_MEASURES),
        ]
        for label in result["labels"]
    ]
    yield _table(["label", "positives", *(MEASURES[name] for name in LABEL_MEASURES)], rows)


def _conditions(found: dict[str, Any]) -> Iterable[str]:
    """Macro means under each condition of the pages."""
    names = list(found["scores"][0]["macro"])
    yield f"Pages of {found['records']:,} records, printed anew from their signals, then scanned or photographed:"
    rows = [
        [line["condition"], *(_with_interval(line["macro"][name], line["intervals"][name]) for name in names)]
        for line in found["scores"]
    ]
    yield _table(["condition", *(MEASURES[name] for name in names)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    rules = ["---:" if cell[:1].isdigit() else "---" for cell in rows[0]]
    lines = [head, rules, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(interval: dict[str, float] | None) -> str:
    return f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else ""


def _with_interval(value: float | None, interval: dict[str, float] | None) -> str:
    return f"{_number(value)} ({_interval(interval)})" if interval else _number(value)
