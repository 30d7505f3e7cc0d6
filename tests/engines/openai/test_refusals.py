"""Models that refuse a neutral value, a pair of values or a setting are swept all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, load_engine, sweep
from hagpolicy.errors import EngineError
from hagpolicy.scorers.registry import get_scorer
from tests.engines.openai.cells import cell
from tests.support.answering_server import AnsweringServer, say

PROMPTS = [Prompt(f"{at} + 1 = ?", reference="5") for at in range(4)]
Body = dict[str, Any]
T, P, F = "temperature", "top_p", "frequency_penalty"


def refuse(message: str, param: str | None = None, status: int = 400) -> tuple[int, Body]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


def fixed_temperature(body: Body) -> Any:
    if body.get("temperature", 1) != 1:
        words = "Unsupported value: 'temperature' does not support 0. Only the default (1) is supported."
        return refuse(words, "temperature")
    return None


def no_temperature(body: Body) -> Any:
    if "temperature" in body:
        return refuse("Unsupported parameter: 'temperature' is not supported with this model.", "temperature")
    return refuse("Unsupported value", "top_p") if "top_p" in body else None


def one_of_two(body: Body) -> Any:
    both = "temperature" in body and "top_p" in body
    return (
        refuse("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
        if both
        else None
    )


def open_top_p(body: Body) -> Any:
    if not 0.0 < body.get("top_p", 0.5) < 1.0:
        return 422, {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}
    return None


def strict_fields(body: Body) -> Any:
    for name in ("seed", "presence_penalty", "frequency_penalty"):
        if name in body:
            return 422, {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 1}]}
    return None


def other_limit(body: Body) -> Any:
    if "max_tokens" in body:
        words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return refuse(words, "max_tokens")
    return None


class Model:
    """Answers as a model that is not sure of itself, unless it refuses a request."""

    def __init__(self, refusal: Callable[[Body], Any], ignored: tuple[str, ...] = ()) -> None:
        self.refusal, self.ignored, self.count = refusal, ignored, 0

    def __call__(self, body: Body) -> Any:
        refused = self.refusal(body)
        if refused is not None:
            return refused
        self.count += 1
        told = {name: value for name, value in body.items() if name not in self.ignored}
        sure = told.get("temperature", 1) == 0 or told.get("top_p", 1) < 1e-2 or told.get("top_k") == 1
        return say("the answer is 5" + ("" if sure else f" or {self.count}"))


def run(model: Model, space: DecodingSpace, out: Path, **options: Any) -> tuple[Any, list[Body]]:
    with AnsweringServer(model) as server:
        engine = load_engine(f"openai:{server.url}#m", **options)
        try:
            scorer = get_scorer("numeric_match")
            return sweep(engine, PROMPTS, space, scorer, samples=2, out=out, progress=False), server.asked
        finally:
            engine.close()


@pytest.mark.parametrize(
    ("refusal", "configs", "refused"),
    [
        (fixed_temperature, [{"hint": "Be brief."}, {"temperature": 0.5}], 1),
        (no_temperature, [{"hint": "Be brief."}, {"top_p": 0.5}], 1),
        (one_of_two, [{"temperature": 0.5}, {"top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}], 1),
        (open_top_p, [{"temperature": 0.5}, {"top_p": 0.5}], 0),
        (strict_fields, [{"temperature": 0.5}, {"temperature": 0.0}, {"presence_penalty": 0.5}], 1),
        (other_limit, [{"temperature": 0.5}, {"temperature": 0.0}], 0),
    ],
    ids=["fixed temperature", "none", "one of two", "open top_p", "strict fields", "other limit"],
)
def test_what_a_model_takes_is_swept_and_what_it_refuses_is_marked(refusal, configs, refused, tmp_path: Path) -> None:
    space = DecodingSpace([DecodingConfig(), *map(DecodingConfig.from_dict, configs)])
    table, asked = run(Model(refusal), space, tmp_path)
    assert (table.counts == 0).all(axis=0).sum() == refused
    assert (table.counts > 0).all(axis=0).sum() == len(table.space) - refused
    assert all("HTTP 4" in reason for reason in table.failures)
    # Learned once: few requests are refused, but for those of a config that cannot be.
    assert sum(refusal(body) is not None for body in asked) <= 12 + 8 * 2 * refused


def test_what_was_not_sent_is_in_the_receipt_and_a_false_lesson_is_unlearned(engines) -> None:
    def model(body: Body) -> Any:
        if "poison" in str(body):
            return refuse("this prompt is refused, whatever temperature and top_p")
        return one_of_two(body)

    with AnsweringServer(Model(model)) as server:
        engine = engines(server.url)
        poisoned = engine.generate([cell("poison", DecodingConfig())])[0]
        assert (poisoned.finish, "HTTP 400" in str(poisoned.error)) == ("error", True)
        assert len(server.asked) == 2
        [warm] = engine.generate([cell("q", DecodingConfig(temperature=0.5))])
        assert {"temperature", "top_p"} <= server.asked[2].keys()
        assert "not sent" in warm.receipt["top_p"]
        assert "temperature" not in warm.receipt
        [cut] = engine.generate([cell("q", DecodingConfig(top_p=0.5))])
        assert "not sent" in cut.receipt["temperature"]
        assert "temperature" not in server.asked[-1]
        # What is confirmed stays, whatever is refused later.
        engine.generate([cell("poison", DecodingConfig(temperature=0.5))])
        asked = len(server.asked)
        engine.generate([cell("q", DecodingConfig(temperature=0.5))])
        assert len(server.asked) == asked + 1


def test_a_server_with_defaults_of_its_own_is_sent_every_neutral_value(engines) -> None:
    with AnsweringServer(Model(open_top_p)) as server:
        [completion] = engines(server.url, server="vllm").generate([cell("q")])
        assert completion.finish == "error"
        assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["top_p", "top_k"])
def test_a_server_that_ignores_a_cut_is_noticed_before_a_sweep_that_uses_it(name, tmp_path: Path) -> None:
    values = {"top_p": 0.9, "top_k": 20}
    ignoring = Model(lambda body: None, ignored=(name,))
    with pytest.raises(EngineError, match=f"{name} is lost on the way"):
        run(ignoring, DecodingSpace([DecodingConfig.from_dict({name: values[name]})]), tmp_path, server="vllm")
    # A sweep that does not use it is none of its business.
    table, _ = run(ignoring, DecodingSpace([DecodingConfig(temperature=0.5)]), tmp_path, server="vllm")
    assert not table.failures


def test_a_server_that_refuses_everything_is_said_to_before_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="got no answer: HTTP 400: no such model"):
        run(Model(lambda body: refuse("no such model")), DecodingSpace([DecodingConfig(temperature=0.5)]), tmp_path)


BOTH = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
WORDS: dict[str, tuple[Any, set[str]]] = {
    "OpenAI": (refuse("Unsupported value: 'temperature' does not support 0 with this model.", "temperature")[1], {T}),
    "LiteLLM": ({"error": {"message": f'AnthropicException - {{"error": {{"message": "{BOTH}"}}}}'}}, {T, P}),
    "Bedrock": ({"message": f"The model returned the following errors: {BOTH}"}, {T, P}),
    "Bedrock's names": ({"message": "Malformed input request: extraneous key [topP] is not permitted"}, {P}),
    "Gemini": ([{"error": {"code": 400, "message": 'Unknown name "frequency_penalty": Cannot find field.'}}], {F}),
    "NIM": ({"status": 422, "detail": "body -> frequency_penalty\n  Extra inputs (type=extra_forbidden)"}, {F}),
    "Moonshot": ({"error": {"message": "invalid temperature: only 1 is allowed for this model"}}, {T}),
    "Mistral": ({"object": "error", "message": "top_p must be 1 when using greedy sampling."}, {P}),
    "Mistral's schema": ({"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}}, {"seed"}),
    "Qwen": ({"error": {"message": "InternalError: Range of top_p should be (0.0, 1.0)"}}, {P}),
    "Groq": ({"error": {"message": "property 'presence_penalty' is unsupported"}}, {"presence_penalty"}),
    "GigaChat": ({"status": 422, "message": "Invalid params: temperature must be in range (0, +inf)"}, {T}),
    "OpenRouter": (
        {"error": {"message": "Provider returned error", "metadata": {"raw": "Unsupported parameter: 'temperature'"}}},
        {T},
    ),
    "a gateway": ({"error": {"cause": '{"error": {"message": "top_p is out of range"}}', "message": "failed"}}, {P}),
    "fields": ({"message": "Invalid request", "errors": [{"field": "top_p", "reason": "out of range"}]}, {P}),
    "Zod": ({"error": {"issues": [{"path": [], "message": "Unrecognized key(s) in object: 'seed'"}]}}, {"seed"}),
    "a long one": ({"error": {"message": "x" * 900 + " top_p is not taken"}}, {P}),
    "text": (b"temperature is not supported", {T}),
    "nothing": ({"error": {"message": "the prompt is too long; try another temper"}}, set()),
}  # fmt: skip


@pytest.mark.parametrize("vendor", WORDS)
def test_a_setting_is_left_out_whose_refusal_names_it_in_the_words_of_any_vendor(engines, vendor) -> None:
    words, named = WORDS[vendor]

    def model(body: Body) -> Any:
        return (400, words) if named & body.keys() or not named else None

    with AnsweringServer(Model(model)) as server:
        engine = engines(server.url)
        # The prompt names them as well: that a prompt is hidden from what is said hides no lesson.
        [completion] = engine.generate([cell("temperature, top_p, frequency_penalty?", DecodingConfig())])
        assert (completion.finish == "error") == (not named)
        assert named <= set(completion.receipt)
        assert len(server.asked) == (2 if named else 1)
