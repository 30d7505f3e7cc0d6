"""`Policy`: prompt to decoding configuration. Needs numpy, tokenizers and an onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.bundle import Bundle, read_bundle, salted, write_bundle
from hagpolicy.card import policy_card
from hagpolicy.config import DecodingConfig
from hagpolicy.decision import Decision, choose
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.feeds import feeds_of
from hagpolicy.prompts import as_prompt
from hagpolicy.results import Evaluation
from hagpolicy.session import open_session
from hagpolicy.space import DecodingSpace

__all__ = ["Decision", "Policy", "load"]


def load(folder: str | Path) -> Policy:
    """Read a policy that `Policy.save` wrote. Runs no code of it, and checks every digest.

    Raises:
        BundleError: a missing, damaged, changed, foreign or newer bundle.
        MissingExtra: no onnxruntime is installed.
    """
    bundle = read_bundle(folder)
    return Policy(bundle.manifest, bundle.model, bundle.files)


class Policy:
    """Chooses a decoding configuration for each prompt, always by its ONNX graph.

    One decision rule: among the allowed configs the one with the best training mean is the
    reference; depart from it only for an advantage above the margin; stay with it for a prompt
    unlike the training prompts; ties go to the first in the space's order.

    Args:
        manifest: content of policy.json.
        model: bytes of the ONNX graph, see `graphs.policy_graph`.
        files: other files of the bundle, by name.

    Attributes:
        manifest: as given.
        space: the configs that compete, n_configs of them.
        training_means: float64 (n_configs,), mean reward in training.
        margin: in units of reward.
        sbs_index: index of the config with the best training mean.
        candidate: the policy that the gate held back, where there is one; not part of the bundle.

    Raises:
        BundleError: a manifest that lacks something, or a graph that does not fit it.
    """

    candidate: Policy | None

    def __init__(self, manifest: Mapping[str, Any], model: bytes, files: Mapping[str, bytes]) -> None:
        self.manifest = dict(manifest)
        self._model, self._files = model, dict(files)
        self.candidate = None
        try:
            self.space = DecodingSpace.from_json(manifest["space"])
            self.training_means = np.array(manifest["training_means"], dtype=np.float64)
            self.margin = float(manifest["margin"])
            self.sbs_index = int(manifest["sbs"])
            self.encoder: dict[str, Any] = dict(manifest["encoder"])
            self.ships_sbs = bool(manifest["ships_sbs"])
            self.reason = str(manifest["reason"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"policy.json: expected a policy's manifest: {type(error).__name__}: {error}") from error
        if self.training_means.shape != (len(self.space),) or self.sbs_index != int(self.training_means.argmax()):
            raise BundleError("policy.json: training_means and sbs do not fit the space")
        self._feeds = feeds_of(self.encoder, files)
        self._session = open_session(model)
        named = (self._session.get_inputs(), self._session.get_outputs())
        wanted = (set(self._feeds.inputs), {"values", "novelty", "choice"})
        for what, found, expected in zip(("inputs", "outputs"), named, wanted, strict=True):
            names = {item.name for item in found}
            if names != expected:
                raise BundleError(f"policy.onnx: expected the {what} {sorted(expected)}, got {sorted(names)}")
        self._configs = tuple(self.space)
        self._check_fit()

    def _check_fit(self) -> None:
        """One run on the tokenizer's last token: tokenizer, graph and space must fit each other now, not
        fail on some prompt later."""
        try:
            values = self._session.run(["values"], self._feeds.probe())[0]
        except Exception as error:  # onnxruntime's exception types have no stable public name
            raise BundleError(f"policy.onnx: it does not take the inputs of this bundle: {error}") from error
        if values.shape != (1, len(self.space)):
            raise BundleError(f"policy.onnx: expected values of shape (1, {len(self.space)}), got {values.shape}")

    @property
    def sbs(self) -> DecodingConfig:
        """The single best config of the training prompts."""
        return self._configs[self.sbs_index]

    @property
    def default_index(self) -> int | None:
        """Index of the engine's default in the space; None where unknown."""
        return self.manifest.get("default")

    @property
    def learner(self) -> str:
        """Name of the learner."""
        return str(self.manifest.get("learner", ""))

    @property
    def carries_vectors(self) -> bool:
        """True when vectors of the training prompts are inside the graph."""
        return bool(self.manifest.get("carries_vectors", False))

    @property
    def fingerprint(self) -> dict[str, str]:
        """Of the engine that was swept; empty where unknown."""
        return dict(self.manifest.get("fingerprint") or {})

    @property
    def max_tokens(self) -> int | None:
        """The sweep's own limit on new tokens; None where unknown."""
        return self.manifest.get("max_tokens")

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """How well it does on prompts it was not trained on; None where nothing was evaluated."""
        stored = self.manifest.get("evaluation")
        return None if stored is None else Evaluation.from_json(stored)

    def predict(self, prompt: Any, fixed: Mapping[str, Any] | None = None) -> DecodingConfig:
        """The config for a prompt.

        Args:
            prompt: a string, chat messages or a `Prompt`; a vector where the encoder takes vectors.
            fixed: fields the caller has set: chooses among the configs that agree with them.

        Raises:
            InvalidInput: an empty prompt, or a field that does not exist or is out of range.
        """
        if fixed:
            return self.decide(prompt, fixed).config
        feed, _ = self._feeds.one(prompt)
        return self._configs[int(self._session.run(["choice"], feed)[0][0])]

    def predict_batch(self, prompts: Sequence[Any], fixed: Mapping[str, Any] | None = None) -> list[DecodingConfig]:
        """The config of each prompt, the same as `predict` gives; see there."""
        if fixed:
            return [decision.config for decision in self.decide_batch(prompts, fixed)]
        return [self._configs[number] for number in self._run(prompts, "choice")[0]]

    def decide(self, prompt: Any, fixed: Mapping[str, Any] | None = None) -> Decision:
        """The config for a prompt with its expected reward and the reason; see `predict`."""
        feed, content = self._feeds.one(prompt)
        values, novelty = self._session.run(["values", "novelty"], feed)
        return choose(self, values[0], float(novelty[0]), fixed, content)

    def decide_batch(self, prompts: Sequence[Any], fixed: Mapping[str, Any] | None = None) -> list[Decision]:
        """The decision for each prompt, the same as `decide` gives."""
        values, novelty = self._run(prompts, "values", "novelty")
        contents = (self._feeds.content(prompt) for prompt in prompts)
        rows = zip(values, novelty, contents, strict=True)
        return [choose(self, row, float(newness), fixed, content) for row, newness, content in rows]

    def values(self, prompts: Sequence[Any]) -> np.ndarray:
        """float32 (n_prompts, n_configs): expected reward of every config; when SBS ships, the
        configs' training means."""
        return self._run(prompts, "values")[0]

    def novelty(self, prompts: Sequence[Any]) -> np.ndarray:
        """float32 (n_prompts,): above 1 for a prompt unlike everything seen in training."""
        return self._run(prompts, "novelty")[0]

    def trained_on(self, prompts: Sequence[Any]) -> np.ndarray:
        """bool (n_prompts,): True for a prompt whose normalised text, or whose declared group, was
        among the training prompts."""
        stored = self.manifest.get("trained_on")
        if not stored:
            return np.zeros(len(prompts), dtype=bool)
        known = [as_prompt(prompt) for prompt in prompts]
        texts, groups = set(stored["digests"]), set(stored.get("groups", ()))
        by_text = salted((prompt.text for prompt in known), stored["salt"])
        by_group = salted((prompt.group or "" for prompt in known), stored["salt"])
        marks = zip(known, by_text, by_group, strict=True)
        return np.array([t in texts or (p.group is not None and g in groups) for p, t, g in marks], dtype=bool)

    def save(self, folder: str | Path) -> Path:
        """Write the policy as a bundle; an older bundle in its place is replaced. Returns the folder.

        Raises:
            BundleError: the folder holds something else, or it cannot be written.
        """
        return write_bundle(folder, Bundle(self.manifest, self._model, self._files), policy_card(self))

    def _run(self, prompts: Sequence[Any], *names: str) -> list[np.ndarray]:
        """Graph outputs for many prompts, in their order."""
        if isinstance(prompts, (str, Mapping)):
            raise InvalidInput("prompts", "a list of prompts", prompts, "For one prompt, use predict or decide.")
        results = [
            np.empty(
                (len(prompts), len(self.space)) if name == "values" else len(prompts),
                dtype=np.int64 if name == "choice" else np.float32,
            )
            for name in names
        ]
        for numbers, feed in self._feeds.many(prompts):
            for result, part in zip(results, self._session.run(list(names), feed), strict=True):
                result[numbers] = part
        return results

    def __reduce__(self) -> tuple[Any, ...]:
        # A session cannot be copied to another process; what it was made of can.
        return Policy, (self.manifest, self._model, self._files)

    def __repr__(self) -> str:
        what = "ships the single best config" if self.ships_sbs else f"{self.learner} on {self.encoder['name']}"
        return f"Policy({what}, {len(self.space)} configs)"
