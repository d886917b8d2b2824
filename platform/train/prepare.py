"""From shards and a configuration to a job, and every mistake in them told before anything starts."""

import hashlib
from pathlib import Path

from ..bundle import Bundle, check_bundle
from ..config import TrainConfig
from ..data.balance import row_weights
from ..data.dataset_info import DatasetInfo, load_dataset_info, read_row_index
from ..data.labels import LabelSpace, load_label_space
from ..data.order import RowGroup
from ..data.read_page import PageSpec
from ..errors import UserError
from .job import TrainJob

UNIMPORTANT = {"scaling", "checkpoint", "tracking"}
"""Sections that a run may change when it goes on: its result does not depend on them."""


def make_job(
    shards: Path | str, config: TrainConfig, init_from: Path | str | None = None, builds_model: bool = True
) -> TrainJob:
    """Everything the workers need, looked up once.

    Args:
        init_from: bundle whose weights training starts from; its model and its page are taken over.
        builds_model: try the model's options, which imports all of torch.

    Raises:
        UserError: shards, configuration and bundle do not fit together.
    """
    shards = Path(shards).absolute()
    info = load_dataset_info(shards)
    start = check_bundle(init_from) if init_from else None
    if start:
        config = _taking_over(config, start, info, str(init_from))
    label_space = load_label_space(config.label_space or info.default_label_space)
    splits = {split: [RowGroup(*group) for group in read_row_index(shards, split)] for split in ("train", "val")}
    for split, least in (("train", config.batch_size), ("val", 1)):
        held = sum(group.num_rows for group in splits[split])
        if held < least:
            raise UserError(f"{shards}: the {split} split holds {held} records, and batch_size {least} needs that many")
    if builds_model:
        _check_model(config, len(label_space.labels))
    balance, train_files = config.data.balance, list(dict.fromkeys(group.file for group in splits["train"]))
    return TrainJob(
        config=config,
        label_space=label_space,
        page=_page(config, info, start),
        train=splits["train"],
        val=splits["val"],
        num_samples=info.config.num_samples,
        identity=_identity(config, label_space, info, start),
        shards=str(shards),
        dataset_fingerprint=info.fingerprint,
        sampling_rate_hz=info.sampling_rate_hz,
        sampling_weights=row_weights(train_files, label_space, balance) if balance else None,
        init_from=str(Path(init_from).absolute()) if init_from else None,
    )


def _taking_over(config: TrainConfig, start: Bundle, info: DatasetInfo, place: str) -> TrainConfig:
    """The configuration with the bundle's model."""
    asked = config.model.model_dump(include=config.model.model_fields_set - {"options"})
    held = start.model.model_dump()
    for key, value in {**asked, **config.model.options}.items():
        there = held.get(key, held["options"].get(key))
        if there != value:
            raise UserError(
                f"{place} holds a {start.model.name} whose {key} is {there!r}; the configuration asks for {value!r}; "
                "leave out `model` to go on with the bundle's"
            )
    if start.sampling_rate_hz not in (None, info.sampling_rate_hz):
        raise UserError(
            f"{place} was trained on {start.sampling_rate_hz:g} Hz and these shards have {info.sampling_rate_hz:g} Hz; "
            f"write them with --sampling-rate-hz {start.sampling_rate_hz:g}"
        )
    return config.model_copy(update={"model": start.model})


def _page(config: TrainConfig, info: DatasetInfo, start: Bundle | None) -> PageSpec:
    """How the model sees a page: as configured, as the bundle that it starts from, or as stored."""
    usual = start.page if start else PageSpec(width_px=info.page.width_px, height_px=info.page.height_px)
    return PageSpec(
        width_px=config.data.page_width_px or usual.width_px, height_px=config.data.page_height_px or usual.height_px
    )


def require_both_classes(job: TrainJob) -> None:
    """A search ranks trials by AUROC on the validation split; UserError where none of its labels can have one."""
    info = load_dataset_info(job.shards)
    counts, total = info.code_counts["val"], info.counts["val"]
    positives = [sum(counts.get(code, 0) for code in label.codes) for label in job.label_space.labels]
    if not any(0 < count < total for count in positives):
        raise UserError(
            f"{job.shards}: trials cannot be ranked, since among the {total} validation records no label of "
            f"{job.label_space.name} has both positive and negative ones; use more records or another label_space"
        )


def _check_model(config: TrainConfig, num_labels: int) -> None:
    """Build the model without its weights: a wrong option is one sentence here, and a failed run in the workers."""
    import torch

    from ...models.registry import build_model

    try:
        with torch.device("meta"):
            model = build_model(config.model.name, config.model.size, num_labels, config.model.options)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None
    stream, deployed = config.metric.split("_")[1], str(model.deployed_stream)
    if stream not in model.streams:  # pyrefly: ignore[unsupported-operation]
        raise UserError(
            f"metric = {config.metric}: {config.model.name} has no {stream} stream; "
            f"set it to {config.metric.replace(stream, deployed)}"
        )


def _identity(config: TrainConfig, label_space: LabelSpace, info: DatasetInfo, start: Bundle | None) -> str:
    """What a resumed run must share with the run it goes on from."""
    data = info.fingerprint + info.config.model_dump_json()
    facts = [config.model_dump_json(exclude=UNIMPORTANT), label_space.model_dump_json(), data]
    if start:
        facts.append(start.content_hash)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
