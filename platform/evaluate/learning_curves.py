"""How training went, as charts: every part of the loss, and the validation AUROC of every stream, over epochs."""

from collections.abc import Sequence
from typing import Any

from .plots import Chart, Line

STREAM_COLORS = {"image": 1, "signal": 2, "fused": 3}


def learning_charts(history: Sequence[dict[str, Any]]) -> list[Chart]:
    """Charts of what `history`, a dictionary an epoch, holds."""
    epochs = [float(line["epoch"]) for line in history]
    names = list(dict.fromkeys(name for line in history for name in line))

    def lines(chosen: list[tuple[str, str, int]]) -> tuple[Line, ...]:
        return tuple(
            Line(name=shown, x=epochs, y=[line.get(name) for line in history], color=color)
            for name, shown, color in chosen
        )

    parts = [name for name in names if name.startswith("train_") and name != "train_loss"]
    losses = [("train_loss", "total", 5)] if "train_loss" in names else []
    losses += [(name, name.removeprefix("train_"), _color_of(name)) for name in parts]
    ends = ("val_", "_macro_auroc")
    areas = [name for name in names if name.startswith(ends[0]) and name.endswith(ends[1])]
    streams = [(name, name[len(ends[0]) : -len(ends[1])], _color_of(name)) for name in areas]
    charts = [("Training loss", lines(losses)), ("Validation macro AUROC", lines(streams))]
    return [Chart(title=title, x_label="epoch", lines=chart) for title, chart in charts if chart]


def _color_of(name: str) -> int:
    return next((color for stream, color in STREAM_COLORS.items() if stream in name), 4)
