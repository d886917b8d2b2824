"""Words and numbers that every form of the report shares."""

from typing import Any

from .bootstrap import Interval
from .metrics import FREQUENT_POSITIVES, EvaluationResult

MEASURE_NAMES = {
    "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "precision": "Precision", "recall": "Recall",
    "brier": "Brier", "ece": "ECE",
}  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    """Rounded; a dash where undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval_text(interval: Interval | None, digits: int = 3) -> str:
    """Both ends; nothing where undefined."""
    if interval is None:
        return ""
    # Beside a minus sign a dash would read as another.
    link = " to " if interval.low < 0 else "–"
    return f"{interval.low:.{digits}f}{link}{interval.high:.{digits}f}"


def duration(seconds: float) -> str:
    """In seconds, from a minute on in minutes."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def scores(result: EvaluationResult) -> dict[str, float]:
    """Scores of the whole that have a name of their own, as far as they are defined."""
    named = {"Fmax": result.fmax, "challenge score": result.challenge_score}
    return {name: value for name, value in named.items() if value is not None}


def remarks(result: EvaluationResult | None) -> list[str]:
    """What a reader must know to read the means right."""
    if result is None:
        return []
    found = []
    total = len(result.labels)
    if result.left_out:
        keys = ", ".join(result.left_out)
        found.append(
            f"Macro means count {total - len(result.left_out)} of {total} labels. "
            f"The others do not have both positive and negative records here: {keys}."
        )
    rare = [label.key for label in result.labels if label.has_both_classes and label.key not in result.frequent]
    if rare:
        found.append(f"Fewer than {FREQUENT_POSITIVES} positive records, so that luck decides: {', '.join(rare)}.")
    silent = [label.key for label in result.labels if label.has_both_classes and label.precision is None]
    if silent:
        found.append(
            f"No record reached the threshold of {', '.join(silent)}, so precision is undefined there and its mean "
            f"counts {result.macro_labels['precision']} labels."
        )
    return found


def constant_traits(subgroups: Any) -> dict[str, str]:
    """Traits that part nothing, because all records have the same value, and that value."""
    values: dict[str, list[str]] = {}
    for group in subgroups:
        values.setdefault(group.trait, []).append(group.value)
    return {trait: found[0] for trait, found in values.items() if len(found) == 1}
