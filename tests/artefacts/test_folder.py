"""Artefacts: folders of JSON and safetensors with a record of what they were made from."""

from __future__ import annotations

import json

import pytest

from hagpolicy import DecodingConfig, InvalidInput, Prompt
from hagpolicy.artefacts import load_artefacts, open_artefact, write_record
from tests.support.adapter_folder import make_adapter_folder


def test_an_artefact_is_known_by_its_files_and_not_by_its_record(tmp_path):
    folder = make_adapter_folder(tmp_path / "sql", b"weights")
    bare = open_artefact("adapter", "sql", folder)
    assert bare.origin is None
    write_record(folder, "adapter", [Prompt("why is the sky blue?", group="g")], {"epochs": 3})
    (folder / "README.md").write_text("whatever")
    recorded = open_artefact("adapter", "sql", folder)
    assert recorded.digest == bare.digest
    assert recorded.about == {"epochs": 3}
    assert recorded.origin is not None
    assert recorded.origin.pin == recorded.pin == f"sql@{bare.digest[:16]}"
    assert DecodingConfig(adapter=recorded.pin).adapter == recorded.pin
    assert open_artefact("adapter", "sql", make_adapter_folder(tmp_path / "other", b"others")).digest != bare.digest


def test_a_record_tells_whether_a_prompt_was_seen_and_names_none(tmp_path):
    folder = make_adapter_folder(tmp_path / "sql")
    write_record(folder, "adapter", [Prompt("Why is the sky blue?", group="weather"), Prompt("Say hello")])
    origin = open_artefact("adapter", "sql", folder).origin
    assert origin is not None
    assert origin.saw(Prompt("why  is the sky blue?"))
    assert origin.saw(Prompt("Will it rain?", group="weather"))
    assert origin.saw(Prompt("Say hello", reference="hello", task="t"))
    assert not origin.saw(Prompt("Say goodbye", group="greetings"))
    text = (folder / "artefact.json").read_text()
    assert "sky" not in text
    assert "weather" not in text
    write_record(make_adapter_folder(tmp_path / "b"), "adapter", [Prompt("Say hello")])
    other = open_artefact("adapter", "sql", tmp_path / "b").origin
    assert other is not None
    assert origin.digests.isdisjoint(other.digests)  # each has a salt of its own


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"adaptor": {}}, "adapter"),
        ({"adapter": ["path"]}, "a mapping of names to folders"),
        ({"adapter": {"sql": 3}}, "the path of a folder"),
        ({"adapter": {"s q l": "x"}}, "a name of letters"),
        ({"adapter": {"sql@0123456789abcdef": "x"}}, "a name of letters"),
        ({"adapter": {"sql": "nowhere"}}, "is no folder"),
        (["adapter"], "a mapping such as"),
    ],
)
def test_what_is_no_artefact_is_refused_with_a_reason(given, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=words):
        load_artefacts(given)


def test_a_folder_of_pickles_and_a_damaged_record_are_refused(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(InvalidInput, match="safetensors"):
        open_artefact("adapter", "old", folder)
    folder = make_adapter_folder(tmp_path / "sql")
    for text in ("{", "{}", json.dumps({"format_version": 99, "field": "adapter", "salt": "", "digests": []})):
        (folder / "artefact.json").write_text(text)
        with pytest.raises(InvalidInput, match=r"artefact\.json can be read"):
            open_artefact("adapter", "sql", folder)
