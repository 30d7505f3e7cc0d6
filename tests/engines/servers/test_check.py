"""The check of an engine's promises: it catches each loss, and nothing else."""

from dataclasses import replace

import pytest

from hagpolicy import DecodingConfig, SimulatedEngine
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.data.completion import Completion
from hagpolicy.engines.check import OPEN, check_contract
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.errors import EngineError
from tests.support.tiny_llama import tiny_model, tiny_tokenizer


class Losing(TransformersEngine):
    """A real engine behind which settings get lost, as a server may lose them."""

    lost = ()

    def generate(self, unit):
        neutral = {name: NEUTRAL[name] for name in self.lost}
        return super().generate([replace(request, config=request.config.replace(**neutral)) for request in unit])


class Greedy(TransformersEngine):
    """A server that keeps its own greedy decoding whatever the temperature."""

    def generate(self, unit):
        return super().generate([replace(r, config=r.config.replace(temperature=0.0)) for r in unit])


class OneStream(TransformersEngine):
    """A server whose samples all come from one seed."""

    def generate(self, unit):
        return super().generate([replace(request, seed=1, sample=0) for request in unit])


def made(kind, lost=()):
    engine = kind(tiny_model(), tiny_tokenizer())
    engine.lost = lost
    return engine


def test_a_real_engine_keeps_its_promises():
    report = check_contract(made(TransformersEngine))
    assert {finding.promise: finding.held for finding in report.findings} == {
        "samples differ": True,
        "greedy agrees": True,
        "top_k cuts the samples": True,
        "top_p cuts the samples": True,
        "min_p cuts the samples": True,
        "repetition_penalty changes the text": True,
        "frequency_penalty changes the text": True,
    }
    assert 0 < report.tokens <= 260
    assert "held" in str(report)


@pytest.mark.parametrize(
    ("kind", "lost", "broken"),
    [
        (Greedy, [], "samples differ"),
        (OneStream, [], "samples differ"),
        (Losing, ["temperature"], "greedy agrees"),
        (Losing, ["top_k"], "top_k cuts the samples"),
        (Losing, ["top_p"], "top_p cuts the samples"),
        (Losing, ["min_p"], "min_p cuts the samples"),
        (Losing, ["repetition_penalty"], "repetition_penalty changes the text"),
        (Losing, ["frequency_penalty"], "frequency_penalty changes the text"),
    ],
    ids=["greedy", "one stream", "temperature", "top_k", "top_p", "min_p", "repetition", "frequency"],
)
def test_a_loss_is_named_with_what_was_seen_and_what_to_do(kind, lost, broken):
    with pytest.raises(EngineError, match="does not do what it is told") as caught:
        check_contract(made(kind, lost))
    words = str(caught.value)
    assert f"{broken}: BROKEN" in words
    assert "leave them out of the space" in words
    if "penalty" in broken or "cuts" in broken:
        # Only this one is lost, and only this one is named.
        assert words.count("BROKEN") == 1


def test_what_an_engine_does_not_have_is_not_tried():
    report = check_contract(SimulatedEngine(lacks=["repetition_penalty", "frequency_penalty", "presence_penalty"]))
    assert [finding.held for finding in report.findings] == [True, True, True, True, True, None]
    report = check_contract(SimulatedEngine(lacks=["temperature"]))
    assert [finding.held for finding in report.findings] == [True, None, True, True, True, None]
    report = check_contract(SimulatedEngine(lacks=["top_k"]))
    assert "top_k" not in str(report)
    # With one penalty only, that one.
    report = check_contract(SimulatedEngine(lacks=["repetition_penalty", "frequency_penalty"]))
    assert report.findings[-1].promise == "presence_penalty changes the text"


class Jittery(SimulatedEngine):
    """Greedy texts part late now and then, as on a server whose batches differ."""

    flips = ()

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.asked = 0

    def generate(self, unit):
        done = super().generate(unit)
        if unit[0].config.deterministic:
            self.asked += 1
            if self.asked in self.flips:
                done = [replace(completion, text=completion.text + " else") for completion in done]
        return done


def test_one_greedy_text_that_parts_is_floating_point_and_not_a_loss():
    engine = Jittery()
    engine.flips = (2,)  # of the first prompt's three draws
    report = check_contract(engine)
    greedy = report.findings[1]
    assert greedy.held
    assert "texts to 1 of 2 prompts part" in greedy.seen
    # Such an engine has to show the effect of a penalty twice.
    assert "changed 2 of 2" in report.findings[-2].seen


def test_greedy_texts_of_all_prompts_that_part_are_a_loss():
    engine = Jittery()
    engine.flips = (2, 5)  # one draw of each prompt
    with pytest.raises(EngineError, match="greedy agrees: BROKEN"):
        check_contract(engine)


class Silent(SimulatedEngine):
    """All its tokens go into reasoning that is no part of the text."""

    def generate(self, unit):
        return [replace(completion, text="") for completion in super().generate(unit)]


def test_an_engine_without_text_proves_nothing():
    report = check_contract(Silent())
    assert {finding.held for finding in report.findings} == {None}
    assert "no text within" in str(report)


class Failing(SimulatedEngine):
    def generate(self, unit):
        return [Completion("", finish="error", error="HTTP 500") for _ in unit]


def test_an_engine_without_answers_is_an_error_with_its_reason():
    with pytest.raises(EngineError, match="got no answer: HTTP 500"):
        check_contract(Failing())


def test_what_no_config_of_the_space_uses_is_not_tried():
    warm, sure = DecodingConfig(temperature=0.7), DecodingConfig(temperature=0.0)
    losing = made(Losing, ["top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty"])
    report = check_contract(losing, [warm, sure])
    assert [finding.held for finding in report.findings] == [True, True, None]
    assert [finding.held for finding in check_contract(losing, [sure]).findings] == [None, True, None]
    assert [finding.held for finding in check_contract(losing, [warm]).findings] == [True, None, None]
    for name, value in (("top_k", 5), ("top_p", 0.9), ("min_p", 0.1), ("repetition_penalty", 1.2)):
        with pytest.raises(EngineError, match=f"{name} (cuts|changes).*BROKEN"):
            check_contract(losing, [warm, warm.replace(**{name: value})])
    # Idle beside greedy decoding, it is not used.
    check_contract(losing, [warm, sure.replace(top_k=5)])


class Parting(SimulatedEngine):
    """Of samples that are cut to one token the first one parts, as by floating point on a busy server."""

    parting = ()

    def generate(self, unit):
        done = super().generate(unit)
        if unit[0].config.top_k == 1 and unit[0].prompt in self.parting:
            done[0] = replace(done[0], text=done[0].text + " else")
        return done


def test_samples_of_one_prompt_that_part_by_floating_point_are_no_loss_and_those_of_both_are():
    engine = Parting()
    engine.parting = OPEN[:1]
    assert check_contract(engine).findings[2].held
    engine.parting = OPEN
    with pytest.raises(EngineError, match="top_k cuts the samples: BROKEN"):
        check_contract(engine)
