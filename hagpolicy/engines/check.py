"""A check, by a few generations, that an engine honours the settings it is sent.

Servers lose settings in silence: a field that is skipped, a default that wins, a sampler that stays
greedy. Such a sweep looks fine and means nothing, so four promises are tried before it: samples at
a high temperature differ, greedy ones agree, samples cut to one token (`top_k`, `top_p`, `min_p`) agree
as well, and a penalty changes the text; and what the space says of thinking changes prompt or answer, which the chat
template of a model may not know of. One draw could keep or break a promise by luck, so each is judged
over several draws and prompts.

Only what the space uses is tried, since models refuse what they do not take: a temperature that is not
their only one, or two settings together. What the server refuses is not tried, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hagpolicy._text import format_number
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request, sum_tokens
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.base import Engine
from hagpolicy.engines.openai.refusals import is_refusal
from hagpolicy.errors import EngineError

__all__ = ["ContractReport", "Finding", "check_contract"]

# Open questions: even a model that is sure of its answers has many ways to begin these.
OPEN = (Prompt("Write ten random words."), Prompt("Invent an unusual name for a planet and describe it."))
# Answers that repeat themselves: a penalty that counts the answer alone changes them too.
REPEATING = (
    Prompt("List twelve fruits, separated by commas."),
    Prompt("Say the word yes twenty times."),
    Prompt("Describe the sea in long sentences."),
)
# At these values one token alone is left, so samples agree as greedy ones do.
CUTS = {"top_k": (1,), "top_p": (1e-6, 1e-3), "min_p": (1.0,)}
DRAWS = 3
SAMPLED_TOKENS, GREEDY_TOKENS, PENALTY_TOKENS, THINKING_TOKENS = 6, 8, 20, 48
# Values that ask for other answers; of efforts those of the space come first.
THOUGHTS: Mapping[str, tuple[Any, ...]] = {
    "thinking": (True, False),
    "reasoning_effort": ("low", "high"),
    "thinking_budget": (0, None),
}
# The greatest that every server with a range takes; the lower one is for those that take no more.
HOT = (2.0, 1.0)
# The strongest that every server takes. A presence penalty is too weak to change every text, so it is
# tried either way, and only where there is no other one.
PENALTIES = (("repetition_penalty", (2.0,)), ("frequency_penalty", (2.0,)))
LAST_RESORT = (("presence_penalty", (2.0, -2.0)),)
# Between the draws of a setting the seeds differ as those of a sweep do: far apart, 63 bits wide.
_SEED_STEP = 0x5851F42D4C957F2D


@dataclass(frozen=True)
class Finding:
    """What became of one promise.

    Attributes:
        promise: "samples differ", "greedy agrees", "NAME cuts the samples", "NAME changes the text", or "NAME changes
            the answer".
        held: True or False; None: it could not be tried.
        seen: what was seen, or why it was not tried.
    """

    promise: str
    held: bool | None
    seen: str

    def __str__(self) -> str:
        word = {True: "held", False: "BROKEN", None: "not tried"}[self.held]
        return f"{self.promise}: {word} ({self.seen})"


@dataclass(frozen=True)
class ContractReport:
    """What an engine did with a few settings.

    Attributes:
        engine: its name.
        findings: one for each promise.
        tokens: new tokens that the check took; NaN where they were not counted.
    """

    engine: str
    findings: tuple[Finding, ...]
    tokens: float

    def __str__(self) -> str:
        return "\n".join([f"{self.engine}, {format_number(self.tokens)} tokens", *map(str, self.findings)])


def check_contract(engine: Engine, space: Sequence[DecodingConfig] = ()) -> ContractReport:
    """Try an engine's promises with some twenty short generations.

    Args:
        engine: whose promises.
        space: what they are made of: settings that no config of it uses are not tried. Empty: all are.

    Two greedy answers may part where two tokens are equally likely and the server's floating point
    depends on the batch. So the greedy promise is broken only where the draws of every prompt
    disagree, and where some did, a penalty has to change two texts. A cut is broken only where the draws of
    two groups disagree, each of a prompt whose samples all differed without it. Where one greedy text in a
    hundred parts within six tokens by floating point, an honest engine is accused of it once in ten thousand
    checks (once in a hundred where one prompt's samples alone differed); one that ignores the cut passes only if
    three samples of such a prompt happen to be equal.

    Raises:
        EngineError: a promise is broken, naming what was lost and what to do; or no answer came.
    """
    trial = _Trial(engine, space)
    findings = [trial.check_samples(), trial.check_greedy()]
    findings += [trial.check_cut(name, values) for name, values in CUTS.items() if trial.uses(name)]
    wanted = [(name, values) for name, values in PENALTIES if trial.uses(name)]
    penalties = trial.select_supported(wanted)
    if not penalties and (not space or trial.uses(LAST_RESORT[0][0])):
        penalties = trial.select_supported(LAST_RESORT)
    findings += [trial.check_penalty(name, values) for name, values in penalties]
    if not penalties:
        findings.append(Finding("a penalty changes the text", None, "none can be tried beside greedy decoding"))
    findings += [trial.check_thinking(name, values) for name, values in THOUGHTS.items() if space and trial.uses(name)]
    report = ContractReport(engine.name, tuple(findings), trial.tokens)
    if not trial.answered and trial.refused:
        raise EngineError(f"the check of the engine's settings got no answer: {trial.refused}")
    if any(finding.held is False for finding in findings):
        raise EngineError(_describe_broken(report))
    return report


class _Trial:
    """The generations of one check.

    Attributes:
        tokens: new tokens so far.
        steady: whether every greedy answer came back the same.
        plain: greedy answers without a penalty.
        hot: the config whose samples differed; None: none did.
        differing: prompts whose samples all differed.
        answered: whether any answer came.
        refused: why the server refused a config last; "": it took all.
    """

    def __init__(self, engine: Engine, space: Sequence[DecodingConfig]) -> None:
        self.engine, self.space = engine, space
        self.hot: DecodingConfig | None = None
        self.differing: list[Prompt] = []
        self.answered, self.refused = False, ""
        self.tokens: float = 0
        self.steady = True
        self.plain: dict[Prompt, str] = {}

    def select_supported(
        self, penalties: Sequence[tuple[str, tuple[float, ...]]]
    ) -> list[tuple[str, tuple[float, ...]]]:
        return [(name, values) for name, values in penalties if self.supports(_make_penalised(name, values[0]))]

    def supports(self, config: DecodingConfig) -> bool:
        return not self.engine.unsupported(config)

    def uses(self, name: str) -> bool:
        """Whether a config uses a setting; without a space, whether the engine has it."""
        if not self.space:
            return name in self.engine.handles
        return any(name in config.canonical().to_dict() for config in self.space)

    def list_hot(self) -> list[DecodingConfig]:
        """Configs whose samples are to differ, the one to try first first: nothing hotter than the space needs, but
        hot enough that samples of a model that is sure of itself differ."""
        own = [config.temperature for config in self.space if not (config.deterministic or config.unset)]
        warmest = max(own, default=0.0)
        temperatures = HOT if not self.space else (warmest, 1.0) if warmest >= 1.0 else (1.0, 2.0, warmest)
        return [one for t in dict.fromkeys(temperatures) if self.supports(one := DecodingConfig(temperature=t))]

    def check_samples(self) -> Finding:
        promise = "samples differ"
        if self.space and all(config.deterministic or config.unset for config in self.space):
            return Finding(promise, None, "the space has no sampled config")
        for hot in self.list_hot():
            try:
                return self.compare_samples(promise, hot)
            except _RefusedError:
                continue
        return Finding(promise, None, self.refused or "this engine takes no temperature of 1 or 2")

    def compare_samples(self, promise: str, hot: DecodingConfig) -> Finding:
        texts: dict[Prompt, list[str]] = {prompt: [] for prompt in OPEN}
        # A second round only where the first does not settle it.
        for start in (0, DRAWS):
            for prompt in OPEN:
                texts[prompt] += self.draw([prompt] * DRAWS, hot, SAMPLED_TOKENS, start)
            self.differing = [prompt for prompt, drawn in texts.items() if len(set(drawn)) >= DRAWS]
            if self.differing:
                self.hot = hot
                count = sum(len(set(drawn)) for drawn in texts.values())
                seen = f"{count} different texts in {sum(map(len, texts.values()))} draws at {hot}"
                return Finding(promise, True, seen)
        if not any(text for drawn in texts.values() for text in drawn):
            return Finding(promise, None, f"no text within {SAMPLED_TOKENS} tokens")
        first = texts[OPEN[0]][0]
        return Finding(promise, False, f"answers at {hot} are copies, such as {first!r}")

    def check_greedy(self) -> Finding:
        promise = "greedy agrees"
        greedy = DecodingConfig(temperature=0.0)
        if not self.supports(greedy):
            return Finding(promise, None, "this engine takes no temperature of 0")
        if self.space and not any(config.temperature == 0.0 for config in self.space):
            return Finding(promise, None, "the space has no greedy config")
        try:
            # One at a time: beside others, a server's floating point may differ.
            drawn = [[self.draw([p], greedy, GREEDY_TOKENS, at)[0] for at in range(DRAWS)] for p in OPEN]
        except _RefusedError:
            return Finding(promise, None, self.refused)
        if not any(text for texts in drawn for text in texts):
            return Finding(promise, None, f"no text within {GREEDY_TOKENS} tokens")
        parted = [texts for texts in drawn if len(set(texts)) > 1]
        self.steady = not parted
        if not parted:
            return Finding(promise, True, f"{DRAWS} equal texts to each of {len(OPEN)} prompts")
        shared = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*parted[0], strict=False)))
        seen = f"texts to {len(parted)} of {len(OPEN)} prompts part, the first after {shared} characters"
        return Finding(promise, len(parted) < len(OPEN), seen)

    def check_cut(self, name: str, values: Sequence[float]) -> Finding:
        promise = f"{name} cuts the samples"
        if self.hot is None:
            return Finding(promise, None, "no samples were seen to differ without it")
        for value in values:
            config = DecodingConfig.from_dict({"temperature": self.hot.temperature, name: value})
            if not self.supports(config):
                continue
            try:
                # The same prompt again, under other seeds, where it is the only one.
                for start, prompt in zip((0, DRAWS), (self.differing * 2)[:2], strict=True):
                    texts = self.draw([prompt] * DRAWS, config, SAMPLED_TOKENS, start)
                    if len(set(texts)) == 1:
                        return Finding(promise, True, f"{DRAWS} equal texts at {name}={value:g}")
            except _RefusedError:
                continue
            return Finding(promise, False, f"samples at {name}={value:g} differ, such as {texts[0]!r} and {texts[1]!r}")
        return Finding(promise, None, self.refused or "this engine does not take it")

    def check_penalty(self, name: str, values: tuple[float, ...]) -> Finding:
        try:
            return self.compare_penalty(f"{name} changes the text", name, values)
        except _RefusedError:
            return Finding(f"{name} changes the text", None, self.refused)

    def compare_penalty(self, promise: str, name: str, values: tuple[float, ...]) -> Finding:
        changed = 0
        texts: list[str] = []
        for prompt in REPEATING:
            if prompt not in self.plain:
                [self.plain[prompt]] = self.draw([prompt], DecodingConfig(temperature=0.0), PENALTY_TOKENS)
            plain = self.plain[prompt]
            with_it = [self.draw([prompt], _make_penalised(name, value), PENALTY_TOKENS)[0] for value in values]
            texts += [plain, *with_it]
            changed += any(text != plain for text in with_it)
            if changed > (0 if self.steady else 1):
                return Finding(promise, True, f"changed {changed} of {len(texts) // (1 + len(values))} greedy texts")
        if not any(texts):
            return Finding(promise, None, f"no text within {PENALTY_TOKENS} tokens")
        return Finding(promise, False, f"at {values[0]:g} greedy texts stay as they are, such as {texts[0]!r}")

    def check_thinking(self, name: str, values: Sequence[Any]) -> Finding:
        promise = f"{name} changes the answer"
        if name == "reasoning_effort":
            own = dict.fromkeys(config.reasoning_effort for config in self.space if config.reasoning_effort)
            values = list(dict.fromkeys((*own, *values)))[:2]
        beside = {"thinking": True} if name == "thinking_budget" and self.uses("thinking") else {}
        configs = [DecodingConfig.from_dict({"temperature": 0.0, **beside, name: value}) for value in values]
        if not all(map(self.supports, configs)):
            return Finding(promise, None, f"this engine does not take {' or '.join(map(str, configs))}")
        try:
            return self.compare_thinking(promise, configs)
        except _RefusedError:
            return Finding(promise, None, self.refused)

    def compare_thinking(self, promise: str, configs: Sequence[DecodingConfig]) -> Finding:
        """Another number of tokens in the prompt settles it; where answers alone tell, as for a penalty.

        Answers are long enough to part by floating point, as where a prompt is read anew first and from a cache
        then: so each is drawn twice, and those of one config have to be others than those of the other.
        """
        changed = 0
        for prompt in REPEATING:
            drawn = [self.complete([prompt], config, THINKING_TOKENS)[0] for config in configs]
            before, after = drawn[0].prompt_tokens, drawn[1].prompt_tokens
            if before < after or before > after:
                return Finding(promise, True, f"prompts of {before:.0f} and {after:.0f} tokens")
            drawn += [self.complete([prompt], config, THINKING_TOKENS)[0] for config in configs]
            said = [(one.text, one.reasoning, one.tokens if one.tokens == one.tokens else None) for one in drawn]
            changed += set(said[::2]).isdisjoint(said[1::2])
            if changed > (0 if self.steady else 1):
                return Finding(promise, True, f"greedy answers at {configs[0]} and {configs[1]} differ")
        text = drawn[0].text or drawn[0].reasoning
        return Finding(
            promise, False, f"greedy answers at {configs[0]} and {configs[1]} are the same, such as {text!r}"
        )

    def draw(self, prompts: Sequence[Prompt], config: DecodingConfig, limit: int, start: int = 0) -> list[str]:
        """One text a prompt, of samples numbered from `start`; generated together."""
        return [completion.text for completion in self.complete(prompts, config, limit, start)]

    def complete(
        self, prompts: Sequence[Prompt], config: DecodingConfig, limit: int, start: int = 0
    ) -> list[Completion]:
        """One answer a prompt; see `draw`.

        Raises:
            _RefusedError: the server refuses such a request.
            EngineError: it gave no answer.
        """
        numbered = list(enumerate(prompts, start))
        unit = [Request(p, config, at, (at + 1) * _SEED_STEP % 2**63, limit) for at, p in numbered]
        done = self.engine.generate(unit)
        self.tokens += sum_tokens(done)
        for completion in done:
            self.check_answered(completion)
        return done

    def check_answered(self, completion: Completion) -> None:
        """Note an answer; raises as `complete`."""
        if completion.finish != "error":
            self.answered = True
            return
        if is_refusal(completion.error):
            self.refused = str(completion.error)
            raise _RefusedError
        raise EngineError(f"the check of the engine's settings got no answer: {completion.error}")


class _RefusedError(Exception):
    """The server takes no request with such a config."""


def _make_penalised(name: str, value: float) -> DecodingConfig:
    return DecodingConfig.from_dict({"temperature": 0.0, name: value})


_CAUSES = {
    "samples differ": "the temperature is lost on the way, or the server decodes greedily",
    "greedy agrees": "temperature 0 is lost on the way, and the server samples",
    **{
        f"{name} changes the answer": f"{name} is lost on the way, or the model's chat template does not know it"
        for name in THOUGHTS
    },
}


def _describe_broken(report: ContractReport) -> str:
    broken = [finding for finding in report.findings if finding.held is False]
    causes = [_CAUSES.get(finding.promise, f"{finding.promise.split()[0]} is lost on the way") for finding in broken]
    return (
        f"{report.engine} does not do what it is told: {'; '.join(causes)}. "
        f"Seen: {'. '.join(map(str, report.findings))}. "
        "A sweep of it would compare settings that never reached the model. Check that the server is of the kind "
        "named to hagpolicy and takes these settings from a request, or leave them out of the space."
    )
