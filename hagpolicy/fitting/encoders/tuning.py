"""A transformer tuned for what the configs earn on some prompts, in torch, with early stopping on held-out groups."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.estimates import assign_folds

logger = logging.getLogger(__name__)

# One of so many parts of the groups is held out: tuning stops when it no longer gains on them.
HELD_OUT = 5
EPOCHS, PATIENCE, BATCH, WARM_UP = 20, 3, 16, 20
# Of all weights, the head's included, and what AdamW takes off each.
RATE, DECAY = 5e-5, 0.01
_PENALTIES = np.logspace(2, -4, 13)


class Tuned(NamedTuple):
    """What tuning came to.

    Attributes:
        model: in torch on the CPU, for evaluation; as it was where nothing was gained.
        losses: mean squared error on the held-out prompts in units of the targets' variance, at first and after each
            epoch.
    """

    model: Any
    losses: tuple[float, ...]


def tune_model(
    model: Any, inputs: Sequence[dict[str, np.ndarray]], targets: np.ndarray, groups: np.ndarray, seed: int
) -> Tuned:
    """A transformer tuned with a linear head on the mean of its last hidden states.

    The head is fitted first, on the transformer as it is: from a head at random a transformer forgets what it knew
    (Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022). The table of words stays as it is, since
    few prompts touch few of its rows. Where torch has a GPU, it is used.

    Args:
        model: a BERT in torch.
        inputs: `ids` and `mask`, both (1, tokens), of n prompts.
        targets: float64 (n, n_targets), what is learned.
        groups: int64 (n,): held out together.
        seed: of the order, and of what is held out.
    """
    torch = require("torch", "sweep", "tuning an encoder")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    held = assign_folds(groups, HELD_OUT, seed) == 0
    spread = float(targets.std()) or 1.0
    wanted = ((targets - targets[~held].mean(axis=0)) / spread).astype(np.float32)
    tuned = _Tuning(torch, copy.deepcopy(model).to(device), list(inputs), torch.from_numpy(wanted).to(device), device)
    tuned.fit_head(~held, held)
    losses, best, draw = [tuned.measure(held)], tuned.take_state(), np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        tuned.run_epoch(draw.permutation(np.flatnonzero(~held)))
        losses.append(tuned.measure(held))
        logger.info("fit: tuning, epoch %d: %.4f of the variance is left", epoch + 1, losses[-1])
        if losses[-1] == min(losses):
            best = tuned.take_state()
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE or not np.isfinite(losses[-1]):
            break
    tuned.model.load_state_dict(best)
    return Tuned(tuned.model.cpu().eval(), tuple(losses))


class _Tuning:
    """A model, its head and its optimiser on the way."""

    def __init__(self, torch: Any, model: Any, inputs: list[dict[str, np.ndarray]], wanted: Any, device: str) -> None:
        self.torch, self.model, self.inputs, self.wanted, self.device = torch, model, inputs, wanted, device
        # Without dropout: early stopping and decay regularise, and the same seed gives the same weights.
        model.eval().requires_grad_(True)
        model.embeddings.word_embeddings.requires_grad_(False)
        self.head = torch.nn.Linear(model.config.hidden_size, wanted.shape[1]).to(device)
        learned = [one for one in (*model.parameters(), *self.head.parameters()) if one.requires_grad]
        self.optimiser = torch.optim.AdamW(learned, lr=RATE, weight_decay=DECAY)
        # A step of full size at once would undo the head.
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimiser, 1.0 / WARM_UP, 1.0, WARM_UP)

    def fit_head(self, rows: np.ndarray, held: np.ndarray) -> None:
        """Ridge on the features as they are, with the penalty that is best on what is held out; rows: bool (n,)."""
        with self.torch.no_grad():
            features = self.torch.cat([self._encode(part) for part in self._split(np.arange(len(self.inputs)))])
        X, Y = features.double().cpu().numpy(), self.wanted.double().cpu().numpy()
        centre = X[rows].mean(axis=0)
        scale = float(np.square(X[rows] - centre).mean()) or 1.0
        X = X - centre
        product, along = X[rows].T @ X[rows], X[rows].T @ Y[rows]
        identity = scale * int(rows.sum()) * np.eye(X.shape[1])
        found = [np.linalg.solve(product + penalty * identity, along) for penalty in _PENALTIES]
        weights = min(found, key=lambda one: float(np.square(X[held] @ one - Y[held]).sum()))
        with self.torch.no_grad():
            self.head.weight.copy_(self.torch.from_numpy(weights.T.astype(np.float32)))
            self.head.bias.copy_(self.torch.from_numpy((-centre @ weights).astype(np.float32)))

    def run_epoch(self, order: np.ndarray) -> None:
        """One step of the optimiser for each batch of prompts, int64 (n_rows,), in this order."""
        for numbers in self._split(order):
            self.optimiser.zero_grad()
            loss = (self.head(self._encode(numbers)) - self.wanted[numbers]).square().mean()
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.schedule.step()

    def measure(self, rows: np.ndarray) -> float:
        """Mean squared error on some prompts, bool (n,)."""
        with self.torch.no_grad():
            parts = [
                (self.head(self._encode(numbers)) - self.wanted[numbers]).square().sum(dim=0)
                for numbers in self._split(np.flatnonzero(rows))
            ]
            return float(self.torch.stack(parts).sum(dim=0).mean()) / int(rows.sum())

    def take_state(self) -> dict[str, Any]:
        """A copy of the model's weights."""
        return {name: part.detach().clone() for name, part in self.model.state_dict().items()}

    def _split(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]

    def _encode(self, numbers: np.ndarray) -> Any:
        """float32 (len(numbers), width): the mean of the last hidden states of some prompts."""
        rows = [self.inputs[number]["ids"][0] for number in numbers]
        width = max(map(len, rows))
        ids = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
        mask = np.arange(width) < np.array([len(row) for row in rows])[:, None]
        given = self.torch.from_numpy(ids).to(self.device), self.torch.from_numpy(mask.astype(np.int64)).to(self.device)
        states = self.model(input_ids=given[0], attention_mask=given[1]).last_hidden_state
        share = given[1][:, :, None].to(states.dtype)
        return (states * share).sum(dim=1) / share.sum(dim=1)
