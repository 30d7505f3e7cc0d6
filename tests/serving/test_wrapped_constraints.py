"""Constraints of the calls of wrapped pipelines and models, on a tiny model whose tokens are bytes."""

import copy
import pickle
import re

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("llguidance")

import hagpolicy as hag  # noqa: E402
from hagpolicy import Constraint, DecodingConfig, DecodingSpace  # noqa: E402
from hagpolicy.engines.constraints.check import meets  # noqa: E402
from hagpolicy.errors import InvalidInput  # noqa: E402
from hagpolicy.serving.call_constraints import CallConstraints, name_outcome  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.tiny_bytes import byte_model, byte_tokenizer  # noqa: E402

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, hint="Be brief.", constrain="ask"),
        DecodingConfig(temperature=0.0, constrain="mask"),
        DecodingConfig(temperature=0.0, constrain="retry"),
        DecodingConfig(temperature=0.9, presence_penalty=0.5, constrain="mask"),
    ]
)
WORDS = {"asked": 1, "masked": 2, "tried": 3, "sampled": 4}
YES, DATE = {"choices": ["yes", "no"]}, {"regex": r"\d{4}-\d\d"}
WORDED = {"include": ["dog"], "max_words": 4}
SCHEMA = {"schema": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}}}


@pytest.fixture(scope="module")
def model():
    return byte_model()


@pytest.fixture(scope="module")
def pipe(model):
    return transformers.pipeline("text-generation", model=model, tokenizer=byte_tokenizer())


@pytest.fixture
def policy():
    return WordPolicy(SPACE, WORDS, max_tokens=24)


@pytest.fixture(params=["pipeline", "generate_text", "generate"])
def answer(request, pipe, model, policy):
    """Texts of the answers to prompts through one of the ways in, and the wrapper."""
    tokenizer = byte_tokenizer()
    wrapped = hag.wrap(model, policy, tokenizer=tokenizer)
    if request.param == "pipeline":
        wrapped = hag.wrap(pipe, policy)

    def answered(prompts, **kwargs):
        kwargs = {"max_new_tokens": 24, **kwargs}
        if request.param == "pipeline":
            records = wrapped(prompts, return_full_text=False, **kwargs)
            return [one[0]["generated_text"] for one in records]
        if request.param == "generate_text":
            return wrapped.generate_text(prompts, **kwargs)
        inputs = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
        out = wrapped.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], prompts=prompts, **kwargs)
        return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return answered, wrapped


@pytest.mark.parametrize("constraint", [YES, DATE, WORDED, SCHEMA])
def test_masks_meet_every_constraint_within_the_limit(answer, constraint):
    answered, wrapped = answer
    prompts = ["masked a", "sampled b", "masked the dog and the ball", "sampled"]
    texts = answered(prompts, constraint=constraint)
    assert [meets(Constraint(**constraint), text) for text in texts] == [True] * 4, texts
    assert wrapped.constraint_outcomes == ["mask"] * 4
    assert wrapped.constraint_counts == {"mask": 4}
    assert [one.config.constrain for one in wrapped.decisions] == ["mask"] * 4


def test_each_prompt_has_its_own(answer):
    answered, wrapped = answer
    given = [YES, None, Constraint(**DATE), '{"choices": ["maybe"]}']
    texts = answered(["masked a", "masked a", "masked a", "masked"], constraint=given)
    assert texts[0] in ("yes", "no")
    assert texts[3] == "maybe"
    assert meets(Constraint(**DATE), texts[2])
    assert wrapped.constraint_outcomes == ["mask", "", "mask", "mask"]
    assert texts[1] == answered(["masked a"])[0], "without one it is what it was"
    assert wrapped.constraint_outcomes == []


def test_what_cannot_be_met_within_the_limit_is_refused(answer):
    answered, _ = answer
    with pytest.raises(InvalidInput, match="within 2 tokens"):
        answered(["masked"], constraint={"choices": ["a rather long answer"]}, max_new_tokens=2)


@pytest.mark.parametrize(
    ("said", "named"),
    [({"chioces": ["a"]}, "chioces"), ([YES], "one a prompt, 2"), ({"regex": "(?=a)"}, "look-around")],
)
def test_a_constraint_that_is_none_is_named(answer, said, named):
    with pytest.raises(InvalidInput, match=named):
        answer[0](["masked", "masked"], constraint=said)


def test_what_the_caller_began_an_answer_with_is_no_part_of_it(model, policy):
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"
    wrapped = hag.wrap(transformers.pipeline("text-generation", model=model, tokenizer=tokenizer), policy)
    chat = [{"role": "user", "content": "tried"}, {"role": "assistant", "content": "Sure:"}]
    [record] = wrapped(chat, constraint={"avoid": ["Sure"]}, max_new_tokens=8)
    assert record["generated_text"][-1]["content"].startswith("Sure:")
    assert wrapped.constraint_outcomes == ["retry; met"]


def test_an_answer_is_generated_again_until_it_meets(answer):
    answered, wrapped = answer
    torch.manual_seed(0)
    (plain,) = answered(["tried"])
    assert answered(["tried"], constraint={"regex": r"(.|\n)*"}) == [plain]
    assert wrapped.constraint_outcomes == ["retry; met"]
    texts = answered(["tried", "neither", "masked"], constraint={"choices": ["never said by chance"]})
    assert texts[0] == plain, "where none meets it, the first stands"
    assert wrapped.constraint_outcomes == ["retry; not met after 4 attempts", "none", "mask"]
    unlike = {"regex": rf"[^{re.escape(plain.strip()[0])}](.|\n)*"}
    (text,) = answered(["tried"], constraint=unlike)
    assert text != plain
    assert wrapped.constraint_outcomes[0].startswith("retry; met after")
    assert wrapped.constraint_counts["retry_not_met"] == 1
    answered(["tried"], constraint={"choices": ["never"]}, do_sample=False)
    assert wrapped.constraint_outcomes == ["retry; not met; not tried again: the call fixes temperature 0"]


def test_words_are_asked_for_where_the_prompt_is_not_written_yet(pipe, model, policy, monkeypatch):
    seen = []
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda **kwargs: seen.append(kwargs) or original(**kwargs), raising=False)
    tokenizer = byte_tokenizer()
    expected = f"asked\n\nBe brief.\n\n{Constraint(**YES).describe()}"
    whole = hag.wrap(pipe, policy)
    (record,) = whole("asked", constraint=YES, max_new_tokens=3)
    assert tokenizer.decode(seen[-1]["input_ids"][0]) == expected
    assert record["generated_text"].startswith("asked")
    assert "Be brief" not in record["generated_text"]
    wrapped = hag.wrap(model, policy, tokenizer=tokenizer)
    wrapped.generate_text("asked", constraint=YES, max_new_tokens=3)
    assert tokenizer.decode(seen[-1]["input_ids"][0]) == expected
    assert wrapped.constraint_outcomes == ["ask"]
    wrapped.generate(tokenizer("asked", return_tensors="pt")["input_ids"], constraint=YES, max_new_tokens=3)
    assert wrapped.decisions[0].config.constrain == ""
    assert wrapped.constraint_outcomes == ["none"]


def test_one_of_all_calls_and_what_stands_beside_none(pipe, model, policy):
    wrapped = hag.wrap(pipe, policy, constraint=YES)
    assert wrapped("masked", return_full_text=False)[0]["generated_text"] in ("yes", "no")
    again = pickle.loads(pickle.dumps(wrapped))
    assert again("masked", return_full_text=False)[0]["generated_text"] in ("yes", "no")
    with pytest.raises(InvalidInput, match="prefix_allowed_tokens_fn"):
        hag.wrap(model, policy, tokenizer=byte_tokenizer()).generate_text(
            "masked", constraint=YES, prefix_allowed_tokens_fn=lambda _, ids: [5]
        )
    with pytest.raises(InvalidInput, match="None beside what is no row of token ids"):
        hag.wrap(model, policy, tokenizer=byte_tokenizer()).generate(
            inputs_embeds=torch.zeros(1, 2, 16), constraint=YES
        )


def test_streams_and_several_answers_are_not_checked(model, policy):
    tokenizer = byte_tokenizer()
    wrapped = hag.wrap(model, policy, tokenizer=tokenizer)
    ids = tokenizer("tried", return_tensors="pt")["input_ids"]
    streamer = transformers.TextIteratorStreamer(tokenizer)
    wrapped.generate(ids, constraint=YES, max_new_tokens=4, streamer=streamer)
    assert wrapped.constraint_outcomes == ["retry; not checked: the answer is a stream"]
    wrapped.generate(ids, constraint=YES, max_new_tokens=4, num_return_sequences=2)
    assert wrapped.constraint_outcomes == ["retry; not checked: several answers are asked for"]
    assert wrapped.constraint_counts == {"retry_not_checked": 2}


def test_a_check_that_fails_leaves_the_answer_and_says_so(model, policy):
    nowhere = Constraint.parse({"schema": {"$ref": "#/$defs/a"}})
    constraints = CallConstraints([nowhere], model, byte_tokenizer(), {}, limit=8)
    decision = policy.decide("tried")
    constraints.enter(0, decision)
    again = []
    constraints.try_again([decision], ['{"a": 1}'], again.append)
    (outcome,) = constraints.outcomes
    assert outcome.startswith("retry; not checked: the check failed (")
    assert (name_outcome(outcome), again) == ("retry_not_checked", [])


@pytest.mark.parametrize("settings", [{}, {"max_length": 40}, {"generation_config": {"max_new_tokens": 30}}])
def test_whatever_limits_the_answer_the_mask_knows_it(answer, settings):
    answered, _ = answer
    config = settings.get("generation_config")
    given = {**settings, **({"generation_config": transformers.GenerationConfig(**config)} if config else {})}
    (text,) = answered(["masked"], constraint={"include": ["dog"]}, **{"max_new_tokens": None, **given})
    assert meets(Constraint(include=("dog",)), text), text


@pytest.mark.parametrize("settings", [{"no_repeat_ngram_size": 1}, {"min_new_tokens": 20}])
def test_settings_that_leave_no_way_to_meet_it_give_way(answer, settings):
    answered, _ = answer
    constraint = {"choices": ["a a a a a a"]}
    assert answered(["masked", "masked the dog"], constraint=constraint, **settings) == ["a a a a a a"] * 2
