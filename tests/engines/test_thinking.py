"""Thinking in engines: what a chat template honours, thoughts that do not end, which are kept and never scored."""

from dataclasses import replace
from pathlib import Path

import pytest

from hagpolicy import DecodingConfig, EngineError, InvalidInput, Prompt, Request, sweep
from hagpolicy.data.answers import ends_reasoning, opens_reasoning

pytest.importorskip("torch")

from hagpolicy.engines.chat import encode, list_template_fields, make_template_keywords
from hagpolicy.engines.check import check_contract
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_llama import thinking_tokenizer, tiny_model, tiny_tokenizer

# In the manner of public models, whose names say which.
TURNS = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}<|assistant|> "
TEMPLATES = {
    "on unless off (Qwen3)": (
        TURNS + "{% if enable_thinking is defined and enable_thinking is false %}<think> </think> {% endif %}",
        {"thinking"},
    ),
    "off unless on (DeepSeek-V3.1, Granite)": (
        TURNS + "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
        "{% if thinking %}<think> {% else %}</think> {% endif %}",
        {"thinking"},
    ),
    "an effort (gpt-oss)": (
        "{% if not reasoning_effort is defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
        "be {{ reasoning_effort }} " + TURNS,
        {"reasoning_effort"},
    ),
    "an effort of its own (Kimi K3)": (
        "{% if thinking_effort is defined and thinking_effort not in ['low', 'high', 'max'] %}"
        "{{ raise_exception('no such effort') }}{% endif %}be {{ thinking_effort }} " + TURNS,
        {"reasoning_effort"},
    ),
    "a budget (Seed-OSS)": (
        "{% if thinking_budget is defined and thinking_budget == 0 %}be brief {% endif %}" + TURNS,
        {"thinking_budget"},
    ),
    "words of the user (Nemotron Nano v2)": (
        "{% set ns = namespace(enable_thinking=true) %}{% for m in messages %}{% if '/no_think' in m['content'] %}"
        "{% set ns.enable_thinking = false %}{% endif %}{% endfor %}" + TURNS + "{{ ns.enable_thinking }}",
        set(),
    ),
    "nothing": (TURNS, set()),
}
PROMPT = Prompt("why is the sky blue ?", "red")


def make(words=4, seed=1, **options):
    return TransformersEngine(tiny_model(seed=seed, words=words), thinking_tokenizer(), name="tiny", **options)


@pytest.mark.parametrize("manner", TEMPLATES)
def test_a_template_honours_what_changes_its_prompts(manner):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template, honoured = TEMPLATES[manner]
    assert list_template_fields(tokenizer) == honoured
    engine = TransformersEngine(tiny_model(), tokenizer)
    said = {"thinking": True, "reasoning_effort": "low", "thinking_budget": 4}
    for name, value in said.items():
        assert engine.unsupported(DecodingConfig.from_dict({name: value})) == ([] if name in honoured else [name])
    tokenizer.chat_template = TURNS  # another one is found out about anew
    assert engine.unsupported(DecodingConfig(thinking=True)) == ["thinking"]
    assert list_template_fields(tiny_tokenizer(chat=False)) == set()


def test_on_and_off_are_rendered_as_the_template_has_them():
    tokenizer = thinking_tokenizer()
    plain, on, off = (
        tokenizer.decode(encode(tokenizer, "why", make_template_keywords(DecodingConfig(thinking=value))))
        for value in (None, True, False)
    )
    assert (on, off) == (f"{plain} <think>", f"{plain} <think> </think>")
    assert make_template_keywords(DecodingConfig(temperature=0.3, hint="x")) == {}
    assert make_template_keywords(DecodingConfig(unset=True)) == {}


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|assistant|>\n<think>\n", True), ("<think>\n\n</think>\n\n", False), ("<|assistant|>", False),
        ("say <think> in words", False), ("[THINK]", True), ("<|START_THINKING|>", True), ("", False),
    ],
)  # fmt: skip
def test_a_prompt_opens_a_thought_where_it_ends_with_the_tag(prompt, opens):
    assert opens_reasoning(prompt) == opens


@pytest.mark.parametrize(
    ("text", "ends"), [("hm</think>42", True), ("hm 42", False), ("hm `</think>` 42", False), ("<think>hm", False)]
)
def test_a_thought_ends_with_a_tag_that_is_not_quoted(text, ends):
    assert ends_reasoning(text) == ends


@pytest.mark.parametrize("beside", [{}, {"num_beams": 2}])
def test_a_thought_that_the_prompt_began_and_nothing_ends_is_no_answer(beside):
    engine = make()
    plain, on, off = (
        engine.generate([Request(PROMPT, DecodingConfig(temperature=0.0, thinking=value, **beside), 0, 7, 6)])[0]
        for value in (None, True, False)
    )
    assert [bool(one.text) for one in (plain, off)] == [True, True]
    assert plain.reasoning == off.reasoning == ""
    assert (on.text, bool(on.reasoning), on.tokens) == ("", True, 6)
    assert on.prompt_tokens == plain.prompt_tokens + 1 == off.prompt_tokens - 1


def test_thoughts_are_kept_in_cells_paid_and_never_scored(tmp_path: Path):
    seen = []

    def remember(text: str) -> float:
        seen.append(text)
        return float(bool(text))

    configs = [DecodingConfig(temperature=0.0, thinking=value) for value in (None, True)]
    table = sweep(make(), [PROMPT], configs, remember, samples=1, max_tokens=6, out=tmp_path / "s", default=configs[0])
    answers = table.texts.read((0, slice(None), 0))
    assert [bool(one.reasoning) for one in answers] == [False, True]
    assert [one.tokens for one in answers] == [6, 6]
    assert answers[1].text == "" in seen
    assert not any(one.reasoning in seen for one in answers if one.reasoning)
    assert table.rewards[0, :, 0].tolist() == [1.0, 0.0]


def test_a_space_that_the_template_does_not_know_is_refused_before_the_first_token(tmp_path: Path):
    engine = TransformersEngine(tiny_model(), tiny_tokenizer(), name="plain")
    with pytest.raises(InvalidInput, match="thinking"):
        sweep(engine, [PROMPT], [DecodingConfig(thinking=False)], len, samples=1, max_tokens=4, out=tmp_path / "s")


class Losing(TransformersEngine):
    """A server whose model's template knows nothing of what the server takes."""

    lost = ()

    @property
    def handles(self):
        return super().handles | {"thinking", "reasoning_effort", "thinking_budget"}

    def generate(self, unit):
        neutral = DecodingConfig().fields()
        return super().generate(
            [replace(r, config=r.config.replace(**{name: neutral[name] for name in self.lost})) for r in unit]
        )


FIELDS = {"thinking": False, "reasoning_effort": "low", "thinking_budget": 4}


@pytest.mark.parametrize("name", FIELDS)
def test_the_check_sees_whether_thinking_is_honoured(name):
    space = [DecodingConfig(temperature=0.0), DecodingConfig.from_dict({"temperature": 0.0, name: FIELDS[name]})]
    honest = check_contract(make(), space)
    assert [(one.promise, one.held) for one in honest.findings if "answer" in one.promise] == [
        (f"{name} changes the answer", True)
    ]
    losing = Losing(tiny_model(seed=1, words=4), thinking_tokenizer())
    losing.lost = (name,)
    with pytest.raises(EngineError, match=f"{name} is lost on the way, or the model's chat template does not know it"):
        check_contract(losing, space)
    assert not [one for one in check_contract(losing, space[:1]).findings if "answer" in one.promise]
