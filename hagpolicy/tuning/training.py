"""A few parameters tuned beside a frozen model: by the answers' tokens, with held-out groups, resumable."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from tqdm import tqdm

from hagpolicy._files import parse_json, read_regular, write_bytes
from hagpolicy.tuning.examples import Example, make_batches

__all__ = ["ComputeLoss", "Trained", "TrainingSpec", "compute_answer_loss", "lay_out", "train"]

ComputeLoss = Callable[[Sequence[Example], random.Random], Tensor]
"""The mean loss of a batch, nats a token of the answer, with a source of whatever it draws."""
WARM_UP = 0.1
CLIP = 1.0
STORE_SECONDS = 60.0
_LARGEST_STATE = 64 << 30


@dataclass(frozen=True)
class TrainingSpec:
    """How parameters are tuned.

    Attributes:
        epochs: how often each example is seen, at least 1.
        batch: examples of a step.
        rate: of AdamW at its highest: it rises over the first tenth of the steps and falls to 0.
        seed: of order and draws.
        identity: of all else that the result depends on: a state of another one is not taken up.
    """

    epochs: int
    batch: int
    rate: float
    seed: int
    identity: str


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        losses: mean loss of each step, nats a token of the answer.
        held_out: mean loss on held-out groups before the first and after each epoch; empty where none are held out.
        best: the epoch whose parameters stand: 0 is before the first, that nothing was learnt.
    """

    losses: tuple[float, ...]
    held_out: tuple[float, ...]
    best: int

    def to_json(self) -> dict[str, Any]:
        """JSON values for the record of an artefact."""
        first, last = self.losses[: max(len(self.losses) // 10, 1)], self.losses[-max(len(self.losses) // 10, 1) :]
        mean_first, mean_last = (round(sum(some) / len(some), 4) for some in (first, last))
        held = [round(loss, 4) for loss in self.held_out]
        return {
            "steps": len(self.losses),
            "loss_first": mean_first,
            "loss_last": mean_last,
            "held_out": held,
            "best_epoch": self.best,
        }


def lay_out(batch: Sequence[Example], device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and mask, int64 (rows, width), and where an answer's token comes next, bool (rows, width)."""
    width = max(len(one.question) + len(one.answer) for one in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    before = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, one in enumerate(batch):
        end = len(one.question) + len(one.answer)
        ids[row, :end] = torch.tensor([*one.question, *one.answer])
        mask[row, :end] = 1
        before[row, len(one.question) - 1 : end - 1] = True
    return ids.to(device), mask.to(device), before.to(device)


def compute_answer_loss(model: Any, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the answers' tokens; logits are made for these alone, the vocabulary being large."""
    ids, mask, before = lay_out(batch, model.device)
    hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[before]).float()
    return torch.nn.functional.cross_entropy(logits, ids[torch.roll(before, 1, dims=1)])


class _Run:
    """A run of `train`: its parameters, optimizer, and where it stands."""

    def __init__(self, parameters: Mapping[str, Tensor], spec: TrainingSpec, place: Path, steps: int) -> None:
        self.parameters, self.spec, self.place, self.steps = dict(parameters), spec, place, steps
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=spec.rate, weight_decay=0.0)
        self.losses: list[float] = []
        self.held_out: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self._stored = time.monotonic()

    def advance(self, loss: Tensor) -> None:
        """One step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.rate * compute_rate(len(self.losses), self.steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))

    def judge(self, loss: float) -> None:
        """Note the loss on held-out groups; the parameters are kept where it is the least so far."""
        self.held_out.append(loss)
        if loss <= min(self.held_out):
            self.best_epoch = len(self.held_out) - 1
            self.best = {name: value.detach().clone() for name, value in self.parameters.items()}

    def store(self, *, now: bool = False) -> None:
        """Write where it stands, at intervals."""
        if not now and time.monotonic() - self._stored < STORE_SECONDS:
            return
        tensors = {f"parameter.{name}": value.detach().cpu().contiguous() for name, value in self.parameters.items()}
        tensors |= {f"best.{name}": value.cpu().contiguous() for name, value in self.best.items()}
        for name, value in self.parameters.items():
            state = self.optimizer.state.get(value, {})
            for part in ("exp_avg", "exp_avg_sq"):
                if part in state:
                    tensors[f"{part}.{name}"] = state[part].cpu().contiguous()
        head = {"identity": self.spec.identity, "best_epoch": self.best_epoch}
        head |= {"losses": self.losses, "held_out": self.held_out}
        write_bytes(self.place, save_tensors(tensors, {"state": json.dumps(head)}))
        self._stored = time.monotonic()

    def take_up(self) -> None:
        """Go on from where an interrupted run of the same spec stood; of another spec nothing is taken."""
        if not self.place.is_file():
            return
        data = read_regular(self.place, _LARGEST_STATE)
        size = int.from_bytes(data[:8], "little")
        head = parse_json(parse_json(data[8 : 8 + size])["__metadata__"]["state"])
        if head["identity"] != self.spec.identity:
            return
        tensors = load_tensors(data)
        self.losses, self.held_out, self.best_epoch = head["losses"], head["held_out"], head["best_epoch"]
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(tensors[f"parameter.{name}"])
                if f"best.{name}" in tensors:
                    self.best[name] = tensors[f"best.{name}"].to(value.device)
                if f"exp_avg.{name}" in tensors:
                    state = {part: tensors[f"{part}.{name}"].to(value.device) for part in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[value] = {"step": torch.tensor(float(len(self.losses))), **state}


def train(
    parameters: Mapping[str, Tensor],
    compute_loss: ComputeLoss,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    spec: TrainingSpec,
    place: Path,
    *,
    progress: bool = True,
) -> Trained:
    """Tune parameters in place by the mean loss of examples; those of the best epoch on held-out examples stand.

    An interrupted run goes on from what it stored, with the same batches: the result is that of a run at one go, but
    for the last bits of floats.

    Args:
        parameters: by name, float32, each requiring a gradient; nothing else is changed.
        compute_loss: of a batch.
        examples: at least one.
        held_out: none: the parameters after the last epoch stand.
        spec: how.
        place: of the file in which it is stored how far it came, removed at the end.
        progress: whether to show it on stderr.

    Raises:
        KeyboardInterrupt: after what was done is stored.
    """
    epochs = [_batches_of(examples, spec, epoch) for epoch in range(spec.epochs)]
    run = _Run(parameters, spec, place, sum(map(len, epochs)))
    run.take_up()
    done = 0
    with tqdm(total=run.steps, initial=len(run.losses), unit="step", disable=not progress) as bar:
        try:
            if held_out and not run.held_out:
                run.judge(_measure(compute_loss, held_out, spec))
            for number, batches in enumerate(epochs, start=1):
                for index, batch in enumerate(batches):
                    done += 1
                    if done <= len(run.losses):
                        continue
                    run.advance(compute_loss(batch, random.Random(f"{spec.seed} {number} {index}")))
                    bar.set_postfix(loss=f"{run.losses[-1]:.3f}")
                    bar.update()
                    run.store()
                if held_out and len(run.held_out) == number:
                    run.judge(_measure(compute_loss, held_out, spec))
        except KeyboardInterrupt:
            run.store(now=True)
            raise
    with torch.no_grad():
        for name, value in run.best.items():
            run.parameters[name].copy_(value)
    place.unlink(missing_ok=True)
    best = run.best_epoch if held_out else spec.epochs
    return Trained(tuple(run.losses), tuple(run.held_out), best)


def compute_rate(step: int, steps: int) -> float:
    """Share of the highest rate at a step: rises over the first tenth of them, then falls to 0."""
    warm = max(1.0, WARM_UP * steps)
    return min((step + 1) / warm, (steps - step) / max(1.0, steps - warm))


def _batches_of(examples: Sequence[Example], spec: TrainingSpec, epoch: int) -> list[list[Example]]:
    return make_batches(examples, spec.batch, random.Random(f"{spec.seed} {epoch}"))


def _measure(compute_loss: ComputeLoss, examples: Sequence[Example], spec: TrainingSpec) -> float:
    """Mean loss, nats a token of the answer, without learning from it."""
    total = tokens = 0.0
    with torch.no_grad():
        for batch in make_batches(examples, spec.batch, random.Random(spec.seed)):
            count = sum(len(one.answer) for one in batch)
            total += count * float(compute_loss(batch, random.Random(spec.seed)))
            tokens += count
    return total / tokens
