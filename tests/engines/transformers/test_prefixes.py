"""Soft prefixes in the transformers engine: rows of several in one batch, and none where none is named."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy import DecodingConfig, EngineError, InvalidInput, Prompt, Request
from hagpolicy.artefacts import open_artefact
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_llama import tiny_model, tiny_tokenizer
from tests.support.tiny_prefix import save_prefix

pytest.importorskip("torch")

from hagpolicy.engines.chat import count_before_request
from hagpolicy.engines.transformers.engine import TransformersEngine

PROMPTS = [
    Prompt("name three red colours"),
    Prompt("why is the sky blue ? say hello again"),
    Prompt([{"role": "system", "content": "be brief"}, {"role": "user", "content": " count to ten "}]),
]
WAYS = [
    {"temperature": 0.0},
    {},
    {"temperature": 0.0, "num_beams": 3},
    {"temperature": 0.0, "num_beams": 2, "repetition_penalty": 1.5},
    {"temperature": 0.7, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "frequency_penalty": 0.5},
    {"temperature": 0.0, "prompt_lookup_num_tokens": 3},
]
TURNS = [
    {"role": "user", "content": "say hello"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "count to ten"},
]
TAKEN = [("", None), ("loud", None), ("loud", 1), ("loud", 3), ("other", 2)]


def load(given=None, *, chat=True, **further):
    model = tiny_model(seed=1).double()
    artifacts = ({"soft_prefix": given} if given else {}) | further
    return TransformersEngine(model, tiny_tokenizer(chat=chat), name="tiny", artifacts=artifacts)


def make_cells(taken=TAKEN, ways=WAYS, prompts=PROMPTS, **further):
    return [
        Request(prompt, DecodingConfig(**way, soft_prefix=name, soft_tokens=count, **further), 0, seed, 10)
        for seed, prompt in enumerate(prompts)
        for way in ways
        for name, count in taken
    ]


def answer(engine, cells):
    completions = engine.generate(cells)
    assert [one.error for one in completions if one.error] == []
    return [(one.text, one.tokens, one.finish, one.prompt_tokens) for one in completions]


@pytest.fixture
def folders(tmp_path):
    return {
        "loud": save_prefix(tmp_path / "loud", tokens=4),
        "other": save_prefix(tmp_path / "other", tokens=2, seed=7),
    }


def test_a_mixed_batch_is_what_each_prefix_answers_alone_and_the_bare_model_is_as_it_was(folders):
    mixed = load(folders)
    together = dict(zip(make_cells(), answer(mixed, make_cells()), strict=True))
    bare = answer(load(), make_cells([("", None)]))
    assert [together[cell] for cell in make_cells([("", None)])] == bare
    for one in TAKEN[1:]:
        cells = make_cells([one])
        assert [together[cell] for cell in cells] == [answer(mixed, [cell])[0] for cell in cells]
    said = {one: [together[cell][0] for cell in make_cells([one])] for one in TAKEN}
    assert len({tuple(texts) for texts in said.values()}) == len(TAKEN)  # which one, and how much of it, matters
    # What stands in a prompt is paid for.
    for (_, count), cell in zip(TAKEN * len(WAYS) * len(PROMPTS), make_cells(), strict=True):
        plain = together[Request(cell.prompt, cell.config.replace(soft_prefix="", soft_tokens=None), 0, cell.seed, 10)]
        added = together[cell][3] - plain[3]
        assert added == (0 if not cell.config.soft_prefix else count or 4)


def test_embeddings_of_tokens_are_what_those_tokens_would_be(tmp_path):
    """The reference: a prefix that holds the embeddings of real words is a prompt with these words there."""
    from hagpolicy.artefacts.soft_prefix import write_soft_prefix

    model, tokenizer = tiny_model(seed=1), tiny_tokenizer()
    words = tokenizer("say hello again")["input_ids"]
    folder = tmp_path / "words"
    folder.mkdir()
    write_soft_prefix(folder, model.get_input_embeddings().weight[words].detach().numpy())
    engine = load({"words": folder})
    ways = [{"temperature": 0.0}, {}, {"temperature": 0.0, "num_beams": 3}, {"temperature": 0.0, "presence_penalty": 1}]
    written = [
        Prompt("say hello again name three red colours"),
        Prompt("say hello again why is the sky blue ? say hello again"),
        Prompt([PROMPTS[2].content[0], {"role": "user", "content": "say hello again count to ten"}]),
    ]
    spliced = answer(engine, make_cells([("words", None)], ways))
    assert spliced == answer(load(), make_cells([("", None)], ways, written))
    # Penalties do not read what is spliced: those words are said as readily as before.
    ways = [{"temperature": 0.0, "repetition_penalty": 50.0}]
    assert answer(engine, make_cells([("words", None)], ways)) != answer(
        load(), make_cells([("", None)], ways, written)
    )


def test_a_draft_gives_the_text_that_is_written_without(folders):
    engine = load(folders)
    ways = [{"temperature": 0.0}, {"temperature": 0.0, "prompt_lookup_num_tokens": 4}]
    cells = make_cells([("loud", None), ("other", 1)], ways)
    found = dict(zip(cells, answer(engine, cells), strict=True))
    for cell in cells:
        assert (
            found[cell]
            == found[Request(cell.prompt, cell.config.replace(prompt_lookup_num_tokens=0), 0, cell.seed, 10)]
        )


def test_histories_hold_the_tokens_of_the_prompt_alone(folders, monkeypatch):
    from hagpolicy.engines.transformers import decode

    seen = []
    penalise = decode.penalise

    def watch(settings, history, padding, prompt_end, logits):
        seen.extend(row[before:].tolist() for row, before in zip(history, padding.tolist(), strict=True))
        return penalise(settings, history, padding, prompt_end, logits)

    monkeypatch.setattr(decode, "penalise", watch)
    engine = load(folders)
    answer(engine, make_cells(ways=[{"temperature": 0.0, "max_tokens": 4}]))
    prompts = [engine.encode(prompt.content) for prompt in PROMPTS]
    assert all(any(row[: len(ids)] == ids for ids in prompts) for row in seen)
    assert {len(row) for row in seen} <= {len(ids) + more for ids in prompts for more in range(10)}


def test_rows_that_take_the_place_of_others_keep_their_own_prefix(folders, monkeypatch):
    cells = make_cells(ways=[{"temperature": 0.0}, {}])
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 4)
    few = answer(load(folders), cells)
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 64)
    assert few == answer(load(folders), cells)


def test_a_prefix_goes_with_an_adapter(folders, tmp_path):
    pytest.importorskip("peft")
    adapter = {"loud": save_adapter(tiny_model(seed=1), tmp_path / "adapter", strength=1.0)}
    engine = load(folders, adapter=adapter)
    ways = [{"temperature": 0.0}, {"temperature": 0.0, "num_beams": 2}]
    cells = [*make_cells(ways=ways), *make_cells(ways=ways, adapter="loud")]
    together = answer(engine, cells)
    assert together == [answer(engine, [cell])[0] for cell in cells]
    assert together[: len(cells) // 2] != together[len(cells) // 2 :]


def test_more_tokens_than_were_trained_are_refused(folders):
    engine = load(folders)
    assert engine.unsupported(DecodingConfig(soft_prefix="other", soft_tokens=2)) == []
    assert engine.unsupported(DecodingConfig(soft_prefix="other", soft_tokens=3)) == ["soft_tokens"]
    assert engine.unsupported(DecodingConfig(soft_prefix="gone", soft_tokens=3)) == ["soft_prefix"]
    assert engine.unsupported(DecodingConfig(soft_tokens=3)) == []
    [completion] = engine.generate(make_cells([("other", 3)], [{}])[:1])
    assert "cannot honour soft_tokens" in completion.error


def test_a_prefix_leaves_less_room_in_the_context(tmp_path):
    engine = load({"long": save_prefix(tmp_path / "long", tokens=245)})
    [short, long] = engine.generate(make_cells([("long", None)], [{"temperature": 0.0}])[:2])
    assert short.tokens <= 256 - short.prompt_tokens == short.receipt["max_tokens"] < 10
    assert "soft prefix 245" in long.error


@pytest.mark.parametrize(
    ("content", "before"),
    [
        ("count to ten", "<|user|>"),
        ("  count to ten", "<|user|>"),
        (TURNS, "<|user|> say hello <|end|> <|assistant|> hello <|end|> <|user|>"),
    ],
)
def test_the_place_is_before_the_text_of_the_last_user_message(content, before):
    tokenizer = tiny_tokenizer()
    ids = load().encode(content)
    assert ids[: count_before_request(tokenizer, content, ids)] == tokenizer(before)["input_ids"]


def test_where_no_user_speaks_there_is_no_place(folders):
    alone = Prompt([{"role": "system", "content": "be brief"}])
    assert count_before_request(tiny_tokenizer(), alone.content, [1]) is None
    [completion] = load(folders).generate(make_cells([("loud", None)], [{}], [alone]))
    assert "no text of a user" in completion.error


def test_a_template_that_writes_another_text_has_no_place():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | length }} {{ m['content'] }}{% endfor %}"
    assert count_before_request(tokenizer, "count to ten", [1, 2, 3]) is None


def test_a_plain_text_has_its_place_at_the_begin(folders):
    engine = load(folders, chat=False)
    ids = engine.encode("count to ten")
    assert count_before_request(engine.tokenizer, "count to ten", ids) == 0
    cells = make_cells(prompts=PROMPTS[:2])
    assert answer(engine, cells) == [answer(engine, [cell])[0] for cell in cells]


def test_a_prefix_of_another_model_and_broken_files_are_told_when_the_engine_is_made(tmp_path):
    with pytest.raises(EngineError, match="embeddings of 24 numbers, the model of 16"):
        load({"wide": save_prefix(tmp_path / "wide", width=24)})
    folder = save_prefix(tmp_path / "broken")
    (folder / "soft_prefix.json").write_text('{"format_version": 1, "tokens": 9, "width": 16}')
    with pytest.raises(InvalidInput, match=r"float32 \(4, 16\) beside 9 tokens"):
        load({"broken": folder})


def test_the_fingerprint_is_that_of_the_bare_model_and_a_pin_names_the_version(folders):
    engine = load(folders)
    assert engine.fingerprint == load().fingerprint
    pinned = open_artefact("soft_prefix", "loud", folders["loud"]).pin
    ways = [{"temperature": 0.0}]
    assert answer(engine, make_cells([(pinned, 2)], ways)) == answer(engine, make_cells([("loud", 2)], ways))
    assert np.array_equal(*[answer(engine, make_cells([(name, None)], ways)) for name in ("loud", pinned)])
