"""Verbs that judge and adapt a model: evaluate, recalibrate."""

from pathlib import Path

from .app import Count, Listed, app


@app.command
def evaluate(
    bundle: Path, shards: Path, out: Path, *, split: str = "test", against: Path | None = None,
    conditions: Listed = False, varied: bool = False, actors: Count = 1,
) -> None:  # fmt: skip
    """Metrics of a bundle on shards: report.html, metrics.json, metrics.md, a model card.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    shards
        Folder written by `vizecg shard`.
    out
        Folder for the results.
    split
        train, val, test or all.
    against
        Another bundle with the same labels, to compare with on the same records.
    conditions
        Also print the records anew and scan or photograph the prints: all conditions, or a list such as
        clean,scan-bw.
    varied
        Of these, print every record in another way, as devices do, in place of the shards' own.
    actors
        Predictors at once.
    """
    from ..console import finished, show_evaluation, working
    from ..data.artefacts import PRESETS
    from ..evaluate.run import evaluate_bundle

    # Without a list, the bare option means all.
    named = conditions.split(",") if isinstance(conditions, str) else PRESETS if conditions else ()
    with working(f"evaluating on {split}"):
        data = evaluate_bundle(
            bundle, shards, out, split=split, num_actors=actors, against=against, conditions=tuple(named), varied=varied
        )
    show_evaluation(data)
    finished(f"report in {out}/report.html", f"vizecg serve {bundle}")


@app.command
def recalibrate(bundle: Path, labelled_pages: Path, out: Path, *, split: str = "all", actors: Count = 1) -> None:
    """Fit a bundle's probabilities and thresholds to another site's labelled pages; its weights stay.

    Parameters
    ----------
    bundle
        Folder of the model bundle.
    labelled_pages
        Shards, or an archive of labelled pages.
    out
        Folder for the new bundle.
    split
        train, val, test or all.
    actors
        Predictors at once.
    """
    from ..console import finished, working
    from ..evaluate.recalibrate import recalibrate_bundle

    with working("reading labelled pages"):
        done = recalibrate_bundle(bundle, labelled_pages, out, split=split, num_actors=actors)
    for sentence in done.sentences():
        print(sentence)
    finished(f"the recalibrated model is in {done.folder}", f"vizecg serve {done.folder}")
