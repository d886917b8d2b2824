"""What trials hold of a cluster."""

import pytest

from vizecg.platform.config import parse_config
from vizecg.platform.errors import UserError
from vizecg.platform.search.config import SearchConfig
from vizecg.platform.search.resources import devices_of, greatest_need, trials_at_once


def make_search(scaling: dict, **values: object) -> SearchConfig:
    space = {"objective.temperature": {"choice": [1.0]}}
    return SearchConfig.model_validate({"base": {"scaling": scaling}, "space": space, **values})


@pytest.mark.parametrize(
    ("scaling", "gpus_per_trial", "nodes", "at_once"),
    [
        ({}, 1.0, [{"CPU": 2}], 2),
        ({}, 1.0, [{"CPU": 2}, {"CPU": 3}, {}], 5),
        ({"num_workers": 2}, 1.0, [{"CPU": 2}], 1),
        ({"num_workers": 2}, 1.0, [{"CPU": 1}, {"CPU": 1}, {"CPU": 3}], 2),
        ({"use_gpu": True}, 1.0, [{"CPU": 16, "GPU": 4}], 4),
        ({"use_gpu": True}, 0.5, [{"CPU": 16, "GPU": 4}], 8),
        ({"use_gpu": True}, 0.5, [{"CPU": 3, "GPU": 4}], 3),
        ({"use_gpu": True}, 0.2, [{"CPU": 99, "GPU": 1}], 5),
        ({"use_gpu": True}, 0.1, [{"CPU": 99, "GPU": 1}], 10),
        ({"use_gpu": True}, 0.4, [{"CPU": 99, "GPU": 4}], 8),
        ({"use_gpu": True}, 2.0, [{"CPU": 99, "GPU": 5}], 2),
        ({"use_gpu": True, "num_workers": 4}, 1.0, [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 4}], 2),
    ],
)
def test_as_many_trials_run_as_the_nodes_hold(
    scaling: dict, gpus_per_trial: float, nodes: list[dict], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    search = make_search({**scaling}, gpus_per_trial=gpus_per_trial)
    named = {str(number): node for number, node in enumerate(nodes)}
    need = greatest_need(search, search.trial_configs())
    assert trials_at_once(named, need, search) == at_once
    assert trials_at_once(named, need, search.model_copy(update={"max_concurrent": 1})) == 1
    assert sum(devices_of(named, need).values()) >= at_once * need.devices - 1e-9


def test_a_search_without_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    search = make_search({"use_gpu": True})
    need = greatest_need(search, [parse_config(search.base, "base")])
    with pytest.raises(UserError, match="needs 1 CPUs and 1 GPUs and this cluster has 4 and 0"):
        trials_at_once({"a": {"CPU": 4.0}}, need, search)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert trials_at_once({"a": {"CPU": 4.0}}, need, search.model_copy(update={"max_concurrent": 3})) == 3
