"""summary.json: what the scores of a run come to, as numbers."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ..bundle_facts import Bundle
from ..drift import Word, label_drift
from .finished import write_json
from .identity import SUMMARY
from .tally import LabelTally, Tally, count_scores

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_GROUPS: dict[str, Word | None] = {
    "like": "like the training data", "shifted": "shifted", "very_different": "very different", "too_few_pages": None,
}  # fmt: skip


def summarise(out: str, bundle: Bundle, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that summary.json says of the files in OUT/scores, ready for JSON.

    Args:
        facts: of the run, taken over as they are: seconds, pages_per_s, backend, and input with place, kind, items and
            left_out.
    """
    tally = count_scores(out, bundle)
    labels = {key: _label(tally, bundle, number) for number, key in enumerate(tally.labels)}
    counted = {
        "pages": tally.pages,
        "scored": tally.scored,
        "rejected": dict(sorted(tally.rejected.items())),
        "findings": {key: label.found for key, label in tally.labels.items()},
        "bundle_hash": bundle.content_hash,
        "duplicates": tally.duplicates,
        "turned": tally.turned,
        "noted": tally.noted,
        "uncertain": tally.uncertain,
        "num_files": tally.num_files,
        "backends": dict(sorted(tally.backends.items())),
        "first_scored_at": tally.first.isoformat() if tally.first else None,
        "last_scored_at": tally.last.isoformat() if tally.last else None,
        "log_odds_edges": list(tally.log_odds_edges),
        "labels": labels,
        "drift": _drift(labels, bundle),
    }
    assert not counted.keys() & facts.keys(), f"facts count anew: {counted.keys() & facts.keys()}"
    return counted | dict(facts)


def write_summary(out: str, summary: Mapping[str, Any]) -> None:
    """OUT/summary.json, whole or not at all; OUT is a local folder or a URI."""
    write_json(out, SUMMARY, summary)


def _label(tally: Tally, bundle: Bundle, number: int) -> dict[str, Any]:
    key = bundle.label_space.keys[number]
    label, scored = tally.labels[key], tally.scored
    return {
        "name": bundle.label_space.labels[number].name,
        "threshold": bundle.thresholds[number],
        "found": label.found,
        "share": label.found / scored if scored else None,
        "mean_probability": label.total / scored if scored else None,
        "quantiles": _quantiles(label.histogram, tally.log_odds_edges),
        "uncertain": label.uncertain,
        "histogram": label.histogram.tolist(),
        "reference": _reference(bundle, number),
        "drift": _label_drift(label, bundle, number),
    }


def _reference(bundle: Bundle, number: int) -> dict[str, Any] | None:
    """What the bundle says of one label where it was calibrated."""
    if (reference := bundle.reference) is None:
        return None
    return {
        "prevalence": reference.prevalence[number],
        "share": reference.flagged[number],
        "mean_probability": reference.mean_probability[number],
        "histogram": reference.histogram[number],
    }


def _label_drift(label: LabelTally, bundle: Bundle, number: int) -> dict[str, Any] | None:
    if (reference := bundle.reference) is None:
        return None
    counts = np.array(reference.histogram[number])
    found = label_drift(label.histogram, counts, label.found, reference.flagged[number])
    return asdict(found) if found else None


def _drift(labels: Mapping[str, dict[str, Any]], bundle: Bundle) -> dict[str, Any] | None:
    """Keys of labels by what is said of them; None where the bundle has no reference."""
    if bundle.reference is None:
        return None
    words = {key: label["drift"] and label["drift"]["word"] for key, label in labels.items()}
    groups = {name: [key for key in words if words[key] == word] for name, word in _GROUPS.items()}
    return {"reference_records": bundle.reference.num_records, **groups}


def _quantiles(histogram: NDArray[np.int64], log_odds_edges: tuple[float, ...]) -> dict[str, float] | None:
    """Probabilities below which these shares of the pages lie, within their bin by a straight line in log-odds."""
    if not histogram.sum():
        return None
    step = log_odds_edges[1] - log_odds_edges[0]
    ends = np.array([log_odds_edges[0] - step, *log_odds_edges, log_odds_edges[-1] + step])
    share = np.concatenate([[0.0], np.cumsum(histogram) / histogram.sum()])
    found = np.interp(QUANTILES, share, ends)
    return {f"{quantile:g}": float(expit(value)) for quantile, value in zip(QUANTILES, found, strict=True)}
