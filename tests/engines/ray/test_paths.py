"""Relative paths are those of the process that sweeps, although workers run in folders of their own."""

from pathlib import Path

import pytest

from hagpolicy import DecodingConfig, load_engine
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from tests.engines.ray.running import WORLD, begun, on_ray, requests
from tests.support.ray_worlds import Located, Noted
from tests.support.servers.model_folders import tiny_folder
from tests.support.tiny_gguf import write_tiny_gguf

CELL = Request(Prompt("what is red"), DecodingConfig(temperature=0.0), 0, 1, 4)


@pytest.fixture
def elsewhere(cluster, tmp_path, monkeypatch):
    """This process runs in a folder in which no worker does."""
    monkeypatch.chdir(tmp_path)
    with on_ray(cluster, Located) as engine:
        assert engine.name.startswith("in:/")
        assert engine.name != f"in:{tmp_path}"
    return tmp_path


def test_a_relative_folder_is_found_by_workers(cluster, elsewhere):
    tiny_folder(elsewhere / "models" / "tiny")
    here = load_engine("models/tiny", device="cpu")
    with on_ray(cluster, "models/tiny", device="cpu") as engine:
        assert engine.fingerprint == here.fingerprint
        assert engine.generate([CELL])[0].text == here.generate([CELL])[0].text


@pytest.mark.servers
@pytest.mark.parametrize("given", ["transformers:./tiny", Path("tiny"), {"engine": "tiny"}], ids=str)
def test_a_relative_folder_is_found_however_it_is_given(cluster, elsewhere, given):
    tiny_folder(elsewhere / "tiny")
    with on_ray(cluster, given, device="cpu") as engine:
        assert engine.name == "transformers:tiny"


@pytest.mark.servers
@pytest.mark.parametrize("given", ["tiny.gguf", "transformers:tiny.gguf"])
def test_a_relative_file_and_a_relative_cache_are_found(cluster, elsewhere, given):
    write_tiny_gguf(elsewhere / "tiny.gguf")
    here = load_engine("tiny.gguf", device="cpu")
    with on_ray(cluster, given, device="cpu", cache="cache") as engine:
        assert engine.fingerprint == here.fingerprint
    assert [path.suffix for path in (elsewhere / "cache").iterdir()]


@pytest.mark.servers
def test_a_relative_path_of_ones_own_engine_is_found(cluster, elsewhere):
    with on_ray(cluster, Noted, seed=4, log=Path("log")) as engine:
        engine.generate(requests(WORLD, 1)[0])
    assert len(begun(elsewhere / "log")) == 1
