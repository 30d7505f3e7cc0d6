"""An exported generation_config.json on the real `transformers serve`."""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hagpolicy import DecodingConfig
from hagpolicy.serving.defaults import export_defaults
from tests.serving.test_defaults import save_model, standing
from tests.support.making import sums_against_lists
from tests.support.servers.launching import Served, transformers_serve


def ask(served: Served, **body: Any) -> str:
    """The text of an answer to a request as it is."""
    messages = [{"role": "user", "content": "say the red sum"}]
    content = {"model": served.model, "messages": messages, "max_tokens": 24, **body}
    request = urllib.request.Request(f"{served.url}/chat/completions", json.dumps(content).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = json.load(answer)["choices"][0]["message"]["content"]
    return text


@pytest.mark.servers
def test_requests_without_settings_get_what_was_exported(tmp_path: Path) -> None:
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed: pip install 'hagpolicy[servers]'")
    config = DecodingConfig(temperature=0.0, repetition_penalty=1.8)
    folder = save_model(tmp_path / "model")  # which samples, until the export
    policy = standing(sums_against_lists(ships="single_best"), config)
    assert export_defaults(policy, "generation_config", folder).not_said == ()
    with transformers_serve(folder, tmp_path) as served:
        plain = [ask(served) for _ in range(3)]
        said = [
            ask(served, generation_config=json.dumps(one.to_transformers()))
            for one in (config, config.replace(repetition_penalty=1.0))
        ]
        hot = ask(served, temperature=1.9)
    assert plain == [said[0]] * 3
    assert said[0] != said[1]
    assert hot == plain[0]  # as the note says: it leaves do_sample false
