"""`SimulatedEngine`: a world whose true expected rewards are known, in place of an LLM.

Everything about the world is a hash of its seed, the prompt's text and the config's digest, so that
two processes agree about it without sharing anything, and it holds for any prompt and any config.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hagpolicy._checks import is_number, is_whole
from hagpolicy._digest import digest
from hagpolicy.artefacts.folder import load_artefacts
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS
from hagpolicy.config.render import apply_hint
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import Prompt, as_prompts, prompt_text
from hagpolicy.data.stopping import find_stop
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.base import Score, Scorer

_VOCABULARIES = {
    "kitchen": "flour butter onion kettle oven garlic recipe sauce pepper soup dough pan cheese cinnamon",
    "sea": "harbour anchor tide whale sailor island wave coral lighthouse captain reef ship dolphin shore",
    "court": "judge lawyer contract verdict jury witness appeal lawsuit clause statute bail trial crime court",
    "garden": "tulip soil seed shovel hedge compost orchard rose weed blossom lawn pruning fern greenhouse",
    "machine": "engine piston gear voltage turbine motor bolt circuit sensor valve battery diesel cable robot",
    "music": "violin chord melody rhythm concert guitar singer drum opera tempo piano choir trumpet jazz",
    "sport": "goalkeeper referee marathon tennis coach stadium sprint league medal racket goal athlete score hockey",
    "sky": "planet comet telescope galaxy orbit moon astronaut rocket star eclipse satellite cosmos meteor venus",
}
THEMES: dict[str, tuple[str, ...]] = {theme: tuple(words.split()) for theme, words in _VOCABULARIES.items()}
TEMPLATES = (
    "Tell me about the {0} and the {1}, then compare the {2} with the {3}.",
    "Which matters more here: {0} or {1}? Mention the {2} and a {3}.",
    "A friend asked how {0}, {1} and {2} belong together. Explain it with a {3}.",
    "Write two lines on {0}. They should name {1}, {2} and {3}.",
    "Given a {0} and a {1}, what would you do with the {2} near the {3}?",
    "List what one needs to know about {0}, {1}, {2} and {3}.",
)
_ENDING = "so then the answer is given here with all that was asked for and nothing more"
_FILLER = tuple(_ENDING.split())
_BASE_LOW, _BASE_HIGH = 0.35, 0.65


class SimulatedEngine(Engine):
    """An engine with a known true expected reward for every prompt and config.

    truth = base(prompt) + effect(config) + A · cos(2π (phase(config) − phase(task))) + noise(prompt, config),
    held in [.02, .98]. Over equally frequent tasks the cosine averages to nothing for every config,
    so it moves no single-best config and is won only by choosing per task. Rewards are 0 or 1,
    drawn with that expectation from the request's seed alone; a deterministic config repeats one
    outcome, drawn from prompt and config.

    Args:
        seed: number of the world.
        n_tasks: kinds of prompts, 2 to 8; each has a vocabulary of its own.
        gap: mean reward that the best config of each task has over the single best config, [0, .3];
            0: nothing to learn. Exact (before `noise`) for the `space` given here with the engine's
            default added, else about right for spaces of eight and more configs.
        config_effect: configs differ by up to this much on average either way, [0, .2].
        noise: effect of each prompt and config on top, which no text predicts, [0, .3]: uniform
            within ± noise.
        predictable: False: the phase is the prompt's own, hashed from its text, so that each
            prompt has its best config and no word predicts it.
        space: the space for which `gap` is to hold exactly.
        unit_cells: see `Engine`.
        delay: seconds that each cell takes.
        fail_rate: share of the cells that fail, by their seed, [0, 1].
        lacks: names of config fields that this engine cannot honour.
        artifacts: folders by field and name, see `load_artefacts`; what they hold is not looked at, their digests
            and what they were made from are. None: a config may name any.

    Raises:
        InvalidInput: a value out of range, or a gap that the space cannot have.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        n_tasks: int = 4,
        gap: float = 0.15,
        config_effect: float = 0.04,
        noise: float = 0.0,
        predictable: bool = True,
        space: DecodingSpace | None = None,
        unit_cells: int = 64,
        delay: float = 0.0,
        fail_rate: float = 0.0,
        lacks: Sequence[str] = (),
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if not is_whole(n_tasks, 2, len(THEMES)):
            raise InvalidInput("n_tasks", f"a whole number in [2, {len(THEMES)}]", n_tasks)
        given = {"gap": gap, "config_effect": config_effect, "noise": noise, "fail_rate": fail_rate, "delay": delay}
        for (name, value), high in zip(given.items(), (0.3, 0.2, 0.3, 1.0, 3600.0), strict=True):
            if not is_number(value) or not 0.0 <= value <= high:
                raise InvalidInput(name, f"a number in [0, {high:g}]", value)
        if not is_whole(unit_cells, 1):
            raise InvalidInput("unit_cells", "a whole number of at least 1", unit_cells)
        self.seed = seed
        self.tasks = tuple(THEMES)[:n_tasks]
        self.gap, self.config_effect, self.noise, self.predictable = gap, config_effect, noise, predictable
        self.delay, self.fail_rate, self.lacks = delay, fail_rate, tuple(lacks)
        self.artefacts = load_artefacts(artifacts)
        self.name = f"simulated:{seed}"
        self.unit_cells = unit_cells
        self.scorer: Scorer = SimulatedScorer()
        self._theme_of = {word: t for t, theme in enumerate(self.tasks) for word in THEMES[theme]}
        # Among eight or more phases the nearest one reaches about nine tenths of the amplitude.
        self.amplitude = gap / 0.9 if space is None else self._calibrate(space.with_config(self.default_config())[0])

    @classmethod
    def load(cls, seed: str, /, **options: Any) -> SimulatedEngine:
        """The world of a number as text, "" for 0; `options` as for the class.

        Raises:
            InvalidInput: no whole number, or an option out of range.
        """
        if (seed and not (seed.isascii() and seed.isdecimal() and len(seed) < 20)) or "seed" in options:
            raise InvalidInput("engine", "simulated:SEED with a whole number", f"simulated:{seed}")
        return cls(int(seed or 0), **options)

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Of the world: delays and failures do not change what a cell holds."""
        world = [self.seed, len(self.tasks), self.amplitude, self.config_effect, self.noise, self.predictable]
        return {"kind": "simulated", "model": self.name, "revision": digest(world), "version": "1"}

    def lacks_artefact(self, config: DecodingConfig, name: str) -> bool:
        """See `Engine.lacks_artefact`; without artefacts any name is one of the world."""
        return bool(self.artefacts) and super().lacks_artefact(config, name)

    def default_config(self) -> DecodingConfig:
        """Every field neutral: plain sampling at temperature 1."""
        return DecodingConfig()

    @property
    def handles(self) -> frozenset[str]:
        """All fields but `lacks`: what a config is worth follows from its digest, which holds every one of them."""
        return frozenset(FIELDS) - frozenset(self.lacks)

    def prompts(self, n: int, seed: int = 0) -> tuple[Prompt, ...]:
        """n distinct prompts of English words, tasks equally frequent and in mixed order; `task` names the theme."""
        draw = np.random.default_rng([abs(self.seed), seed, 0x5A])
        order = draw.permutation(n)
        texts: dict[str, int] = {}
        while len(texts) < n:
            task = len(texts) % len(self.tasks)
            words = draw.choice(THEMES[self.tasks[task]], size=4, replace=False)
            texts.setdefault(TEMPLATES[draw.integers(len(TEMPLATES))].format(*words), task)
        made = [Prompt(text, task=self.tasks[task]) for text, task in texts.items()]
        return tuple(made[i] for i in order)

    def truth(self, prompts: Iterable[Any], space: Iterable[DecodingConfig]) -> np.ndarray:
        """float64 (n_prompts, n_configs): the true expected reward of every cell, in [.02, .98]."""
        texts = [prompt.text for prompt in as_prompts(prompts)]
        configs = list(space)
        base = np.array([_BASE_LOW + (_BASE_HIGH - _BASE_LOW) * self._hash_to_unit("base", text) for text in texts])
        phases = np.array([self._find_phase(text) for text in texts])
        values = base[:, None] + self._sum_effects(phases, configs, self.amplitude)
        if self.noise > 0.0:
            rough = [[self._hash_to_unit("noise", text, config.digest) for config in configs] for text in texts]
            values = values + self.noise * (2.0 * np.array(rough) - 1.0)
        return np.asarray(np.clip(values, 0.02, 0.98), dtype=np.float64)

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """See `Engine.generate`. The text starts with "right" or "wrong", which the scorer reads."""
        for request in unit:
            if missing := self.unsupported(request.config):
                raise EngineError(f"{self.name} cannot honour {', '.join(missing)} of {request.config!r}")
        if not unit:
            return []
        if self.delay > 0.0:
            time.sleep(self.delay * len(unit))
        rows = {prompt: i for i, prompt in enumerate(dict.fromkeys(request.prompt for request in unit))}
        columns = {config: j for j, config in enumerate(dict.fromkeys(request.config for request in unit))}
        truth = self.truth(list(rows), columns)
        return [self._complete(r, float(truth[rows[r.prompt], columns[r.config]])) for r in unit]

    def _complete(self, request: Request, chance: float) -> Completion:
        prompt_tokens = len(prompt_text(apply_hint(request.prompt.content, request.config.hint)).split())
        if self._hash_to_unit("fail", str(request.seed)) < self.fail_rate:
            message = "simulated failure"
            return Completion("", prompt_tokens=prompt_tokens, seconds=self.delay, finish="error", error=message)
        config = request.config
        sure = config.deterministic or config.top_k == 1 or config.top_p < 1e-3 or config.min_p == 1.0
        key = ("sure", request.prompt.text, config.digest) if sure else ("drawn", str(request.seed))
        words = ["right" if self._hash_to_unit("reward", *key) < chance else "wrong"]
        start, length = (int(len(_FILLER) * self._hash_to_unit(what, *key)) for what in ("start", "length"))
        words += [_FILLER[(start + at) % len(_FILLER)] for at in range(length)]
        tokens = len(words) + 1
        kept = words[: request.max_tokens]
        finish = "stop" if tokens <= request.max_tokens else "length"
        text, tokens = " ".join(kept), min(tokens, request.max_tokens)
        if (place := find_stop(text, request.stop)) >= 0:
            text, tokens, finish = text[:place], len(text[:place].split()) + 1, "stop"
        return Completion(text, tokens, prompt_tokens, self.delay, finish)

    def _sum_effects(self, phases: np.ndarray, configs: Sequence[DecodingConfig], amplitude: float) -> np.ndarray:
        """(len(phases), n_configs): effect of the config and of config and task together."""
        effects = np.array([2.0 * self._hash_to_unit("effect", config.digest) - 1.0 for config in configs])
        angles = np.array([self._hash_to_unit("phase", config.digest) for config in configs])
        turns = angles[None, :] - phases[:, None]
        return np.asarray(self.config_effect * effects + amplitude * np.cos(2.0 * np.pi * turns))

    def _find_phase(self, text: str) -> float:
        """Phase of a prompt in [0, 1): of the theme most of its words belong to; of its hash where there is none."""
        words = re.findall("[a-z]+", text.lower())
        themes = [self._theme_of[word] for word in words if word in self._theme_of]
        if not self.predictable or not themes:
            return self._hash_to_unit("own phase", text)
        return max(range(len(self.tasks)), key=themes.count) / len(self.tasks)

    def _calibrate(self, space: DecodingSpace) -> float:
        """The amplitude at which the best config per phase beats the single best one by `gap` on average."""
        if self.gap == 0.0:
            return 0.0
        count = len(self.tasks) if self.predictable else 256
        phases = np.arange(count) / count
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2.0
            values = self._sum_effects(phases, space, middle)
            reached = float(values.max(axis=1).mean() - values.mean(axis=0).max())
            low, high = (middle, high) if reached < self.gap else (low, middle)
        if high + self.config_effect > _BASE_LOW - 0.02:
            do = "Ask for a smaller gap, or give more configs."
            raise InvalidInput("gap", f"one that {space!r} can have in this world", self.gap, do)
        return high

    def _hash_to_unit(self, *parts: str) -> float:
        """A number in [0, 1), uniform and fixed by the world's seed and the parts."""
        data = "\x1f".join((str(self.seed), *parts)).encode("utf-8", "surrogatepass")
        return (int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 11) / 2.0**53


class SimulatedScorer(Scorer):
    """1 for a text that starts with "right", 0 for "wrong", unscored otherwise."""

    name = "simulated"
    version = "1"

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """See `Scorer.score`."""
        known = {"right": Score(1.0, answer="right"), "wrong": Score(0.0, answer="wrong")}
        return [
            known.get(completion.text.partition(" ")[0]) or Score.unscored("no text of a simulated world")
            for _, completion in items
        ]
