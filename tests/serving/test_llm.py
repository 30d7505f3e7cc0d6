"""`wrap` in front of vLLM's offline `LLM`, on the stand-in that takes what the real classes take."""

import warnings
from types import SimpleNamespace

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.errors import InvalidInput
from tests.serving.wrapping import WordPolicy, chat

pytest.importorskip("transformers")

from tests.support.vllm_stand_in import StandIn, sampling_params

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0),
        DecodingConfig(temperature=0, repetition_penalty=1.8),
        DecodingConfig(temperature=0, hint="think step by step ."),
        DecodingConfig(temperature=0.5, no_repeat_ngram_size=2),  # which vLLM lacks
        DecodingConfig(temperature=0.7, top_p=0.9),
    ]
)
Params = sampling_params()


class Offline(StandIn):
    """Takes prompts and chats with one `SamplingParams` each, and keeps what it was given."""

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        assert len(prompts) == len(sampling_params)
        self.calls.append(list(zip(prompts, sampling_params, strict=True)))
        return [SimpleNamespace(outputs=[SimpleNamespace(text=f"to {prompt}")]) for prompt in prompts]

    def chat(self, messages, sampling_params=None, use_tqdm=True, add_generation_prompt=True):
        assert all(isinstance(one, list) for one in messages)
        return self.generate(messages, sampling_params)


def wrapped(llm=None, **options):
    given = {name: options.pop(name) for name in ("max_tokens", "dial", "space") if name in options}
    policy = WordPolicy(**{"space": SPACE, **given})
    return hag.wrap(Offline() if llm is None else llm, policy, **options)


def settings(params):
    return {name: value for name, value in vars(params).items() if value != getattr(Params(), name)}


def test_each_prompt_gets_its_own_sampling_params():
    llm = Offline()
    model = wrapped(llm)
    outputs = model.generate(["name it", "what", "say it", "sum of ten"])
    # The model has a chat template, so these texts are written already and get no hint; vLLM lacks config 3.
    assert [decision.index for decision in model.decisions] == [1, 0, 4, 0]
    assert [output.outputs[0].text for output in outputs] == ["to name it", "to what", "to say it", "to sum of ten"]
    greedy = {"temperature": 0.0}
    assert [settings(params) for _, params in llm.calls[0]] == [
        {**greedy, "repetition_penalty": 1.8}, greedy, {"temperature": 0.7, "top_p": 0.9}, greedy,
    ]  # fmt: skip
    assert [receipt.reason for receipt in model.receipts] == [decision.reason for decision in model.decisions]
    assert model.receipts[0].applied["repetition_penalty"] == 1.8
    assert sum(model.counts.values()) == 4


def test_chats_get_the_hint_in_their_last_message():
    llm = Offline()
    model = wrapped(llm)
    mine = [chat("sum of ten"), chat("what")]
    model.chat(mine, use_tqdm=False)
    (hinted, _), (plain, _) = llm.calls[0]
    assert hinted[-1]["content"] == "sum of ten\n\nthink step by step ."
    assert plain == mine[1]
    assert mine == [chat("sum of ten"), chat("what")]  # the caller's own are left as they are
    assert [receipt.hinted for receipt in model.receipts] == [True, False]
    model.chat(chat("sum of ten"))
    assert len(llm.calls[1]) == 1


def test_without_a_template_a_text_is_what_was_swept_and_takes_the_hint():
    llm = Offline(chat=False)
    model = wrapped(llm)
    model.generate(["sum of ten", {"prompt": "sum of ten", "cache_salt": "s"}, {"prompt_token_ids": [7, 8]}])
    prompts = [prompt for prompt, _ in llm.calls[0]]
    assert prompts[0] == "sum of ten\n\nthink step by step ."
    assert prompts[1] == {"prompt": prompts[0], "cache_salt": "s"}
    assert prompts[2] == {"prompt_token_ids": [7, 8]}


def test_slots_are_filled_from_each_conversation():
    llm = Offline()
    slotted = DecodingSpace([DecodingConfig(temperature=0), DecodingConfig(temperature=0, hint="Use {numbers}.")])
    model = hag.wrap(llm, WordPolicy(slotted, {"sum": 1}))
    model.chat([chat("sum of 7 and 8"), chat("sum of ten")])
    assert [messages[-1]["content"] for messages, _ in llm.calls[0]] == ["sum of 7 and 8\n\nUse 7, 8.", "sum of ten"]
    assert [receipt.hinted for receipt in model.receipts] == [True, False]
    assert model.receipts[1].notes["hint"].startswith("left out")


def test_token_ids_are_read_as_their_text_or_as_what_is_said():
    llm = Offline()
    model = wrapped(llm)
    ids = llm.get_tokenizer()("name ten")["input_ids"]
    model.generate({"prompt_token_ids": ids})
    assert model.decisions[0].index == 1
    model.generate(ids)
    assert model.decisions[0].index == 1
    model.generate(ids, texts=["say"])
    assert model.decisions[0].index == 4
    with pytest.raises(InvalidInput, match="one a prompt, 1"):
        model.generate(ids, texts=["a", "b"])


def test_what_the_caller_sets_stands_and_the_rest_of_it_is_kept():
    llm = Offline()
    model = wrapped(llm)
    params = Params(temperature=0.7, top_p=0.9, stop=["\n"], seed=5, logprobs=2)
    model.generate(["name", "what"], params)
    assert [made for _, made in llm.calls[0]] == [params, params]
    assert model.receipts[0].kept == ("temperature", "top_p")
    assert model.receipts[0].applied == {
        "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    hot = Params(temperature=1.3)
    model.generate(["name", "say"], [hot, Params(stop=["."])])
    assert model.receipts[0].reason == "no_config_agrees"
    assert llm.calls[1][0][1] is hot
    assert settings(llm.calls[1][1][1]) == {"temperature": 0.7, "top_p": 0.9, "stop": ["."]}
    with pytest.raises(InvalidInput, match="one for all, or one a prompt, 2"):
        model.generate(["name", "say"], [hot])


def test_a_value_of_the_defaults_is_not_set_unless_it_is_said():
    llm = Offline()
    llm.get_default_sampling_params = lambda: Params(temperature=0.6, top_k=20)
    model = wrapped(llm)
    taken = llm.get_default_sampling_params()
    taken.stop = ["."]
    model.generate(["what"], taken)  # made from the LLM's own defaults, which nobody chose for this call
    assert settings(llm.calls[0][0][1]) == {"temperature": 0.0, "stop": ["."]}
    model.generate(["what"], fixed={"temperature": 0.7})
    assert settings(llm.calls[1][0][1]) == {"temperature": 0.7, "top_p": 0.9}
    with pytest.raises(InvalidInput, match="temprature"):
        model.generate(["what"], fixed={"temprature": 0.7})


def test_the_sweeps_limit_takes_the_place_of_vllms_16_and_no_others():
    llm = Offline()
    model = wrapped(llm, max_tokens=40)
    model.generate(["what"])
    model.generate(["what"], Params(max_tokens=7))
    model.generate(["what"], fixed={"max_tokens": 9})
    assert [call[0][1].max_tokens for call in llm.calls] == [40, 7, 9]


def test_several_answers_are_never_asked_of_a_greedy_config():
    llm = Offline()
    model = wrapped(llm, dial="n")
    model.generate(["name"], Params(n=3))
    assert settings(llm.calls[0][0][1]) == {"n": 3, "temperature": 0.7, "top_p": 0.9}
    assert model.policy.turned[-1]["n"] == 3


def test_overruled_fields_are_the_policys_and_said_so():
    llm = Offline()
    model = wrapped(llm, overrule=["temperature"])
    model.generate(["name"], Params(temperature=1.3, seed=1))
    assert settings(llm.calls[0][0][1]) == {"temperature": 0.0, "repetition_penalty": 1.8, "seed": 1}
    assert model.receipts[0].overruled == {"temperature": 1.3}
    assert model.decisions[0].overruled == {"temperature": 1.3}


def test_prompts_without_text_get_the_reference():
    llm = Offline()
    model = wrapped(llm)
    model.generate([{"prompt_embeds": object()}])
    assert model.decisions[0].index == 0
    assert model.generate([]) == []


def test_receipts_are_told_and_an_idle_policy_warns_once():
    told = []
    model = wrapped(on_receipt=told.append)
    with pytest.warns(UserWarning, match=r"nothing to decide: .*temperature=0.7.*one config") as caught:
        model.generate(["what", "name"], Params(temperature=0.7))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [receipt.reason for receipt in told] == [receipt.reason for receipt in model.receipts]
    with pytest.raises(InvalidInput, match="rules"):
        hag.wrap(Offline(), WordPolicy(), rules=hag.RewriteRules())


def test_another_model_than_the_swept_one_is_warned_of():
    swept = {"kind": "vllm", "model": "tiny/words", "dtype": "bfloat16", "quantization": "fp8"}
    server = {"kind": "openai", "server": "vllm", "model": "tiny/words", "dtype": "unknown"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fingerprint in (swept, server, {}):
            hag.wrap(Offline(), WordPolicy(fingerprint=fingerprint))
    for fingerprint in ({**swept, "dtype": "float16"}, {**server, "model": "other"}, {**swept, "kind": "transformers"}):
        with pytest.warns(UserWarning, match="swept on another engine"):
            hag.wrap(Offline(), WordPolicy(fingerprint=fingerprint))
    assert hag.wrap(Offline(), WordPolicy()).model_config.model == "tiny/words"
