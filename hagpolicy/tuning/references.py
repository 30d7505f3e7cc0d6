"""`build_references`: a store of reference answers as the frozen model reads them, and how its entries are weighed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._digest import digest
from hagpolicy._extras import require
from hagpolicy._files import write_bytes
from hagpolicy.artefacts.folder import check_new, new_artefact
from hagpolicy.data.groups import number_groups
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput
from hagpolicy.tuning.adapters import check_engine
from hagpolicy.tuning.examples import AnswerOf, Example, read_examples

__all__ = ["Reading", "build_references", "fit_reading"]

FEATURE = "building references"
# Examples of one pass, all of similar length; what they gave is stored before the next.
PART = 16
# Tokens of which the likelihood is weighed, drawn among all.
QUERIES = 4096
NEIGHBOURS = (1, 4, 16, 64, 256, 1024)
# Of the median squared distance to the nearest entry.
TEMPERATURES = tuple(4.0**power for power in range(-4, 3))
WEIGHTS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Reading:
    """How a store's entries are weighed, fitted by the likelihood of answers of groups that are left out.

    Attributes:
        neighbours: how many of the nearest count.
        temperature: of their squared distances.
        weight: the share that was best beside these two; what share they get is the config's to say.
        nats: mean negative log-likelihood of a token with that share.
        nats_model: of the model alone.
        queries: tokens that these are means of.
    """

    neighbours: int
    temperature: float
    weight: float
    nats: float
    nats_model: float
    queries: int


def build_references(
    engine: Engine,
    prompts: Any,
    folder: str | Path,
    *,
    answers: AnswerOf | None = None,
    most_tokens: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """The folder of a store of reference answers: the frozen model's state before each of their tokens, and the token.

    The answers go through the model once, nothing is trained (kNN-LM: Khandelwal et al., arXiv 1911.00172; Reference
    Trustable Decoding, arXiv 2409.20181). How many neighbours count, and the temperature of their distances, are fitted
    by the likelihood of each group's answers under the entries of the others. The folder has a record of the prompts,
    which later sweeps and fits leave out. An interrupted call goes on from where it stopped.

    The folder holds the tokens of the answers: whoever has it can read them.

    Args:
        engine: of transformers, without artefacts; on a GPU where it is.
        prompts: as of `sweep`, in at least two groups; the engine's chat template is applied.
        folder: the artefact's, which must not be there yet.
        answers: the answer to a prompt; None: its reference, or the first of several.
        most_tokens: prompts that have more, with their answers, are left out.
        seed: of the tokens that are weighed.
        progress: whether to show it on stderr.

    Returns:
        The folder, for `load_engine(..., artifacts={"reference": {name: folder}})`. It takes 4 bytes for each number of
        a state, so 2.3 kB a token for a model of width 576.

    Raises:
        InvalidInput: another engine, a prompt without an answer, a single group, or a folder that is there.
        MissingExtra: a package of the extra [sweep] is not installed.
    """
    check_engine(engine)
    folder = check_new(folder)
    torch = require("torch", "sweep", FEATURE)
    from hagpolicy.engines.transformers.references import ReferenceStore

    held: Any = engine
    examples = read_examples(held, prompts, answers, most_tokens)
    numbers = number_groups([one.prompt for one in examples])
    if len(np.unique(numbers)) < 2:
        raise InvalidInput("prompts", "at least two groups, to weigh the entries of one by the others", "one")
    place = folder.with_name(f".{folder.name}.references")
    order = sorted(range(len(examples)), key=lambda at: len(examples[at].question) + len(examples[at].answer))
    found = _read_all(held, [examples[at] for at in order], place, progress=progress)
    groups = torch.tensor([numbers[at] for at in order for _ in examples[at].answer])
    states, tokens = found["states"], found["tokens"].long()
    reading = fit_reading(states, tokens, groups, found["told"], seed)
    about = {"engine": dict(engine.fingerprint), "prompts": len(examples), "entries": len(tokens), **asdict(reading)}
    with new_artefact(folder, "reference", [one.prompt for one in examples], about) as made:
        ReferenceStore(states, tokens, reading.neighbours, reading.temperature).save(made)
    shutil.rmtree(place)
    return folder


def _read_all(engine: Any, examples: Sequence[Example], place: Path, *, progress: bool) -> dict[str, Any]:
    """States, tokens and the model's own log-likelihood of them, of all examples in their order; parts that an
    earlier call stored are not computed again."""
    import torch
    from safetensors.torch import load_file, save
    from tqdm import tqdm

    place.mkdir(parents=True, exist_ok=True)
    parts = []
    with tqdm(total=len(examples), unit="prompt", disable=not progress) as bar:
        for start in range(0, len(examples), PART):
            some = examples[start : start + PART]
            key = digest([dict(engine.fingerprint), [[list(one.question), list(one.answer)] for one in some]])
            path = place / f"{key}.safetensors"
            if not path.is_file():
                write_bytes(path, save({name: value.cpu() for name, value in _read(engine.model, some).items()}))
            parts.append(load_file(path))
            bar.update(len(some))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: value.to(engine.model.device) for name, value in joined.items()}


def _read(model: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """`_read_all` of examples that go through the model together."""
    import torch

    from hagpolicy.tuning.training import lay_out

    ids, mask, before = lay_out(examples, model.device)
    states: list[Any] = []

    def keep(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        states.append(given[0][before])
        return (states[0][None],)  # logits of the answers' tokens alone: the vocabulary is large

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, return_dict=True).logits[0].float()
            tokens = ids[torch.roll(before, 1, dims=1)]
            told = logits.log_softmax(1).gather(1, tokens[:, None]).squeeze(1)
    finally:
        handle.remove()
    return {"states": states[0].float().contiguous(), "tokens": tokens.to(torch.int32), "told": told}


def fit_reading(states: Any, tokens: Any, groups: Any, told: Any, seed: int = 0) -> Reading:
    """Neighbours and temperature under which the answers of each group are likeliest by the entries of the others.

    The share is one more thing to try, so that they are fitted for the mixture that they are used in.

    Args:
        states: float32 tensor (entries, width).
        tokens: int64 tensor (entries,).
        groups: int64 tensor (entries,): at least two.
        told: float32 tensor (entries,): the model's log-likelihood of each token.
        seed: of the tokens that are weighed, where there are more than 4,096.
    """
    import torch

    count = len(tokens)
    some = np.sort(np.random.default_rng(seed).permutation(count)[:QUERIES])
    queries = torch.from_numpy(some).to(states.device)
    groups = groups.to(states.device)
    distances, right = _find_right(states, tokens, groups, queries)
    scale = float(distances[:, 0].median()) or 1.0
    told = told[queries]
    best: Reading | None = None
    for neighbours in (one for one in NEIGHBOURS if one <= max(distances.shape[1], 1)):
        for factor in TEMPERATURES:
            share = (-distances[:, :neighbours] / (scale * factor)).softmax(1)
            chance = (share * right[:, :neighbours]).sum(1)
            for weight in WEIGHTS:
                nats = -float(torch.log(weight * chance + (1.0 - weight) * told.exp()).mean())
                if best is None or nats < best.nats:
                    best = Reading(neighbours, scale * factor, weight, nats, -float(told.mean()), len(some))
    assert best is not None  # one neighbour there is
    return best


def _find_right(states: Any, tokens: Any, groups: Any, queries: Any) -> tuple[Any, Any]:
    """Squared distances from entries to the nearest of other groups, in order, and whether these have the same token:
    (queries, neighbours) each; infinite where other groups have fewer."""
    import torch

    squares = states.square().sum(1)
    most = min(max(NEIGHBOURS), len(tokens) - 1)
    distances, right = [], []
    for part in queries.split(256):
        far = torch.addmm(squares, states[part], states.T, alpha=-2.0) + squares[part, None]
        far = far.clamp(min=0.0).masked_fill(groups[part, None] == groups, torch.inf)
        near, at = far.topk(most, largest=False)
        distances.append(near)
        right.append(tokens[at] == tokens[part, None])
    return torch.cat(distances), torch.cat(right).float()
