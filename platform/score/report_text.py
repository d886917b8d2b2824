"""Words and numbers of what a scoring run tells at its end."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..bundle_facts import Bundle

_MAX_NAMED = 8
_WHAT_TO_DO = (
    " Either the patients are others, so that a finding is more or less frequent here; or the pages are, with other "
    "devices, layouts, scans or photos; or they are read worse. The answers alone cannot say which. Look at some pages "
    "with these findings, and at some without, before their numbers are used. With a few hundred labelled pages, "
    "vizecg evaluate says how well they are read, and vizecg recalibrate fits the bundle to them."
)


def count(number: int) -> str:
    """With commas."""
    return f"{number:,}"


def percent(share: float | None) -> str:
    """To two digits below ten percent, so that rare labels can be told apart; a dash where undefined."""
    if share is None:
        return "–"
    value = 100 * share
    if 0 < value < 0.005:
        return "<0.01 %"
    return f"{value:.{0 if value in (0, 100) else 2 if value < 1 else 1}f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.{2 if abs(difference) < 0.01 else 1}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """In the two greatest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left_s:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def named(keys: Iterable[str]) -> str:
    """The first few, and how many more."""
    keys = list(keys)
    rest = f" and {len(keys) - _MAX_NAMED} more" if len(keys) > _MAX_NAMED else ""
    return ", ".join(keys[:_MAX_NAMED]) + rest


def reference_of(bundle: Bundle) -> str:
    """Which records the reference of a bundle is of."""
    if bundle.reference is None:
        return ""
    records = f"{count(bundle.reference.num_records)} records"
    if bundle.recalibration is None:
        return f"{records} of the training data's validation split"
    return f"{records} of {named(bundle.recalibration.sources)}, on which the bundle was recalibrated"


def drift_words(summary: Mapping[str, Any]) -> str:
    """In one line which labels drifted."""
    drift = summary["drift"]
    if drift is None:
        return "drift unknown: the bundle does not say what the model answered on its training data"
    said = {
        "very different": drift["very_different"], "shifted": drift["shifted"], "too few pages": drift["too_few_pages"],
    }  # fmt: skip
    parts = [f"{word}: {named(keys)}" for word, keys in said.items() if keys]
    if len(drift["like"]) == len(summary["labels"]):
        parts.append("every label is answered like on the training data")
    elif drift["like"]:
        parts.append(f"like the training data: {len(drift['like'])} of {len(summary['labels'])} labels")
    return "; ".join(parts)


def verdict(summary: Mapping[str, Any], bundle: Bundle) -> list[str]:
    """What drift there is and what to do about it, for those who treat patients: a paragraph each."""
    drift = summary["drift"]
    if drift is None:
        return [
            "Whether these pages are like those that the model learned from cannot be said: this bundle does not hold "
            "what the model answered there. Bundles written since do; vizecg recalibrate on labelled pages adds it."
        ]
    if not summary["scored"]:
        return ["No page was scored, so nothing can be compared."]
    found = [
        f"Compared are the model's answers on these {count(summary['scored'])} pages with those on "
        f"{reference_of(bundle)}. Where patients and pages are alike, so are the answers."
    ]
    groups = {"Very different": drift["very_different"], "Shifted": drift["shifted"]}
    moved = [f"{word}: {named(keys)}." for word, keys in groups.items() if keys]
    if moved:
        found.append(" ".join(moved) + _WHAT_TO_DO)
    elif drift["like"]:
        found.append(
            f"They are alike for {_of(len(drift['like']), len(summary['labels']))}. This does not prove them right: "
            "only pages whose truth is known can."
        )
    if drift["too_few_pages"]:
        found.append(f"Too few pages or records to tell: {named(drift['too_few_pages'])}.")
    return found


def _of(part: int, whole: int) -> str:
    if whole == 1:
        return "the label"
    return f"all {whole} labels" if part == whole else f"{part} of {whole} labels"
