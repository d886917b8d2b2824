"""Search files: those that are shipped can run with every value they name, and a wrong one is one clear sentence."""

from pathlib import Path
from typing import Any, Protocol

import optuna
import pytest
import yaml

import vizecg
from vizecg.platform.errors import UserError
from vizecg.platform.search.config import EXTENSIBLE, SearchConfig, load_search

TUNE_CONFIGS = Path(vizecg.__file__).parent / "tune_configs"
SEARCHES = ["loss-weights", "attention-depth", "joint", "augmentation"]
BOTH = [f"{name}{twin}" for name in SEARCHES for twin in ("", ".smoke")]
BASE = {
    "model": {"size": "debug"},
    "data": {"page_width_px": 96, "page_height_px": 72},
    "batch_size": 16,
    "epochs": 2,
}
SPACE = {"objective.lambda_kd": {"log_uniform": [0.1, 10.0]}, "model.options.attention_depth": {"choice": [1, 2]}}
WEIGHT = {"objective.lambda_kd": {"uniform": [0.0, 1.0]}}


def shipped(name: str) -> SearchConfig:
    return load_search(TUNE_CONFIGS / f"{name}.yaml")


def ratio(to: str, key: str = "objective.lambda_kd") -> dict[str, Any]:
    return {"space": {key: {"log_ratio": [0.1, 10.0], "to": to}}}


class Write(Protocol):
    def __call__(self, **change: Any) -> Path: ...


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a search file."""

    def write(**change: Any) -> Path:
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump({"base": BASE, "space": SPACE, **change}))
        return path

    return write


@pytest.mark.parametrize("name", BOTH)
def test_every_value_of_a_shipped_search_makes_a_model(name: str) -> None:
    import torch

    from vizecg.models.registry import build_model

    configs = shipped(name).trial_configs()
    assert all(config.metric == "val_image_macro_auroc" for config in configs)
    for model in {config.model.model_dump_json(): config.model for config in configs}.values():
        with torch.device("meta"):
            build_model(model.name, model.size, 5, model.options)


@pytest.mark.parametrize("name", BOTH)
def test_a_point_becomes_exactly_its_settings(name: str) -> None:
    search = shipped(name)
    distributions = {key: parameter.distribution() for key, parameter in search.space.items()}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base = flat(search.trial_config(search.first_point()).model_dump())
    varied = {*search.space, *(parameter.to for parameter in search.space.values())}
    for _ in range(5):
        point = study.ask(distributions).params
        trial = flat(search.trial_config(point, seed=7).model_dump())
        for key, parameter in search.space.items():
            ratio = trial[key] / trial[parameter.to] if parameter.to else trial[key]
            assert ratio == (pytest.approx(point[key]) if parameter.to else point[key])
        assert {key for key in trial if trial[key] != base[key]} <= varied | {"seed"}
        assert trial["seed"] == 7


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    parts = (
        flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        for key, value in values.items()
    )
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_twin_is_small_and_asks_the_same(name: str) -> None:
    whole, smoke = shipped(name), shipped(f"{name}.smoke")
    assert set(smoke.space) <= set(whole.space) and smoke.minimize_latency == whole.minimize_latency
    assert (smoke.scheduler, smoke.searcher) == (whole.scheduler, whole.searcher)
    for config in whole.trial_configs():
        assert (config.model.size, config.precision, config.scaling.use_gpu) == ("base", "bf16", True)
    for config in smoke.trial_configs():
        assert config.model.size == "debug" and not config.scaling.use_gpu
        assert config.epochs * smoke.trials_wanted <= 32


def test_the_joint_search_takes_a_quarter_of_the_epochs() -> None:
    search = shipped("joint")
    (epochs,) = {config.epochs for config in search.trial_configs()}
    rungs = [search.grace_epochs]
    while rungs[-1] * search.reduction_factor < epochs:
        rungs.append(rungs[-1] * search.reduction_factor)
    survivors = float(search.trials_wanted)
    spent = survivors * rungs[0]
    for rung, following in zip(rungs, [*rungs[1:], epochs], strict=True):
        survivors /= search.reduction_factor
        spent += survivors * (following - rung)
    assert search.trials_wanted == 40 and spent <= 40 * epochs / 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"space": {"objective.lambda_kt": {"uniform": [0, 1]}}}, "did you mean 'objective.lambda_kd'"),
        ({"space": {}}, "space"),
        ({"space": {"epochs": {"choice": []}}}, "space.epochs.choice"),
        ({"space": {"epochs": {"choice": [1], "uniform": [0, 1]}}}, "exactly one of"),
        ({"space": {"epochs": {"choices": [1]}}}, "space.epochs: 'choices' is none of"),
        ({"space": {"epochs": [1, 2]}}, "space.epochs = .* such as {choice:"),
        ({"space": {"epochs": {"choice": [1, [2]]}}}, r"\[2\] is no text"),
        ({"space": {"epochs": {"choice": ["many"]}}}, "epochs = 'many'"),
        ({"space": {"epochs": {"uniform": [2, 4.5]}}}, r"epochs = 4\.5: .*integer"),
        ({"space": {"batch_size": {"integers": [16, 32]}}}, "17 is no multiple"),
        ({"space": {"optimizer.learning_rate": {"log_uniform": [0.0, 1.0]}}}, "no range"),
        ({"space": {"optimizer.learning_rate": {"uniform": [1.0, 0.1]}}}, "no range"),
        ({"space": {"optimizer.learning_rate": {"uniform": [0.1]}}}, "give both ends"),
        ({"space": {"optimizer.learning_rate": {"uniform": [-1.0, 1.0]}}}, "optimizer.learning_rate"),
        ({"space": {"metric": {"choice": ["val_image_macro_f1"]}}}, "metric cannot vary: trials are ranked by it"),
        (ratio("objective.lambda_ks"), "'objective.lambda_ks' is none there; did you mean"),
        (ratio("optimizer.name"), "'optimizer.name' is none there"),
        (ratio("data.page_width_px", key="data.balance"), r"data\.page_width_px"),
        (ratio("objective.lambda_kd"), "objective.lambda_kd is set by two dimensions"),
        ({"space": {**ratio("objective.lambda_cls")["space"], "objective.lambda_cls": {"choice": [1]}}}, "set by two"),
        ({**ratio("data.page_shift_px", key="data.balance")}, "sum with data.page_shift_px, and that is 0"),
        ({"trials": 3}, "did you mean 'num_trials'"),
        ({"num_trials": 0}, "num_trials = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"budget_device_hours": 0}, "budget_device_hours"),
        ({"confirm": {"tops": 1}}, "'confirm.tops'"),
        ({"scheduler": "hyperband2"}, "scheduler"),
        ({"base": {**BASE, "metric": "val_image_macro_aroc"}}, "base: metric = 'val_image_macro_aroc'"),
        ({"base": {**BASE, "epoch": 3}}, "base: unknown key 'epoch'; did you mean 'epochs'"),
        ({"grace_epochs": 3}, "grace_epochs = 3: trials have 2 epochs"),
        ({"grace_epochs": 2, "space": {"epochs": {"choice": [4, 1]}}}, "trials have 1 epochs"),
        ({"searcher": "grid"}, "lambda_kd is a range; give its values as `choice`"),
        ({"searcher": "grid", "space": {"seed": {"integers": [0, 10**9]}}}, "seed is a range"),
        ({"scheduler": "pbt"}, "model.options.attention_depth cannot change while a run goes on"),
        ({"scheduler": "pbt", "space": {"data.page_width_px": {"choice": [96, 128]}}}, "data.page_width_px cannot"),
        ({"scheduler": "pbt", "space": {"optimizer.name": {"choice": ["sgd", "adam"]}}}, "optimizer.name cannot"),
        ({"scheduler": "pbt", "space": WEIGHT, "base": {**BASE, "scaling": {"num_workers": 2}}}, "num_workers 1"),
        ({"scheduler": "pbt", "space": WEIGHT, "perturb_epochs": 2}, "perturb_epochs = 2: trials have 2 epochs"),
        ({"scheduler": "pbt", "space": WEIGHT, "minimize_latency": True}, "pbt does not vary the model"),
    ],
)
def test_a_wrong_search_is_one_sentence_before_anything_starts(
    change: dict[str, Any], sentence: str, write: Write
) -> None:
    path = write(**change)
    with pytest.raises(UserError, match=sentence) as error:
        load_search(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")


def test_overrides_go_over_the_file(write: Write) -> None:
    search = load_search(write(), ["num_trials=12", "base.epochs=9", "confirm={top: 2}"])
    assert search.trials_wanted == 12 and search.trial_configs()[0].epochs == 9
    assert search.confirm and (search.confirm.top, search.confirm.seeds) == (2, 3)
    with pytest.raises(UserError, match="did you mean 'num_trials'"):
        load_search(write(), ["num_trial=12"])


def test_population_training_takes_what_keeps_the_model(write: Write) -> None:
    space = {**WEIGHT, "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "data.page_shift_px": {"choice": [0]}}
    assert load_search(write(scheduler="pbt", space=space)).scheduler == "pbt"


def test_a_grid_has_as_many_trials_as_points(write: Write) -> None:
    space = {"epochs": {"integers": [2, 4]}, "model.options.attention_depth": {"choice": [1, 2]}}
    assert load_search(write(searcher="grid", space=space)).trials_wanted == 6
    assert load_search(write(searcher="grid", space=space, num_trials=4)).trials_wanted == 4
    assert load_search(write(searcher="grid", space=space, num_trials=40)).trials_wanted == 6
    assert load_search(write(searcher="random", space=space)).trials_wanted == 8


def test_a_ratio_keeps_the_sum_of_the_base(write: Write) -> None:
    weights = {"lambda_kd": 3.0, "lambda_cls": 1.0}
    search = load_search(write(base={**BASE, "objective": weights}, **ratio("objective.lambda_cls")))
    objective = search.trial_config({"objective.lambda_kd": 0.25}).objective
    assert (objective.lambda_kd, objective.lambda_cls) == pytest.approx((0.8, 3.2))


def test_a_search_is_read_as_it_is_written() -> None:
    for name in BOTH:
        search = shipped(name)
        assert SearchConfig.model_validate_json(search.model_dump_json()) == search
    assert set(SearchConfig.model_fields) >= EXTENSIBLE
