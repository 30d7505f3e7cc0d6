"""`tune_adapter`: a low-rank adapter of a frozen model, from prompts with their answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hagpolicy._checks import is_number, is_whole
from hagpolicy._digest import digest
from hagpolicy._extras import require
from hagpolicy.artefacts.folder import check_new, new_artefact
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput
from hagpolicy.tuning.examples import AnswerOf, read_examples, split_groups

__all__ = ["tune_adapter"]

LAYERS = "all-linear"
FEATURE = "tuning an adapter"


def tune_adapter(
    engine: Engine,
    prompts: Any,
    folder: str | Path,
    *,
    answers: AnswerOf | None = None,
    rank: int = 8,
    alpha: int = 16,
    layers: str | Sequence[str] = LAYERS,
    epochs: int = 3,
    batch: int = 8,
    rate: float = 1e-3,
    most_tokens: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """The folder of an adapter tuned on prompts with answers (LoRA: Hu et al., arXiv 2106.09685), in PEFT's own format.

    The loss is that of the answers' tokens. About a tenth of the groups are held out, where there are 20: the epoch
    that is best on them stands. The folder has a record of the prompts, which later sweeps and fits leave out. An
    interrupted call goes on from where it stopped. The engine's model is as it was afterwards.

    Args:
        engine: of transformers, without artefacts.
        prompts: as of `sweep`; the engine's chat template is applied.
        folder: the artefact's, which must not be there yet.
        answers: the answer to a prompt; None: its reference, or the first of several.
        rank: of the adapter, at least 1.
        alpha: what it is scaled by, over the rank.
        layers: names of the linear layers that are adapted, or "all-linear": all but the head.
        epochs: how often each prompt is seen, at least 1.
        batch: prompts of a step.
        rate: of AdamW at its highest.
        most_tokens: prompts that have more, with their answers, are left out.
        seed: of the adapter, the order, and which groups are held out.
        progress: whether to show it on stderr.

    Returns:
        The folder, for `load_engine(..., artifacts={"adapter": {name: folder}})`.

    Raises:
        InvalidInput: another engine, bad numbers, a prompt without an answer, or a folder that is there.
        MissingExtra: a package of the extra [tune] is not installed.
        KeyboardInterrupt: after what was done is stored.
    """
    check_engine(engine)
    numbers = {"rank": rank, "alpha": alpha, "epochs": epochs, "batch": batch, "most_tokens": most_tokens}
    folder = check_numbers(numbers, rate, folder)
    peft = require("peft", "tune", FEATURE)
    torch = require("torch", "tune", FEATURE)
    from hagpolicy.tuning.training import TrainingSpec, compute_answer_loss, train

    held: Any = engine
    model = held.model
    examples = read_examples(held, prompts, answers, most_tokens)
    tuned_on, held_out = split_groups(examples, seed)
    given = {**numbers, "rate": rate, "layers": layers if isinstance(layers, str) else list(layers), "seed": seed}
    seen = [[one.prompt.digest, list(one.answer)] for one in examples]
    spec = TrainingSpec(epochs, batch, rate, seed, digest([dict(engine.fingerprint), given, seen]))
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=given["layers"], task_type="CAUSAL_LM")
        adapted = peft.get_peft_model(model, config)
    try:
        parameters = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
        for weight in parameters.values():
            weight.data = weight.data.float()  # steps of the optimizer are too small for bfloat16
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder.with_name(f".{folder.name}.tuning")
        loss = lambda some, _: compute_answer_loss(model, some)  # noqa: E731
        trained = train(parameters, loss, tuned_on, held_out, spec, place, progress=progress)
        config.base_model_name_or_path = engine.name.partition(":")[2]  # PEFT's own is a path of this machine
        about = {"engine": dict(engine.fingerprint), **given, **trained.to_json(), "prompts": len(examples)}
        with new_artefact(folder, "adapter", [one.prompt for one in examples], about) as made:
            # Without this PEFT asks the hub whether the vocabulary is that of the base model.
            adapted.save_pretrained(made, save_embedding_layers=False)
    finally:
        adapted.unload()
        model.requires_grad_(False)
    return folder


def check_engine(engine: Any) -> None:
    """Refuse what holds no model of transformers in this process, or has something put into it already.

    Raises:
        InvalidInput: another engine.
    """
    if not isinstance(engine, Engine) or engine.fingerprint.get("kind") != "transformers" or engine.artefacts:
        got = "one with artefacts" if getattr(engine, "artefacts", None) else engine
        do = "hag.load_engine('transformers:NAME') loads one."
        raise InvalidInput("engine", "an engine of transformers without artefacts", got, do)


def check_numbers(numbers: dict[str, int], rate: float, folder: str | Path) -> Path:
    """The folder, where whole numbers are at least 1, the rate is above 0, and nothing lies there yet.

    Raises:
        InvalidInput: one of these does not hold.
    """
    for name, value in numbers.items():
        if not is_whole(value, 1):
            raise InvalidInput(name, "a whole number of at least 1", value)
    if not is_number(rate) or not rate > 0.0:
        raise InvalidInput("rate", "a number above 0", rate)
    return check_new(folder)
