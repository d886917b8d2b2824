"""Which bundle answers: the default one, those that requests name, one on trial; and what changes while they answer."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vizecg.models.registry import build_model
from vizecg.platform.bundle import Bundle, read_facts, save_bundle
from vizecg.platform.errors import UserError
from vizecg.serve import models
from vizecg.serve.batcher import Predicted
from vizecg.serve.models import ModelShelf, ServedModel
from vizecg.serve.problems import Refused
from vizecg.serve.settings import DEFAULT_MODEL, Canary, LiveSettings


async def predict(page: np.ndarray) -> Predicted:
    return Predicted(np.zeros(7, np.float32), 1, 0.0)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return read_facts(bundle_folder)


MakeShelf = Callable[..., ModelShelf]


@pytest.fixture
def make_shelf(bundle: Bundle, bundle_folder: Path) -> MakeShelf:
    def model(name: str, is_canary: bool = False, facts: Bundle = bundle) -> ServedModel:
        return ServedModel(name, bundle_folder, facts, "none", predict, is_canary)

    def make(canary_facts: Bundle = bundle, loaded: list[str] | None = None) -> ModelShelf:
        async def load_other(name: str) -> ServedModel:
            if name == "broken":
                raise UserError("no model bundle here")
            (loaded if loaded is not None else []).append(name)
            return model(name)

        others = {"old": "somewhere", "broken": "nowhere"}
        return ModelShelf(
            model(DEFAULT_MODEL), others, load_other, lambda canary: model(DEFAULT_MODEL, True, canary_facts)
        )

    return make


def configure(shelf: ModelShelf, settings: LiveSettings) -> None:
    shelf.take(shelf.prepared(settings))


def chosen(shelf: ModelShelf, name: str = DEFAULT_MODEL, request_id: str = "r") -> ServedModel:
    return asyncio.run(shelf.choose(name, request_id))


def test_a_request_gets_the_model_it_names(make_shelf: MakeShelf):
    loaded: list[str] = []
    shelf = make_shelf(loaded=loaded)
    assert chosen(shelf).name == DEFAULT_MODEL and loaded == []
    assert chosen(shelf, "old").name == "old" and loaded == ["old"]
    for name, status, code in [("unknown", 404, "no_such_model"), ("broken", 503, "model_unavailable")]:
        with pytest.raises(Refused) as caught:
            chosen(shelf, name)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert "bundle here" not in caught.value.detail, "where bundles lie is for the log"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_canary_answers_its_share_and_every_try_of_a_request(make_shelf: MakeShelf, share: float):
    shelf = make_shelf()
    configure(shelf, LiveSettings(canary=Canary(bundle="new", share=share)))
    picked = [chosen(shelf, request_id=f"request-{n}").is_canary for n in range(2000)]
    assert np.mean(picked) == pytest.approx(share, abs=0.03)
    assert picked == [chosen(shelf, request_id=f"request-{n}").is_canary for n in range(2000)]
    assert not chosen(shelf, "old").is_canary
    assert [model.canary_share for model in shelf.listed().models][:2] == [0.0, share]
    configure(shelf, LiveSettings())
    assert not any(chosen(shelf, request_id=f"request-{n}").is_canary for n in range(100))


def test_thresholds_change_for_their_model_alone(make_shelf: MakeShelf, bundle: Bundle):
    shelf = make_shelf()
    keys = bundle.label_space.keys
    configure(shelf, LiveSettings(thresholds={DEFAULT_MODEL: {"AF": 0.123}}))
    told = dict(zip(keys, shelf.thresholds(chosen(shelf)), strict=True))
    assert told.pop("AF") == (0.123, "endpoint")
    assert told == {key: (value, "bundle") for key, value in zip(keys, bundle.thresholds, strict=True) if key != "AF"}
    assert [threshold.value for threshold in shelf.thresholds(chosen(shelf, "old"))] == bundle.thresholds


def test_a_mistake_changes_nothing(make_shelf: MakeShelf, bundle: Bundle):
    labels = bundle.label_space.model_copy(update={"labels": bundle.label_space.labels[::-1]})
    shelf = make_shelf(canary_facts=bundle.model_copy(update={"label_space": labels}))
    good = LiveSettings(thresholds={DEFAULT_MODEL: {"AF": 0.2}})
    configure(shelf, good)
    for wrong, words in [
        (LiveSettings(thresholds={"nobody": {}}), "not served"),
        (LiveSettings(thresholds={DEFAULT_MODEL: {"AFF": 0.5}}), "AFF"),
        (LiveSettings(canary=Canary(bundle="new", share=0.5)), "labels"),
    ]:
        with pytest.raises(UserError, match=words):
            configure(shelf, wrong)
        assert (0.2, "endpoint") in shelf.thresholds(chosen(shelf)) and not chosen(shelf).is_canary


def test_codes_of_snomed_come_first(make_shelf: MakeShelf):
    model = chosen(make_shelf())
    assert model.codes(model.label_index("AF"))[0].code == "164889003"
    with pytest.raises(Refused, match="NORM"):
        model.label_index("nothing")


def test_a_model_that_made_room_for_another_is_not_listed_as_loaded(make_shelf: MakeShelf):
    shelf = make_shelf()

    def loaded() -> list[bool]:
        return [model.loaded for model in shelf.listed().models]

    assert loaded() == [True, False, False]
    held = chosen(shelf, "old")
    assert loaded() == [True, True, False]
    del held
    assert loaded() == [True, False, False]


def test_whoever_asks_for_a_model_that_is_being_loaded_is_told_when_to_come_again(bundle: Bundle, bundle_folder: Path):
    async def never(name: str) -> ServedModel:
        await asyncio.Event().wait()
        raise AssertionError

    async def run(monkeypatch: pytest.MonkeyPatch) -> Refused:
        default = ServedModel(DEFAULT_MODEL, bundle_folder, bundle, "none", predict)
        shelf = ModelShelf(default, {"slow": "there"}, never, lambda canary: default)
        monkeypatch.setattr(models, "MAX_WAIT_S", 0.01)
        with pytest.raises(Refused) as caught:
            await shelf.choose("slow", "r")
        return caught.value

    with pytest.MonkeyPatch.context() as monkeypatch:
        refused = asyncio.run(run(monkeypatch))
    assert (refused.status, refused.code) == (503, "model_loading") and refused.retry_after_s


def test_weights_that_were_replaced_meanwhile_explain_nothing(bundle: Bundle, bundle_folder: Path, tmp_path: Path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    model = ServedModel(DEFAULT_MODEL, folder, bundle, "none", predict)
    torch.manual_seed(7)
    other = build_model(bundle.model.name, bundle.model.size, len(bundle.label_space.labels))
    save_bundle(folder, bundle, other.state_dict())
    with pytest.raises(Refused, match="replaced") as caught:
        model.explainer()
    assert caught.value.code == "bundle_replaced"
    same = ServedModel(DEFAULT_MODEL, bundle_folder, bundle, "none", predict)
    assert same.explainer().bundle.content_hash == bundle.content_hash
