"""The transformers engine on the real LLM."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from hagpolicy import DecodingConfig, load_engine
from hagpolicy.engines.transformers import loading as transformers_loading
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.engines.transformers.cells import FRANCE, PLAIN, STORY, by_generate, cell


@pytest.mark.llm
def test_the_real_llm_answers_sensibly(smollm: TransformersEngine) -> None:
    assert smollm.default_config() == DecodingConfig(temperature=0.0)
    ids = smollm.encode(FRANCE.content)
    assert smollm.tokenizer.decode(ids).count("<|im_start|>") == 3  # system, user, assistant: none doubled
    (found,) = smollm.generate([cell(FRANCE, DecodingConfig(temperature=0.0), limit=16)])
    assert "Paris" in found.text
    assert found.finish == "stop"
    assert "<|" not in found.text


@pytest.mark.llm
def test_the_real_llm_in_a_mixed_batch_writes_what_generate_writes(smollm: TransformersEngine) -> None:
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    unit = [cell(prompt, config, limit=24) for prompt in (STORY, FRANCE) for config in configs]
    noise = [cell(STORY, DecodingConfig(temperature=1.0, top_p=0.9), seed, 12) for seed in range(4)]
    found = smollm.generate([*unit, *noise])[: len(unit)]
    checked = [0, 1, 2, 4, 6]
    assert [(found[i].text, found[i].tokens) for i in checked] == [by_generate(smollm, unit[i]) for i in checked]


@pytest.mark.llm
def test_the_real_llm_writes_the_same_where_rows_are_refilled(smollm: TransformersEngine) -> None:
    prompts = [smollm.encode(prompt.content) for prompt in (FRANCE, STORY)]
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN[:3]] * 2
    cells = (prompts, [0, 0, 0, 1, 1, 1], configs, list(range(6)), [4, 12, 9, 12, 3, 12], smollm.end_tokens)
    refilled, together = decode(smollm.model, *cells, 3), decode(smollm.model, *cells)
    assert max(one.rows for one in refilled.passes) == 3
    assert refilled.lengths.tolist() == together.lengths.tolist()
    for one, other, length in zip(refilled.tokens, together.tokens, together.lengths, strict=True):
        assert one[:length].tolist() == other[:length].tolist()


@pytest.mark.llm
def test_a_cached_gguf_is_the_same_model(
    smollm: TransformersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # De-quantising takes most of a load, and the fixture has just done it; undo only the layout by column.
    plain = copy.deepcopy(smollm.model)
    for weight in plain.parameters():
        weight.data = weight.data.contiguous()
    monkeypatch.setattr(transformers_loading, "_convert", lambda *_: (plain, smollm.tokenizer))
    again = load_engine("smollm2", device="cpu", cache=tmp_path)
    assert again.fingerprint == smollm.fingerprint
    awkward = "def f(x):\n    return x\n\n\tTab  two spaces <|im_end|> é 你好"
    assert again.encode(awkward) == smollm.encode(awkward)
    assert again.tokenizer.decode(again.tokenizer(awkward)["input_ids"]) == awkward
    own, other = smollm.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert len(list(tmp_path.iterdir())) == 1
