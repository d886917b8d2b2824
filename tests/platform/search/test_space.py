"""Dimensions of a search: which are refused, what Optuna draws from them, what a value means for a configuration."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from pydantic import ValidationError

from vizecg.platform.search.space import MAX_COUNTED, Parameter, named

PARAMETERS = [
    Parameter(choice=[1, 2, 4]),
    Parameter(choice=[True, False]),
    Parameter(choice=[None, "drawn", 0.5]),
    Parameter(uniform=(-1.0, 1.0)),
    Parameter(log_uniform=(1e-5, 1e-1)),
    Parameter(integers=(0, 4)),
    Parameter(log_ratio=(0.03, 30.0), to="objective.lambda_cls"),
]


@settings(max_examples=100, deadline=None)
@given(
    ratio=st.floats(1e-3, 1e3),
    first=st.floats(0, 100),
    second=st.floats(0, 100).filter(lambda value: value > 1e-3),
)
def test_a_ratio_keeps_the_sum(ratio: float, first: float, second: float) -> None:
    parameter = Parameter(log_ratio=(1e-3, 1e3), to="b")
    values = parameter.settings("a", ratio, {"a": first, "b": second})
    assert set(values) == {"a", "b"}
    assert values["a"] / values["b"] == pytest.approx(ratio)
    assert values["a"] + values["b"] == pytest.approx(first + second)


def test_a_ratio_of_one_leaves_equal_weights_as_they_are() -> None:
    parameter = Parameter(log_ratio=(0.1, 10), to="objective.lambda_cls")
    base = {"objective.lambda_kd": 1.0, "objective.lambda_cls": 1.0}
    assert parameter.settings("objective.lambda_kd", 1.0, base) == base


def test_another_value_is_the_setting_itself() -> None:
    assert Parameter(choice=[None, 2]).settings("early_stopping.patience", None, {}) == {
        "early_stopping.patience": None
    }


@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_optuna_draws_what_the_parameter_says(parameter: Parameter) -> None:
    distribution = parameter.distribution()
    # create_trial refuses a value that the distribution does not hold.
    for value in parameter.candidates():
        trial = optuna.create_trial(params={"key": value}, distributions={"key": distribution}, value=0.0)
        assert trial.params == {"key": value} and type(trial.params["key"]) is type(value)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask({"key": distribution}).params["key"] for _ in range(40)]
    if parameter.values is not None:
        assert set(drawn) == set(parameter.values)
    elif parameter.range:
        low, high = parameter.range
        middle = (low * high) ** 0.5 if parameter.is_log else (low + high) / 2
        assert all(low <= value <= high for value in drawn)
        assert 8 <= sum(value < middle for value in drawn) <= 32, "as many below the middle as above it"


def test_what_can_be_counted_is() -> None:
    assert Parameter(integers=(2, 5)).candidates() == [2, 3, 4, 5]
    assert Parameter(choice=[True, None]).candidates() == [True, None]
    assert Parameter(uniform=(0.0, 1.0)).values is None and Parameter(uniform=(0.0, 1.0)).candidates() == [0.0, 1.0]
    assert len(Parameter(integers=(1, MAX_COUNTED)).candidates()) == MAX_COUNTED
    assert Parameter(integers=(0, 2**40)).candidates() == [0, 2**40], "not a list of 2^40 numbers"


def test_kinds_of_a_choice_stay_as_written() -> None:
    values = Parameter.model_validate({"choice": [1, 2.0, "drawn", None]}).choice or []
    assert values == [1, 2.0, "drawn", None] and [type(value) for value in values[:2]] == [int, float]
    (flag,) = Parameter.model_validate({"choice": [True]}).choice or []
    assert flag is True
    assert Parameter.model_validate({"choice": ["1e-4", "x"]}).choice == [1e-4, "x"], "YAML 1.1 reads 1e-4 as text"
    assert isinstance(Parameter(choice=[1, 2]).distribution(), CategoricalDistribution)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_a_parameter_is_read_as_it_is_written(parameter: Parameter) -> None:
    assert Parameter.model_validate(parameter.model_dump(mode="json")) == parameter
    assert Parameter.model_validate_json(parameter.model_dump_json()) == parameter


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({}, "give exactly one of"),
        ({"choice": [1], "uniform": [0, 1]}, "give exactly one of"),
        ({"to": "objective.lambda_cls"}, "give exactly one of"),
        ({"choice": None}, "give exactly one of"),
        ({"choices": [1]}, "'choices' is none of choice, uniform"),
        ([1, 2], r"such as \{choice: \[1, 2\]\}"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": [1, [2]]}, r"\[2\] is no text, number"),
        ({"choice": [1, True]}, "stands there twice"),
        ({"uniform": [1.0]}, "no range; give both ends"),
        ({"uniform": [1.0, 2.0, 3.0]}, "no range; give both ends"),
        ({"uniform": [1.0, 1.0]}, "is no range"),
        ({"uniform": [2.0, 1.0]}, "is no range"),
        ({"uniform": [0.0, float("inf")]}, "finite"),
        ({"integers": [0.5, 2]}, "integer"),
        ({"log_uniform": [0.0, 1.0]}, "starts above 0"),
        ({"log_ratio": [-1.0, 1.0], "to": "objective.lambda_cls"}, "starts above 0"),
        ({"log_ratio": [0.1, 1.0]}, "belong together"),
        ({"uniform": [0.1, 1.0], "to": "objective.lambda_cls"}, "belong together"),
    ],
)
def test_a_wrong_dimension_is_refused(written: object, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Parameter.model_validate(written)


def test_names_are_short() -> None:
    assert named("optimizer.learning_rate", Parameter(log_uniform=(1e-4, 1e-2))) == "learning_rate"
    ratio = Parameter(log_ratio=(0.1, 10), to="objective.lambda_cls")
    assert named("objective.lambda_kd", ratio) == "lambda_kd / lambda_cls"
