"""What bundles were compiled to: found again, never taken for another's, and made anew where it is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vizecg.platform.backends import apart, cache, choose
from vizecg.platform.backends.apart import compile_apart
from vizecg.platform.backends.cache import compile_cached
from vizecg.platform.backends.probe import probe_pages
from vizecg.platform.bundle_source import local_bundle
from vizecg.platform.errors import UserError

BACKEND = "openvino-f32"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIZECG_CACHE", str(tmp_path))
    return tmp_path / "compiled"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch):
    def refuse():
        def fail(*_: object) -> None:
            raise AssertionError("compiled anew")

        monkeypatch.setattr(choose, "compile_bundle", fail)

    return refuse


def test_the_second_call_compiles_nothing_and_computes_the_same(bundle_folder: Path, place: Path, no_compiler):
    bundle, first = compile_cached(bundle_folder, BACKEND)
    no_compiler()
    again, second = compile_cached(bundle_folder, BACKEND)
    assert first == second and again == bundle
    pages = probe_pages(bundle.page)[:2]
    np.testing.assert_array_equal(first.load(1)(pages), second.load(1)(pages))


def test_another_backend_is_another_entry(bundle_folder: Path, place: Path):
    names = {compile_cached(bundle_folder, name)[1].name for name in (BACKEND, "torch-fp32")}
    assert names == {BACKEND, "torch-fp32"} and len(list(place.iterdir())) == 2


@pytest.mark.parametrize("name", ["program", "weights", "facts.json"])
def test_a_damaged_entry_is_made_anew(bundle_folder: Path, place: Path, name: str):
    _, first = compile_cached(bundle_folder, BACKEND)
    (entry,) = place.iterdir()
    (entry / name).write_bytes(b"damaged")
    _, second = compile_cached(bundle_folder, BACKEND)
    assert second.weights == first.weights
    assert (entry / name).read_bytes() != b"damaged"


def test_a_cache_that_cannot_be_written_stops_nothing(bundle_folder: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "file")
    assert compile_cached(bundle_folder, BACKEND)[1].name == BACKEND


def test_a_damaged_bundle_is_refused_also_where_it_was_compiled(bundle_folder: Path, place: Path, tmp_path: Path):
    compile_cached(bundle_folder, BACKEND)
    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        compile_cached(copy, BACKEND)


def test_a_bundle_at_a_uri_is_fetched_once(bundle_folder: Path, place: Path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(bundle_folder), "/models/new", recursive=True)
    fetched = local_bundle("memory://models/new")
    assert {file.name for file in fetched.iterdir()} == {file.name for file in bundle_folder.iterdir()}
    for file in bundle_folder.iterdir():
        assert (fetched / file.name).read_bytes() == file.read_bytes()
    assert local_bundle("memory://models/new") == fetched
    with pytest.raises(UserError, match="no model bundle"):
        local_bundle("memory://models/none")
    assert not [left for left in fetched.parent.iterdir() if left.name.startswith(".")]


def test_a_local_bundle_stays_where_it_is(bundle_folder: Path):
    assert local_bundle(str(bundle_folder)) == local_bundle(bundle_folder.as_uri()) == bundle_folder


def test_beside_requests_backends_are_compared_in_another_process(bundle_folder: Path, place: Path, no_compiler):
    no_compiler()  # In this process.
    _, compiled = compile_apart(bundle_folder)
    assert len(list(place.iterdir())) == 1
    assert compile_cached(bundle_folder)[1] == compiled


def test_where_the_other_process_fails_it_is_done_here(bundle_folder: Path, place: Path, monkeypatch):
    monkeypatch.setattr(apart.sys, "executable", "/bin/false")
    assert compile_apart(bundle_folder)[1].name
    assert len(list(place.iterdir())) == 1
