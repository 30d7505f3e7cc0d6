"""History and foreign system prompts do not drown what a chat asks for.

    python -m benchmarks run chat_reads [--quick] --data DIR

A policy is fitted on 300 single turns of three kinds (grade-school maths, instructions, code: GSM8K, IFEval,
HumanEval), whose best config is that of their kind, with synthetic rewards. It then decides for new prompts of the
three kinds after 0, 1, 3 and 10 earlier exchanges about other things (small talk, and prompts of another of the three
kinds), and under system prompts that it has never seen, for each choice of what is read; "all, of any form" reads all
turns and takes chats unlike those in training for what they are, as bundles of format 2 do. "Right" is the kind's best
config. Intervals are a bootstrap over the new prompts; a fall is paired. Follow-ups and short requests are those of
`benchmarks/tools/chat_turns.py`, from which nothing learns; their intervals are Wilson's.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.tools.chat_turns import EARLIER, FOLLOW_UPS, SHORT_REQUESTS, SYSTEM_PROMPTS
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, not_run, record, wilson
from hagpolicy import DecodingConfig, DecodingSpace, Policy, Prompt, SweepTable, fit
from hagpolicy.policy.reading import Reads

CLAIM = Claim(
    name="chat_reads",
    states=(
        "After up to ten earlier exchanges and under foreign system prompts, right choices fall by at most .05; "
        "follow-ups that mean nothing alone fall back."
    ),
    groups=("bench",),
    headline="fall of right choices, last_user, 10 earlier exchanges",
    needs=("data",),
)
KINDS = ("gsm8k", "ifeval", "humaneval")
TRAINING = 100
SPACE = DecodingSpace([DecodingConfig(temperature=0), DecodingConfig(temperature=0.7), DecodingConfig(temperature=1.2)])
READS: tuple[Reads, ...] = ("last_user", "system+last_user", "all")
TURNS = (0, 1, 3, 10)


def read_kind(data: Path, kind: str) -> list[str]:
    """The prompts of a kind, each once, in an order of their own."""
    folder = data / "tasks" / kind
    if kind == "humaneval":
        lines = gzip.decompress((folder / "HumanEval.jsonl.gz").read_bytes()).decode("utf-8").splitlines()
    else:
        name = {"gsm8k": "train.jsonl", "ifeval": "input_data.jsonl"}[kind]
        lines = (folder / name).read_text("utf-8").splitlines()
    key = "question" if kind == "gsm8k" else "prompt"
    texts = list(dict.fromkeys(json.loads(line)[key] for line in lines))
    return [texts[row] for row in np.random.default_rng(0).permutation(len(texts))]


def make_policy(training: Sequence[tuple[int, str]], reads: Reads) -> Policy:
    """Fitted on prompts whose kind's config is right with .8, the others with .5, four samples each."""
    rng = np.random.default_rng(1)
    chance = np.where(np.arange(3) == np.array([kind for kind, _ in training])[:, None], 0.8, 0.5)
    rewards = rng.random((*chance.shape, 4)) < chance[:, :, None]
    prompts = [Prompt(text, task=KINDS[kind]) for kind, text in training]
    return fit(SweepTable.from_arrays(prompts, SPACE, rewards.astype(np.float64)), reads=reads)


def chats(
    new: Sequence[tuple[int, str]], others: Sequence[tuple[int, str]], turns: int, system: bool
) -> list[list[dict[str, str]]]:
    """Each new prompt after some earlier exchanges, half of them about prompts of another kind."""
    rng = np.random.default_rng(2)
    made = []
    for kind, text in new:
        foreign = [one for other, one in others if other != kind]
        chat = [{"role": "system", "content": str(rng.choice(SYSTEM_PROMPTS))}] if system else []
        for _ in range(turns):
            asked, said = EARLIER[int(rng.integers(len(EARLIER)))]
            if rng.random() < 0.5:
                asked, said = (
                    str(rng.choice(foreign)),
                    "Here is what I came up with. Tell me if it should be different.",
                )
            chat += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        made.append([*chat, {"role": "user", "content": text}])
    return made


def measure(
    name: str, policy: Policy, training: Sequence[tuple[int, str]], new: Sequence[tuple[int, str]]
) -> list[Figure]:
    """Right choices and fallbacks for one choice of what is read."""
    wanted = np.array([kind for kind, _ in new])
    figures, alone = [], None
    default = name == "last_user"
    for system in (False, True):
        for turns in TURNS:
            decisions = policy.decide_batch(chats(new, training, turns, system))
            right = np.array([decision.index for decision in decisions]) == wanted
            back = np.isin([d.reason for d in decisions], ["unlike_training", "unseen_form", "needs_context"])
            where = f"{name}, {turns} earlier exchanges{', foreign system prompts' if system else ''}"
            share, low, high = bootstrap(right, lambda rows, axis: rows.mean(axis=axis))
            figures.append(figure(f"right choices, {where}", share, low, high, unit="share"))
            figures.append(figure(f"fell back, {where}", float(back.mean()), unit="share"))
            if alone is None:
                alone = right
                continue
            fall = bootstrap(alone.astype(float) - right, lambda rows, axis: rows.mean(axis=axis))
            most = 0.05 if default else None
            figures.append(figure(f"fall of right choices, {where}", *fall, unit="share", at_most=most))
    return figures + (turn_figures(policy) if default else [])


def turn_figures(policy: Policy) -> list[Figure]:
    """How many follow-ups and short requests fall back for the lack of their history, after one exchange."""
    figures = []
    for name, texts, least, most in (
        ("follow-ups that fall back", FOLLOW_UPS, 0.9, None),
        ("short self-contained requests that fall back", SHORT_REQUESTS, None, 0.05),
    ):
        asked, said = EARLIER[0]
        before = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        decisions = policy.decide_batch([[*before, {"role": "user", "content": text}] for text in texts])
        found = sum(decision.reason == "needs_context" for decision in decisions)
        low, high = wilson(found, len(texts))
        label = f"{name}, of {len(texts)}"
        figures.append(figure(label, found / len(texts), low, high, unit="share", at_least=least, at_most=most))
    return figures


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    if args.data is None:
        return not_run(CLAIM, "no --data", args)
    texts = [read_kind(args.data, kind) for kind in KINDS]
    training = [(kind, text) for kind, of in enumerate(texts) for text in of[:TRAINING]]
    sizes = (40, 40, 40) if args.quick else (130, 130, 64)
    new = [(kind, text) for kind, of in enumerate(texts) for text in of[TRAINING : TRAINING + sizes[kind]]]
    policies = {reads: make_policy(training, reads) for reads in READS}
    read_all = policies["all"]
    unchecked = replace(read_all.manifest, forms=None)
    named = {**policies, "all, of any form": Policy(unchecked, read_all._model, read_all._files)}
    figures = [one for name, policy in named.items() for one in measure(name, policy, training, new)]
    return record(CLAIM, figures, args, f"{len(new)} new prompts of {len(KINDS)} kinds, {len(training)} for training")


if __name__ == "__main__":
    sys.exit(main())
