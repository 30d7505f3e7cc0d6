"""`suggest_space`: from a short race over a large space the few configs that complement each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest
from hagpolicy._text import TextTable, format_count
from hagpolicy.analysis.objectives.families import Reward
from hagpolicy.analysis.prepare import prepare
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import SPECS
from hagpolicy.config.space import DEFAULT_PRESET, DecodingSpace
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import build_table, choose_view
from hagpolicy.data.store.place import Place
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.engines.base import Engine
from hagpolicy.engines.loading import EngineSource, open_engine
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate
from hagpolicy.sweeping.budget import Budget
from hagpolicy.sweeping.forecast.progress import Progress, ProgressReporter
from hagpolicy.sweeping.run import sweep
from hagpolicy.sweeping.spec import SpaceLike
from hagpolicy.sweeping.strategies.base import DEFAULT_SHARE
from hagpolicy.sweeping.strategies.posterior import Posterior, assign_kinds
from hagpolicy.sweeping.strategies.racing import LEAST_KEPT
from hagpolicy.tuning.choice import HeldOut, count_worthwhile, estimate_held_out, find_needless, order_configs

__all__ = ["SpaceSuggestion", "SuggestedConfig", "suggest_space"]

Part = Literal["suggested", "next", "needless"]
LARGE_PRESET = "large"
MOST_CONFIGS = 16
# Fields beside which an artefact does something, and artefacts that change the time of an answer alone.
_BESIDE: dict[str, dict[str, Any]] = {"reference": {"reference_weight": 0.3}}
_SAME = ("draft_source",)
SHOWN_NEXT = 5
"""Of the configs that could be added as many are printed; all are in `SpaceSuggestion.configs`."""


@dataclass(frozen=True)
class SuggestedConfig:
    """One config of the large space.

    Attributes:
        config: it.
        part: "suggested"; "next": could be added, in this order; "needless": no prompt needs it.
        expected: mean reward of the space with this config and those before it, each kind of prompt getting the best of
            them, as far as the race tells; of a needless one, of it alone.
        prompts: share of the prompts whose kind gets this config, of those suggested; 0 for the others.
        gain: what spaces of so many configs, chosen on other prompts, gain over the best single one; None for configs
            that are not suggested.
    """

    config: DecodingConfig
    part: Part
    expected: float
    prompts: float
    gain: Estimate | None


@dataclass(frozen=True)
class SpaceSuggestion:
    """The few configs of a large space that complement each other.

    Estimates are means over prompts with 95 % intervals over groups (as wide as the gate's), of sets that were chosen
    on other prompts, size and all.

    Attributes:
        configs: all of the large space: the suggested ones in the order in which each adds most, those to add next, and
            those that no prompt needs.
        value: mean reward of the suggested space, where each kind of prompt gets the best of it.
        over_single_best: its gain over the best single config: what is left for a policy.
        over_default: its gain over the default; None where that is not known.
        best_over_default: gain of the best single config over the default; None likewise.
        kinds: of prompts: task labels, or clusters of words where all have one label.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_left_out: prompts left out: without a scored sample of a config that stayed in the race.
        generations: that the race asked for.
        warnings: in plain words.
    """

    configs: tuple[SuggestedConfig, ...]
    value: Estimate
    over_single_best: Estimate
    over_default: Estimate | None
    best_over_default: Estimate | None
    kinds: int
    n_prompts: int
    n_groups: int
    n_left_out: int
    generations: int
    warnings: tuple[str, ...]

    @property
    def space(self) -> DecodingSpace:
        """The suggested configs, the best single one first."""
        return DecodingSpace(self.list_configs("suggested"))

    def list_configs(self, part: Part) -> list[DecodingConfig]:
        """The configs of a part, in their order."""
        return [row.config for row in self.configs if row.part == part]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        rows = [{**asdict(row), "config": row.config.to_dict()} for row in self.configs]
        return {**asdict(self), "configs": rows, "warnings": list(self.warnings)}

    @property
    def sentence(self) -> str:
        """The outcome in plain sentences."""
        best, *others = self.list_configs("suggested")
        over = (
            "" if self.best_over_default is None else f"; chosen on other prompts it gains {self.best_over_default:+}"
        )
        single = f"Best single config: {best}{over}{' over the default' if over else ''}."
        if not others:
            return f"{single} None of the others is expected to add to it for a kind of prompts."
        proven = "" if self.over_single_best.low > 0.0 else ", which is not proven"
        count = format_count(len(others) + 1, "config")
        return (
            f"{single} {count} that complement each other gain {self.over_single_best:+} over it{proven}: that much is "
            "left for a policy that knows the kinds."
        )

    def __str__(self) -> str:
        rows = []
        shown = [*(row for row in self.configs if row.part == "suggested"), *self._list_next()]
        for number, row in enumerate(shown):
            gain = "" if row.gain is None or not number else f"{row.gain:+}"
            prompts = f"{row.prompts:.0%}" if row.part == "suggested" else ""
            rows.append((row.part, f"{row.expected:.3f}", gain, prompts, str(row.config)))
        table = TextTable(("", "expected", "over the first, held out", "prompts", "config"), rows, "<>>><").to_text()
        needless = self.list_configs("needless")
        lines = [f"no prompt needs {format_count(len(needless), 'config')}: {'; '.join(map(str, needless))}"]
        left = f", {self.n_left_out} left out" if self.n_left_out else ""
        size = (
            f"{format_count(self.n_prompts, 'prompt')} of {format_count(self.kinds, 'kind')} in "
            f"{format_count(self.n_groups, 'independent group')}{left}; {self.generations:,} generations. "
            "Chosen on these prompts: what a policy gains is to be proven on others."
        )
        warnings = (f"warning: {warning}" for warning in self.warnings)
        return "\n".join([table, *lines[: len(needless)], self.sentence, size, *warnings])

    def _list_next(self) -> list[SuggestedConfig]:
        return [row for row in self.configs if row.part == "next"][:SHOWN_NEXT]


def suggest_space(
    engine: EngineSource,
    prompts: Any,
    scorer: Any,
    budget: Budget | int | str | None = None,
    *,
    out: Place,
    space: SpaceLike = LARGE_PRESET,
    most: int = 6,
    samples: int = 1,
    max_tokens: int = 256,
    seed: int = 0,
    default: DecodingConfig | Mapping[str, Any] | str | None = None,
    stop: str | Iterable[str] | None = None,
    threads: int | None = None,
    progress: bool | Callable[[Progress], Any] | ProgressReporter = True,
) -> SpaceSuggestion:
    """The few configs of a large space that complement each other, after a short race.

    The space is swept with `strategy="racing"` into `out`, which resumes and takes what is stored. Of the configs that
    stay, the best single one comes first, and then, one after the other, that which adds most where each kind of prompt
    gets the best of the set (`tuning.choice`), while one is expected to add at least .01. The held-out estimates
    are of this procedure, in five foldings of five parts.

    A config that lifts every kind takes the gain from those that would complement each other: on SmolLM2-135M greedy
    decoding, no repeated pairs, a repetition penalty and a hint for numbers left +.08 for a policy, and with a hint
    that lifted everything the best single config rose, and +.03 was left, unproven. The space that leaves a policy most
    is not the best space: take the config that lifts, and see in `over_single_best` what is left.

    Args:
        engine: see `sweep`.
        prompts: see `sweep`. Their tasks are the kinds; without tasks, clusters of their words.
        scorer: see `sweep`.
        budget: of the race, see `sweep`; None: 35 % of the generations of a full sweep, all of them for up to eight
            configs.
        out: the folder of the race, see `sweep`.
        space: the configs to choose from; the preset "large" is everything the engine can run: hints with slots, the
            artefacts that it was given, and ways to meet constraints, where a prompt has one, included.
        most: configs that are suggested at most, [1, 16].
        samples: of each prompt and sampled config.
        max_tokens: limit on new tokens where a config has none of its own.
        seed: of the sweep, the foldings and the draws, at least 0.
        default: what you run today, see `sweep`.
        stop: strings that end an answer, see `sweep`.
        threads: with which a model on a CPU computes, see `sweep`.
        progress: see `sweep`.

    Raises:
        InvalidInput: bad arguments, too small a budget, or fewer than two prompts that can be compared.
        what `sweep` raises.
    """
    if not is_whole(most, 1, MOST_CONFIGS):
        raise InvalidInput("most", f"a whole number in [1, {MOST_CONFIGS}]", most)
    known = as_prompts(prompts)
    options = {"samples": samples, "max_tokens": max_tokens, "seed": seed, "default": default, "stop": stop}
    with open_engine(engine, None, None, threads) as made:
        full = _resolve_space(space, made, known)
        raced, seen = race(made, known, full, scorer, out, budget=budget, progress=progress, **options)
    return suggest_from_tables(raced, seen, most=most, seed=seed)


def race(
    engine: Engine, prompts: Any, space: DecodingSpace, scorer: Any, out: Place, **options: Any
) -> tuple[SweepTable, SweepTable]:
    """The tables of a raced sweep: of the configs that stayed, and of all with whatever was generated of them.

    Of so few configs that a race without a budget of its own could not keep three, all cells are generated.

    Args:
        engine, prompts, space, scorer, out: see `sweep`; artefacts of the space are pinned.
        options: further ones of `sweep`.
    """
    few = options.get("budget") is None and len(space) * DEFAULT_SHARE < LEAST_KEPT
    raced = sweep(engine, prompts, space, scorer, out=out, strategy="full" if few else "racing", **options)
    if raced.default is not None:
        space, _ = space.with_config(raced.space[raced.default])
    with SweepStore(out) as store:
        return raced, build_table(store, choose_view(store, raced.prompts, space, options["samples"], raced.max_tokens))


def _resolve_space(space: SpaceLike, engine: Engine, prompts: Sequence[Prompt]) -> DecodingSpace:
    """The configs of a space as they are stored; of a preset those that the engine can run."""
    if space == LARGE_PRESET:
        found = make_large_space(engine, prompts)
    elif space is None or isinstance(space, str):
        found = DecodingSpace.preset(space or DEFAULT_PRESET, engine)
    else:
        found = DecodingSpace(space)
    return DecodingSpace(map(engine.pin, found))


def make_large_space(engine: Engine, prompts: Sequence[Prompt] = ()) -> DecodingSpace:
    """Everything worth a look that an engine can run: the preset "large", greedy decoding with each artefact that it
    was given and that may change an answer, and, where a prompt has a constraint, with each way to meet it."""
    preset = DecodingSpace.preset(LARGE_PRESET)
    greedy = DecodingConfig(temperature=0.0)
    # An endpoint at which the engine's own model answers gives the same answers.
    own = digest(dict(engine.fingerprint))
    named = [(field, name) for field, known in engine.artefacts.items() for name in known if known[name].digest != own]
    given = [greedy.replace(**{field: name, **_BESIDE.get(field, {})}) for field, name in named if field not in _SAME]
    ways = SPECS["constrain"].choices if any(prompt.constraint is not None for prompt in prompts) else ()
    met = [greedy.replace(constrain=way) for way in ways if way]
    return DecodingSpace(config for config in (*preset, *given, *met) if not engine.unsupported(config))


def suggest_from_tables(raced: SweepTable, seen: SweepTable, *, most: int, seed: int) -> SpaceSuggestion:
    """The suggestion from a race that was run.

    Args:
        raced: of the configs that stayed, with their common samples.
        seen: of all configs, with whatever was generated of them.
        most: configs at most.
        seed: of foldings and draws.
    """
    prepared = prepare(raced, (Reward(),), seed)
    kept, boot, Y = prepared.table, prepared.boot, prepared.targets.Y(0)
    kinds = assign_kinds(kept.prompts, seed)
    held = estimate_held_out(
        Y, kinds, prepared.groups, prepared.foldings, boot, most=most, default=kept.default, seed=seed
    )
    posterior = Posterior.of(Y, kinds, prepared.groups, seed)
    order = order_configs(posterior, range(Y.shape[1]))
    chosen = [kept.space[index] for index in order[: count_worthwhile(posterior, order, most)]]
    return SpaceSuggestion(
        configs=tuple(_list_rows(chosen, seen, held, seed)),
        value=held.chosen,
        over_single_best=held.over_single_best,
        over_default=held.over_default,
        best_over_default=held.best_over_default,
        kinds=int(kinds.max()) + 1,
        n_prompts=len(Y),
        n_groups=boot.n_groups,
        n_left_out=len(raced.prompts) - len(kept.prompts),
        generations=int(seen.counts.sum()),
        warnings=prepared.warnings,
    )


def _list_rows(
    chosen: Sequence[DecodingConfig], seen: SweepTable, held: HeldOut, seed: int
) -> Iterator[SuggestedConfig]:
    """The rows of all configs: those that were chosen, those to add next, those that no prompt needs."""
    posterior = Posterior.of(seen.means, assign_kinds(seen.prompts, seed), seen.groups, seed)
    first = [seen.space.index(config) for config in chosen]
    shares = np.zeros(len(first))
    np.add.at(shares, choose_best(posterior.means[:, first]), posterior.weights)
    for number, index in enumerate(first):
        expected = posterior.expect_best(first[: number + 1])
        yield SuggestedConfig(seen.space[index], "suggested", expected, float(shares[number]), held.gains[number])
    tried = [index for index in range(len(seen.space)) if np.isfinite(posterior.means[:, index]).all()]
    needless = [index for index in find_needless(posterior, tried) if index not in first]
    left = [index for index in tried if index not in first and index not in needless]
    order = [*first, *order_configs(posterior, left, first)]
    for place in range(len(first), len(order)):
        yield SuggestedConfig(seen.space[order[place]], "next", posterior.expect_best(order[: place + 1]), 0.0, None)
    for index in needless:
        yield SuggestedConfig(seen.space[index], "needless", posterior.expect_best([index]), 0.0, None)
