"""`wrap` in front of models with their tokenizers, with a policy that was fitted, and on the real LLM."""

import warnings

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.errors import InvalidInput
from tests.serving.wrapping import SPACE, WordPolicy, alone, chat, padded

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support.tiny_llama import tiny_tokenizer  # noqa: E402


def test_rows_of_token_ids_get_their_own_configs(model, tokenizer, sent):
    prompts = ["count the red sky", "what", "red sky", "sum of ten", "name"]
    inputs = padded(tokenizer, prompts)
    inputs.pop("token_type_ids", None)
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    out = wrapped.generate(**inputs, max_new_tokens=6)
    # "sum" would want a hint; the ids are written already, so the best config without one stands.
    assert [decision.index for decision in wrapped.decisions] == [3, 0, 3, 0, 1]
    assert all(decision.config.hint == "" for decision in wrapped.decisions)
    assert [len(call["input_ids"]) for call in sent] == [2, 2, 1]
    width = inputs["input_ids"].shape[1]
    assert torch.equal(out[:, :width], inputs["input_ids"])
    for row, (text, decision) in enumerate(zip(prompts, wrapped.decisions, strict=True)):
        mine = out[row, width:].tolist()
        theirs = alone(model, tokenizer, text, decision.index, max_new_tokens=6)
        assert mine == theirs + [0] * (len(mine) - len(theirs))


def test_one_config_for_all_rows_is_one_call(model, tokenizer, sent):
    inputs = padded(tokenizer, ["what", "what is the sky"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    out = wrapped.generate(ids, attention_mask=mask, max_new_tokens=4)
    assert len(sent) == 1
    assert torch.equal(out, model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False))


def test_the_prompts_behind_the_ids_can_be_given(model, tokenizer):
    ids = tokenizer.apply_chat_template(chat("name ten"), add_generation_prompt=True, return_tensors="pt")["input_ids"]
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    wrapped.generate(ids, prompts=["red sky"], max_new_tokens=2)
    assert wrapped.decisions[0].index == 3
    wrapped.generate(ids, max_new_tokens=2)
    assert wrapped.decisions[0].index == 1
    with pytest.raises(InvalidInput, match="one a row, 1"):
        wrapped.generate(ids, prompts=["a", "b"], max_new_tokens=2)


def test_several_sequences_keep_their_rows(model, tokenizer):
    inputs = padded(tokenizer, ["say hello", "what", "name"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    ids = inputs["input_ids"]
    out = wrapped.generate(ids, attention_mask=inputs["attention_mask"], max_new_tokens=5, num_return_sequences=2)
    width = ids.shape[1]
    assert out.shape[0] == 6
    assert torch.equal(out[:, :width], ids.repeat_interleave(2, 0))
    assert torch.equal(out[2], out[3])
    assert torch.equal(out[4], out[5])


def test_what_rows_cannot_share_is_refused_by_name(model, tokenizer):
    inputs = padded(tokenizer, ["what", "name"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    kwargs = {"attention_mask": inputs["attention_mask"], "max_new_tokens": 2, "return_dict_in_generate": True}
    with pytest.raises(InvalidInput, match=r"return_dict_in_generate.*2 configurations"):
        wrapped.generate(inputs["input_ids"], **kwargs)
    whole = wrapped.generate(inputs["input_ids"], repetition_penalty=1.8, **kwargs)
    assert whole.sequences.shape[0] == 2


def test_the_caller_wins_on_models_too(model, tokenizer, sent):
    ids = tokenizer("say hello", return_tensors="pt")["input_ids"]
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    wrapped.generate(ids, temperature=0.0, max_new_tokens=2)
    assert sent[-1]["do_sample"] is False
    wrapped.generate(ids, temperature=0.33, do_sample=True, max_new_tokens=2)
    assert wrapped.decisions[0].reason == "no_config_agrees"
    unchanged = {name: value for name, value in sent[-1].items() if name != "input_ids"}
    assert unchanged == {"temperature": 0.33, "do_sample": True, "max_new_tokens": 2}
    embeds = model.get_input_embeddings()(ids)
    assert wrapped.generate(inputs_embeds=embeds, max_new_tokens=2).shape == (1, 2)
    assert wrapped.decisions == []


def test_text_in_text_out_with_hint_and_template(model, tokenizer, sent):
    wrapped = hag.wrap(model, WordPolicy(max_tokens=5), tokenizer=tokenizer)
    answers = wrapped.generate_text(["sum of ten", "what is the sky", chat("red again"), "name"])
    assert [decision.index for decision in wrapped.decisions] == [2, 0, 3, 1]
    assert len(answers) == 4
    assert all(isinstance(answer, str) for answer in answers)
    assert [call["max_new_tokens"] for call in sent] == [5] * 3, "the sweep's limit, where nobody sets another"
    first = tokenizer.decode(sent[0]["input_ids"][0])
    messages = [{"role": "user", "content": "sum of ten\n\nthink step by step ."}]
    hinted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert first == tokenizer.decode(hinted[0])
    one = model.generate(hinted, max_new_tokens=5, do_sample=False)[0, hinted.shape[1] :]
    assert answers[0] == tokenizer.decode(one, skip_special_tokens=True)
    assert wrapped.generate_text("sum of ten") == answers[0]
    wrapped.generate_text("sum of ten", max_new_tokens=2)
    assert sent[-1]["max_new_tokens"] == 2
    with pytest.raises(InvalidInput, match="num_return_sequences"):
        wrapped.generate_text("sum of ten", num_return_sequences=2)


def test_text_without_a_template_is_plain(model, sent):
    plain = tiny_tokenizer(chat=False)
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=plain)
    wrapped.generate_text(["sum of ten", "say"], max_new_tokens=2)
    assert sent[0]["input_ids"].tolist() == [plain("sum of ten\n\nthink step by step .")["input_ids"]]
    assert wrapped.device == model.device
    ids = torch.tensor([[7, 8, 9]])
    assert torch.equal(wrapped(ids).logits, model(ids).logits)


@pytest.fixture(scope="module")
def fitted():
    """A policy that learned: greedy for sums, a repetition penalty for names."""
    space = DecodingSpace([SPACE[0], SPACE[1], SPACE[4]])
    rng = np.random.default_rng(0)
    colours, things = "red green blue white black".split(), "dog cat bird fish tree house".split()  # noqa: SIM905
    prompts, rewards = [], rng.uniform(0.3, 0.5, (160, 3, 4))
    for number in range(160):
        colour, thing, first = rng.choice(colours), rng.choice(things), rng.integers(99)
        named, summed = f"name {number} {colour} {thing}", f"what is the sum of {first} and {number} ?"
        prompts.append(named if number % 2 else summed)
        rewards[number, number % 2] += 0.4
    return hag.fit(hag.SweepTable.from_arrays(prompts, space, rewards), encoder="static", learner="ridge")


def test_a_fitted_policy_decides_for_a_wrapped_pipeline(fitted, pipe, tmp_path):
    assert fitted.ships == "per_prompt"
    policy = hag.load(fitted.save(tmp_path / "policy"))
    wrapped = hag.wrap(pipe, policy)
    prompts = ["what is the sum of 17 and 18 ?", "name 14 blue bird", "what is the sum of 3 and 77 ?", ""]
    wrapped(prompts, max_new_tokens=3)
    assert [d.index for d in wrapped.decisions] == [0, 1, 0, policy.reference_index]
    assert wrapped.decisions[3].reason == "unreadable"
    assert wrapped.decisions[:3] == policy.decide_batch(prompts[:3], {"max_tokens": 3})
    wrapped(prompts[:3], max_new_tokens=3, temperature=0.7)
    assert [d.index for d in wrapped.decisions] == [2, 2, 2]
    wrapped([{"role": "user", "content": "name 14 blue bird"}], max_new_tokens=3)
    assert wrapped.decisions[0].index == 1


@pytest.mark.llm
def test_the_real_model_answers_alike_through_every_way_in(smollm):
    """4 prompts × at most 15 tokens, three times: 180 tokens."""
    from hagpolicy import Prompt, Request

    space = DecodingSpace(
        [
            DecodingConfig(temperature=0),
            DecodingConfig(temperature=0, hint="Answer with one word."),
            DecodingConfig(temperature=0, frequency_penalty=1.5),
        ]
    )
    policy = WordPolicy(space, {"fruit": 1, "colours": 2}, dict(smollm.fingerprint), max_tokens=15)
    prompts = ["What is the capital of France?", "Name a fruit that is red.", "List some colours now", "What is 2 + 2?"]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    pipe = transformers.pipeline("text-generation", smollm.model, tokenizer=smollm.tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = hag.wrap(smollm.model, policy, tokenizer=smollm.tokenizer)
    together = model.generate_text(prompts)
    configs = [decision.config for decision in model.decisions]
    assert configs == [space[0], space[1], space[2], space[0]]
    assert "Paris" in together[0]
    # The pipeline runs them one at a time: padding and neighbours change nothing.
    records = hag.wrap(pipe, policy)(chats, max_new_tokens=15, return_full_text=False)
    assert [record[0]["generated_text"] for record in records] == together
    cells = [Request(Prompt(prompt), config, 0, 1, 15) for prompt, config in zip(prompts, configs, strict=True)]
    assert [cell.text for request in cells for cell in smollm.generate([request])] == together, "as the sweep wrote"
