"""The interface of an encoder: prompt to features, as part of the one ONNX graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.policy.inputs import Embed


class Encoder(ABC):
    """Turns prompts into float32 features, always through its ONNX graph.

    Attributes:
        name: such as "static".
        any_scale: its features come in whatever units: they are brought to one scale by robust statistics of the
            training prompts (`scaling.FeatureScaling`), unless they are of one already.
        tuned: its features are learned: `tune` gives the encoder of some training prompts, in every fold anew.
        missing: NaN in its features is a value that is missing: the policy fills it (`scaling.Imputation`).
        length: (column, factor) of the feature that is factor × ln(token count), where there is one:
            a short prompt's mean scatters more, and the out-of-distribution score allows for it.
        embed: of an encoder whose inputs are vectors, what makes them of texts where a policy predicts; None: whoever
            calls it gives vectors. `fit` hands it to the policy, and `load(folder, embed=…)` takes it again.
    """

    name: str
    any_scale: bool = False
    tuned: bool = False
    missing: bool = False
    length: tuple[int, float] | None = None
    embed: Embed | None = None

    def learn(self, prompts: Sequence[Prompt]) -> Encoder:
        """The encoder as it reads a table like this one: itself, but for one that learns from prompts what to look for.

        Args:
            prompts: of the table, as they are read. Rewards are not among what it sees.
        """
        return self

    @abstractmethod
    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Declare the graph inputs and append the encoder's nodes.

        Returns the names of two tensors: features, float32 (batch, n_features), and unknown,
        float32 (batch,): the share of the prompt's tokens that the encoder does not know, in [0, 1].
        """

    @abstractmethod
    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """Graph inputs for some prompts, in their order, in chunks along the first axis."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What a bundle's policy.json stores of it, so that `Policy` can make the same inputs.

        Its key `inputs` is "tokens" or "window" (with tokenizer.json among the files, see `policy.inputs`) or "vectors"
        (with `dim`, their length); anything else is refused before a learner is fitted, since no policy could make its
        inputs.
        """

    def exact(self) -> Encoder | None:
        """The same encoder in full precision, where its weights were rounded; None: they were not."""
        return None

    def tune(self, prompts: Sequence[Any], targets: np.ndarray, groups: np.ndarray, seed: int) -> Encoder:
        """An encoder of the same inputs, whose features were learned; only where `tuned` is set.

        Args:
            prompts: n training prompts.
            targets: float64 (n, n_targets), what differs between configs and prompts: means over samples.
            groups: int64 (n,): prompts that stay together in inner splits.
            seed: of everything random.
        """
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """Files a bundle must carry for it, by name (such as tokenizer.json)."""
        return {}
