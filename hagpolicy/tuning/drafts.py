"""`build_draft_memory`: what earlier answers say of the next ones, for drafts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hagpolicy._extras import require
from hagpolicy.artefacts.folder import check_new, new_artefact
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.table import SweepTable
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput

__all__ = ["build_draft_memory"]


def build_draft_memory(
    engine: Engine, answers: SweepTable | Sequence[str], folder: str | Path, *, prompts: Any = None
) -> Path:
    """The folder of a memory of drafts: how often each three tokens followed each other in earlier answers.

    A config that names it (`draft_source`) drafts the likeliest line of tokens behind the last two (after ADED, arXiv
    2407.12021, without its tree). The text stays what it is; but an answer that was seen is drafted by heart, in fewer
    passes than a new one: so the folder has a record of the prompts, which later sweeps and fits leave out.

    The folder holds parts of the answers: whoever has it can read them.

    Args:
        engine: of transformers, whose tokens they are.
        answers: texts, or a table whose texts are stored; `table.in_space` and `table.take` choose among them.
        folder: the artefact's, which must not be there yet.
        prompts: of the texts, one each; None: they are on no record.

    Returns:
        The folder, for `load_engine(..., artifacts={"draft_source": {name: folder}})`.

    Raises:
        InvalidInput: another engine, no texts, not one prompt a text, or a folder that is there.
        MissingExtra: a package of the extra [sweep] is not installed.
    """
    if not isinstance(engine, Engine) or engine.fingerprint.get("kind") != "transformers":
        do = "hag.load_engine('transformers:NAME') loads one."
        raise InvalidInput("engine", "an engine of transformers", engine, do)
    folder = check_new(folder)
    require("torch", "sweep", "building a memory of drafts")
    from hagpolicy.engines.transformers.drafts import DraftMemory

    held: Any = engine
    pairs = list(_list_texts(answers, prompts))
    if not pairs:
        raise InvalidInput("answers", "at least one text", "none")
    memory = DraftMemory.of(_encode(held, *pair) for pair in pairs)
    seen = list(dict.fromkeys(prompt for prompt, *_ in pairs if prompt is not None))
    about = {"engine": dict(engine.fingerprint), "answers": len(pairs), "trigrams": len(memory.counts)}
    with new_artefact(folder, "draft_source", seen, about) as made:
        memory.save(made)
    return folder


def _list_texts(answers: SweepTable | Sequence[str], prompts: Any) -> Iterator[tuple[Prompt | None, str, bool]]:
    """Each answer with its prompt, where that is known, and whether it came to its end."""
    if isinstance(answers, SweepTable):
        if answers.texts is None:
            raise InvalidInput("answers", "a table whose texts are stored", "one without", "Load it from its folder.")
        for part in answers.texts.scan():
            for row, text, finish in zip(part.prompts.tolist(), part.texts, part.finishes, strict=True):
                if finish != "error":
                    yield answers.prompts[row], text, finish == "stop"
        return
    if isinstance(answers, str) or not all(isinstance(one, str) for one in answers):
        raise InvalidInput("answers", "a table, or a list of texts", type(answers).__name__)
    known = [None] * len(answers) if prompts is None else list(as_prompts(prompts))
    if len(known) != len(answers):
        raise InvalidInput("prompts", f"one a text, {len(answers)}", len(known))
    yield from ((prompt, text, True) for prompt, text in zip(known, answers, strict=True) if text)


def _encode(engine: Any, prompt: Prompt | None, text: str, ended: bool) -> list[int]:
    """Token ids of an answer, behind the two that lead to its first."""
    templated = getattr(engine.tokenizer, "chat_template", None)
    # Of a chat template the last two are the same for any prompt.
    lead = engine.encode(prompt.content if prompt is not None else "?")[-2:] if prompt is not None or templated else []
    ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*lead, *ids, *(engine.end_tokens[:1] if ended else [])]
