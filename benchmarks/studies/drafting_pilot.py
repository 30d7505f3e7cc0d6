"""The pilot of `drafting.py`: what drafts of some lengths would save on 39 prompts that are not measured there.

A draft changes no greedy text, so its passes can be counted along the plain one: transformers' own lookup is asked for
a draft wherever the last one left off. Their time is that of passes over as many tokens, measured apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from benchmarks.claims.engines.drafting import load, pass_seconds
from benchmarks.sweeps.drafted import MAX_TOKENS, pilot_prompts
from hagpolicy import DecodingConfig
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.drafts import DraftMemory, MemoryCandidates

LENGTHS = (1, 2, 3, 5, 7, 10, 20)


def widths(
    prompt: Sequence[int],
    answer: Sequence[int],
    draft: int,
    end: Sequence[int],
    most: int = MAX_TOKENS,
    memory: DraftMemory | None = None,
) -> list[int]:
    """How many tokens each pass computes, the prompt's own not counted, where drafts have at most `draft` tokens.

    Args:
        prompt, answer: token ids.
        draft: tokens of a draft, at least 1.
        end: ids of the end tokens.
        most: tokens of an answer.
        memory: of earlier answers, which drafts where it knows something; None: the prompt's own tokens alone.
    """
    lookup: Any = PromptLookupCandidateGenerator(
        eos_token_id=torch.tensor(end), num_output_tokens=draft, max_length=len(prompt) + most
    )
    lookup = lookup if memory is None else MemoryCandidates(lookup, memory)
    passes: list[int] = []
    done = 0
    while done < len(answer):
        known = [*prompt, *answer[:done]]
        found, _ = lookup.get_candidates(torch.tensor([known]))
        drafted = found[0, len(known) :].tolist()
        kept = 0
        while kept < min(len(drafted), len(answer) - done) and drafted[kept] == answer[done + kept]:
            kept += 1
        passes.append(len(drafted) + 1)
        done += kept + 1
    return passes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    prompts = pilot_prompts(parser.parse_args().data)
    seconds = {}
    for dtype in ("bfloat16", "float32"):
        engine = load(dtype)
        seconds[dtype] = pass_seconds(engine)
        print(dtype, " ".join(f"{width}: {taken:.4f} s" for width, taken in seconds[dtype].items()))
    ids = [engine.encode(prompt.content) for prompt in prompts]
    count, greedy = len(ids), DecodingConfig(temperature=0.0)
    limits = [MAX_TOKENS] * count
    done = decode(engine.model, ids, range(count), [greedy] * count, [0] * count, limits, engine.end_tokens)
    answers = [row[:length] for row, length in zip(done.tokens.tolist(), done.lengths.tolist(), strict=True)]
    passes = {
        draft: [widths(*pair, draft, engine.end_tokens) for pair in zip(ids, answers, strict=True)] for draft in LENGTHS
    }
    names = np.array([prompt.task for prompt in prompts])
    for what in ("passes", *seconds):
        print(f"\n{what} over none, drafts of {', '.join(map(str, LENGTHS))} tokens")
        known = seconds.get(what, dict.fromkeys(seconds["float32"], 1.0))
        plain = np.array([len(answer) * known[1] for answer in answers])
        drafted = {
            draft: np.array([np.interp(one, list(known), list(known.values())).sum() for one in some])
            for draft, some in passes.items()
        }
        for task in [*dict.fromkeys(names.tolist()), "all"]:
            mine = (names == task) | (task == "all")
            ratios = " ".join(f"{values[mine].sum() / plain[mine].sum():.2f}" for values in drafted.values())
            print(f"{task:10} {np.mean([len(answers[row]) for row in np.flatnonzero(mine)]):5.1f} tokens  {ratios}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
