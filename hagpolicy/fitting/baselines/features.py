"""Features of a table's prompts, for baselines that learn."""

from __future__ import annotations

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder


class Features:
    """An encoder that encodes the prompts of one table once, however many folds ask for them.

    Args:
        encoder: its name or itself, see `hagpolicy.fitting.encoders.registry`.
    """

    def __init__(self, encoder: str | Encoder) -> None:
        self.encoder = encoder
        self._known: tuple[tuple[Prompt, ...], np.ndarray] | None = None

    def of(self, table: SweepTable) -> np.ndarray:
        """float64 (n_prompts, n_features)."""
        if self._known is None or self._known[0] is not table.prompts:
            features, _ = compute_features(get_encoder(self.encoder), table.prompts)
            self._known = table.prompts, features.astype(np.float64)
        return self._known[1]
