"""A check, by a few generations, that an engine honours the settings it is sent.

Servers lose settings in silence: a field that is skipped, a default that wins, a sampler that stays
greedy. Such a sweep looks fine and means nothing, so three promises are tried before it: samples at
a high temperature differ, greedy ones agree, and a penalty changes the text. One draw could keep or
break a promise by luck, so each is judged over several draws and prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.base import Engine
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
DRAWS = 3
SAMPLED_TOKENS, GREEDY_TOKENS, PENALTY_TOKENS = 6, 8, 20
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
        promise: "samples differ", "greedy agrees", or "NAME changes the text".
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
        tokens: new tokens that the check took.
    """

    engine: str
    findings: tuple[Finding, ...]
    tokens: int

    def __str__(self) -> str:
        return "\n".join([f"{self.engine}, {self.tokens} tokens", *map(str, self.findings)])


def check_contract(engine: Engine) -> ContractReport:
    """Try an engine's promises with some twenty short generations.

    Two greedy answers may part where two tokens are equally likely and the server's floating point
    depends on the batch. So the greedy promise is broken only where the draws of every prompt
    disagree, and where some did, a penalty has to change two texts.

    Raises:
        EngineError: a promise is broken, naming what was lost and what to do; or no answer came.
    """
    trial = _Trial(engine)
    findings = [trial.check_samples(), trial.check_greedy()]
    penalties = trial.select_supported(PENALTIES) or trial.select_supported(LAST_RESORT)
    findings += [trial.check_penalty(name, values) for name, values in penalties]
    if not penalties:
        findings.append(Finding("a penalty changes the text", None, "this engine has none beside greedy decoding"))
    report = ContractReport(engine.name, tuple(findings), trial.tokens)
    if any(finding.held is False for finding in findings):
        raise EngineError(_describe_broken(report))
    return report


class _Trial:
    """The generations of one check.

    Attributes:
        tokens: new tokens so far.
        steady: whether every greedy answer came back the same.
        plain: greedy answers without a penalty.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tokens = 0
        self.steady = True
        self.plain: dict[Prompt, str] = {}

    def select_supported(
        self, penalties: Sequence[tuple[str, tuple[float, ...]]]
    ) -> list[tuple[str, tuple[float, ...]]]:
        return [(name, values) for name, values in penalties if self.supports(_make_penalised(name, values[0]))]

    def supports(self, config: DecodingConfig) -> bool:
        return not self.engine.unsupported(config)

    def check_samples(self) -> Finding:
        promise = "samples differ"
        hot = next((one for t in HOT if self.supports(one := DecodingConfig(temperature=t))), None)
        if hot is None:
            return Finding(promise, None, "this engine takes no temperature of 1 or 2")
        texts: dict[Prompt, list[str]] = {prompt: [] for prompt in OPEN}
        # A second round only where the first does not settle it.
        for start in (0, DRAWS):
            for prompt in OPEN:
                texts[prompt] += self.draw([prompt] * DRAWS, hot, SAMPLED_TOKENS, start)
            if any(len(set(drawn)) >= DRAWS for drawn in texts.values()):
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
        # One at a time: beside others, a server's floating point may differ.
        drawn = [[self.draw([p], greedy, GREEDY_TOKENS, at)[0] for at in range(DRAWS)] for p in OPEN]
        if not any(text for texts in drawn for text in texts):
            return Finding(promise, None, f"no text within {GREEDY_TOKENS} tokens")
        parted = [texts for texts in drawn if len(set(texts)) > 1]
        self.steady = not parted
        if not parted:
            return Finding(promise, True, f"{DRAWS} equal texts to each of {len(OPEN)} prompts")
        shared = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*parted[0], strict=False)))
        seen = f"texts to {len(parted)} of {len(OPEN)} prompts part, the first after {shared} characters"
        return Finding(promise, len(parted) < len(OPEN), seen)

    def check_penalty(self, name: str, values: tuple[float, ...]) -> Finding:
        promise = f"{name} changes the text"
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

    def draw(self, prompts: Sequence[Prompt], config: DecodingConfig, limit: int, start: int = 0) -> list[str]:
        """One text a prompt, of samples numbered from `start`; generated together."""
        numbered = list(enumerate(prompts, start))
        unit = [Request(p, config, at, (at + 1) * _SEED_STEP % 2**63, limit) for at, p in numbered]
        done = self.engine.generate(unit)
        self.tokens += sum(completion.tokens for completion in done)
        return [_read_text(completion) for completion in done]


def _read_text(completion: Completion) -> str:
    if completion.finish == "error":
        raise EngineError(f"the check of the engine's settings got no answer: {completion.error}")
    return completion.text


def _make_penalised(name: str, value: float) -> DecodingConfig:
    return DecodingConfig.from_dict({"temperature": 0.0, name: value})


_CAUSES = {
    "samples differ": "the temperature is lost on the way, or the server decodes greedily",
    "greedy agrees": "temperature 0 is lost on the way, and the server samples",
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
