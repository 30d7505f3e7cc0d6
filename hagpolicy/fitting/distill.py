"""`distill_rules`: what a policy decides, in a few lines that a reader can check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.rule import MIN_GROUPS, N_FOLDS
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.groups import number_groups
from hagpolicy.data.prompts import as_prompts
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.learners.rules import LINES, Condition, FittedRules, Rules
from hagpolicy.policy.policy import Policy
from hagpolicy.policy.reading import read_for_training
from hagpolicy.results import Estimate

__all__ = ["DistilledRules", "RuleLine", "distill_rules"]


@dataclass(frozen=True)
class RuleLine:
    """One line of a list of rules.

    Attributes:
        condition: in words; "otherwise" in the last line.
        words: that one of which must stand in the prompt; empty where the condition is another one.
        config: that is chosen.
        prompts: how many of those that the rules were made of it is chosen for.
    """

    condition: str
    words: tuple[str, ...]
    config: DecodingConfig
    prompts: int


@dataclass(frozen=True)
class DistilledRules:
    """A policy's decisions as a list of rules: the first line whose condition holds tells the config.

    Attributes:
        lines: the last of them holds always.
        reproduced: share of the policy's decisions that such rules reproduce on prompts that they were not made of.
        constant: share that the one config does which is decided most often.
    """

    lines: tuple[RuleLine, ...]
    reproduced: Estimate
    constant: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        lines = [{**vars(one), "words": list(one.words), "config": one.config.to_dict()} for one in self.lines]
        return {"lines": lines, "reproduced": self.reproduced.to_json(), "constant": self.constant}

    def __str__(self) -> str:
        """The lines, then what share of the decisions they reproduce."""
        width = len(str(len(self.lines)))
        told = [f"{at:{width}d}. {one.condition}: {one.config}" for at, one in enumerate(self.lines, 1)]
        share = f"{self.reproduced.value:.0%} [{self.reproduced.low:.0%}, {self.reproduced.high:.0%}]"
        told.append(f"These reproduce {share} of the policy's decisions on prompts that they were not made of;")
        return "\n".join([*told, f"the most frequent decision alone {self.constant:.0%}."])


def distill_rules(policy: Policy, prompts: Iterable[Any], *, lines: int = LINES, seed: int = 0) -> DistilledRules:
    """A policy's decisions on some prompts in at most so many rules, with the share of decisions that they reproduce.

    Conditions are on words, numbers, line breaks and the length (`encoder="words"`); lines are grown as by
    `learner="rules"`. The share is measured out of fold, over groups. What is distilled only describes the policy:
    to ship rules, fit them: `fit(table, encoder="words", learner="rules")`.

    Args:
        policy: that reads texts.
        prompts: as of `sweep`, at least 20 groups of them, such as those of its table.
        lines: at most, beside the last.
        seed: of the folds.

    Raises:
        InvalidInput: a policy of vectors, too few prompts, or a bad number of lines.
        MissingExtra: a package of the extra [fit] is not installed.
    """
    if not policy.reads_text:
        do = "Fit rules on columns instead: fit(table, vectors, learner='rules')."
        raise InvalidInput("policy", "one that reads texts", "one of vectors", do)
    learner, given = Rules(lines), as_prompts(prompts)
    groups = number_groups(given)
    if (n_groups := len(np.unique(groups))) < MIN_GROUPS:
        raise InvalidInput("prompts", f"at least {MIN_GROUPS} groups", n_groups)
    decided = [decision.index for decision in policy.decide_batch(given)]
    chosen = np.array([policy.reference_index if one is None else one for one in decided])
    read, _ = read_for_training(given, policy.manifest.reads)
    encoder = WordsEncoder().learn(read)
    features, _ = compute_features(encoder, read)
    targets = np.eye(len(policy.space))[chosen]
    with require("threadpoolctl", "fit", "distilling rules").threadpool_limits(1):
        same = np.zeros(len(given))
        folds = assign_folds(groups, N_FOLDS, seed)
        for fold in np.unique(folds):
            train, test = folds != fold, folds == fold
            fitted = learner.fit(features[train], targets[train], groups[train], seed)
            same[test] = fitted.predict(features[test]).argmax(axis=1) == chosen[test]
        fitted = learner.fit(features, targets, groups, seed)
    share = GroupBootstrap(groups, seed=seed).mean(same)
    return DistilledRules(_tell(policy, encoder, fitted, features), share, float(targets.mean(axis=0).max()))


def _tell(policy: Policy, encoder: WordsEncoder, fitted: FittedRules, features: np.ndarray) -> tuple[RuleLine, ...]:
    """The lines in words."""
    held = np.bincount(fitted.find_lines(features), minlength=len(fitted.values)).tolist()
    conditions = [_describe(encoder, one) for one in fitted.conditions]
    described = [*conditions, ("otherwise", ())]
    best = fitted.values.argmax(axis=1).tolist()
    return tuple(
        RuleLine(text, words, policy.space[config], count)
        for (text, words), config, count in zip(described, best, held, strict=True)
    )


def _describe(encoder: WordsEncoder, condition: Condition) -> tuple[str, tuple[str, ...]]:
    """A condition in words, and the words that it names."""
    last, (first, *_) = len(encoder.columns) - 1, condition.columns
    if first == last:
        tokens = round(float(np.exp(condition.above)))
        return (f"at most {tokens} tokens" if condition.holds_below else f"more than {tokens} tokens"), ()
    names = tuple(encoder.columns[column] for column in condition.columns)
    if condition.holds_below:
        return f"without {names[0]}", ()
    return f"with {names[0]}" if len(names) == 1 else f"with one of {', '.join(names)}", names
