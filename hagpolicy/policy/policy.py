"""`Policy`: prompt to decoding configuration. Needs numpy, tokenizers and an onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.render import PromptLike
from hagpolicy.data.prompts import as_prompt
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.bundle import Bundle, read_bundle, write_bundle
from hagpolicy.policy.card import format_card
from hagpolicy.policy.decision import Decision, choose_index, decide
from hagpolicy.policy.inputs import make_inputs
from hagpolicy.policy.manifest import PolicyManifest
from hagpolicy.policy.session import open_session
from hagpolicy.results import Evaluation

# Outputs of the graph beside its heads, by the names that they have in every bundle that was written.
_OOD, _CHOICE = "novelty", "choice"


def load(folder: str | Path) -> Policy:
    """The policy that `Policy.save` wrote. No code of it is run, and every digest is checked.

    Args:
        folder: the bundle.

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
        manifest: what it is, as policy.json says it.
        model: bytes of the ONNX graph, see `fitting.policy_graph`.
        files: other files of the bundle, by name.

    Attributes:
        manifest: as given.
        space: the configs that compete, n_configs of them.
        dial: what can be turned at call time, and what the gate decided at its points.
        training_means: float64 (n_configs,), mean value in training, at the dial's first point.
        margin: in units of the objective, there.
        sbs_index: index of the config with the best training mean, there.
        reason: the gate's reason, at every point of the dial.
        evaluations: how well it does on prompts it was not trained on, at every point of the dial; None where
            nothing was evaluated.
        task_best: at every point of the dial, the index of each training task's best config.
        ships_sbs: no point of the dial has a proven per-prompt policy.
        candidate: the policy that the gate held back, where there is one; not part of the bundle.

    Raises:
        BundleError: a graph that does not fit the manifest.
    """

    candidate: Policy | None

    def __init__(self, manifest: PolicyManifest, model: bytes, files: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self._model, self._files = model, dict(files)
        self.candidate = None
        self.space, self.dial, self.encoder = manifest.space, manifest.dial, dict(manifest.encoder)
        self.task_best = manifest.task_best
        self.evaluations = tuple(point.evaluation for point in self.dial.points)
        first = self.dial.rule_at()
        self.training_means, self.sbs_index = first.means, first.reference
        self.margin, self.reason = self.dial.points[0].margin, self.dial.reason
        self.ships_sbs = not any(point.ships for point in self.dial.points)
        self._inputs = make_inputs(self.encoder, files)
        self._session = open_session(model)
        named = (self._session.get_inputs(), self._session.get_outputs())
        wanted = (set(self._inputs.names), {*self.dial.heads, _OOD, _CHOICE})
        for what, found, expected in zip(("inputs", "outputs"), named, wanted, strict=True):
            names = {item.name for item in found}
            if names != expected:
                raise BundleError(f"policy.onnx: expected the {what} {sorted(expected)}, got {sorted(names)}")
        self._configs = tuple(self.space)
        self._check_fit()

    def _check_fit(self) -> None:
        """One run on the tokenizer's last token: tokenizer, graph and space must fit each other now, not
        fail on some prompt later."""
        names = [*self.dial.heads, _OOD, _CHOICE]
        try:
            found = self._session.run(names, self._inputs.probe())
        except Exception as error:  # onnxruntime's exception types have no stable public name
            raise BundleError(f"policy.onnx: it does not take the inputs of this bundle: {error}") from error
        for name, values in zip(names, found, strict=True):
            expected = (1, len(self.space)) if name in self.dial.heads else (1,)
            if values.shape != expected:
                raise BundleError(f"policy.onnx: expected {name} of shape {expected}, got {values.shape}")

    @property
    def sbs(self) -> DecodingConfig:
        """The single best config of the training prompts."""
        return self._configs[self.sbs_index]

    @property
    def default_index(self) -> int | None:
        """Index of the engine's default in the space; None where unknown."""
        return self.manifest.default

    @property
    def learner(self) -> str:
        """Name of the learner."""
        return self.manifest.learner

    @property
    def carries_vectors(self) -> bool:
        """True when vectors of the training prompts are inside the graph."""
        return self.manifest.carries_vectors

    @property
    def fingerprint(self) -> dict[str, str]:
        """Fingerprint of the engine that was swept; empty where unknown."""
        return dict(self.manifest.fingerprint)

    @property
    def max_tokens(self) -> int | None:
        """The sweep's own limit on new tokens; None where unknown."""
        return self.manifest.max_tokens

    @property
    def evaluation(self) -> Evaluation | None:
        """The first of `evaluations`."""
        return self.evaluations[0]

    def predict(
        self, prompt: Any, fixed: Mapping[str, Any] | None = None, *, price: float | None = None, n: int | None = None
    ) -> DecodingConfig:
        """The config for a prompt.

        Args:
            prompt: a string, chat messages or a `Prompt`; a vector where the encoder takes vectors.
            fixed: fields the caller has set: chooses among the configs that agree with them.
            price: reward that a token (or second) costs, [0, 1e6], for a policy fitted with prices.
            n: answers that will be drawn, at least 1, for a policy fitted for several.

        Where neither price nor n is given, the dial stands at its first point. Where nothing is
        proven at a price or n, the best config on average for it is given.

        Raises:
            InvalidInput: an empty prompt, a field that does not exist or is out of range, or a dial that
                this policy does not have.
        """
        if fixed:
            return self.decide(prompt, fixed, price=price, n=n).config
        if price is None and n is None:
            arrays, _ = self._inputs.one(prompt)
            return self._configs[int(self._session.run([_CHOICE], arrays)[0][0])]
        rule = self.dial.rule_at(price, n)
        heads, ood_score, _ = self._read(prompt)
        return self._configs[choose_index(rule, rule.values(heads), ood_score)[0]]

    def predict_batch(
        self,
        prompts: Sequence[Any],
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
    ) -> list[DecodingConfig]:
        """The config of each prompt, the same as `predict` gives; see there."""
        if fixed or price is not None or n is not None:
            return [decision.config for decision in self.decide_batch(prompts, fixed, price=price, n=n)]
        return [self._configs[number] for number in self._run(prompts, _CHOICE)[0]]

    def decide(
        self, prompt: Any, fixed: Mapping[str, Any] | None = None, *, price: float | None = None, n: int | None = None
    ) -> Decision:
        """The config for a prompt with its expected value and the reason; see `predict`."""
        rule = self.dial.rule_at(price, n)
        heads, ood_score, content = self._read(prompt)
        return decide(self.space, rule, heads, ood_score, fixed, content, self.dial.costs(heads))

    def decide_batch(
        self,
        prompts: Sequence[Any],
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
    ) -> list[Decision]:
        """The decision for each prompt, the same as `decide` gives."""
        rule = self.dial.rule_at(price, n)
        *heads, ood_scores = self._run(prompts, *self.dial.heads, _OOD)
        contents = (self._inputs.content(prompt) for prompt in prompts)
        rows = zip(np.stack(heads, axis=1), ood_scores, contents, strict=True)
        return [
            decide(self.space, rule, row, float(score), fixed, content, self.dial.costs(row))
            for row, score, content in rows
        ]

    def _read(self, prompt: Any) -> tuple[list[np.ndarray], float, PromptLike | None]:
        """Heads, each float32 (n_configs,), and out-of-distribution score of a prompt, from the graph; its content."""
        arrays, content = self._inputs.one(prompt)
        *heads, ood_score = self._session.run([*self.dial.heads, _OOD], arrays)
        return [head[0] for head in heads], float(ood_score[0]), content

    def values(self, prompts: Sequence[Any], *, price: float | None = None, n: int | None = None) -> np.ndarray:
        """float32 (n_prompts, n_configs): expected value of every config, which is its reward unless the
        policy was fitted for something else. Where `ships_sbs`, the configs' training means; where only some
        points of the dial ship, what the learner expects at the others too."""
        rule = self.dial.rule_at(price, n)
        return rule.values(self._run(prompts, *self.dial.heads))

    def costs(self, prompts: Sequence[Any]) -> np.ndarray:
        """float32 (n_prompts, n_configs): expected new tokens, or seconds, of one answer.

        Raises:
            InvalidInput: the policy was not fitted with prices.
        """
        if self.dial.cost_head is None:
            raise InvalidInput("costs", "a policy fitted with prices", "one without", "Fit with objective=[Priced(…)].")
        return np.asarray(self.dial.costs(self._run(prompts, *self.dial.heads)))

    def ood_scores(self, prompts: Sequence[Any]) -> np.ndarray:
        """float32 (n_prompts,): above 1 for a prompt unlike everything seen in training."""
        return self._run(prompts, _OOD)[0]

    def trained_on(self, prompts: Sequence[Any]) -> np.ndarray:
        """bool (n_prompts,): True for a prompt whose normalised text, or whose declared group, was
        among the training prompts."""
        trained_on = self.manifest.trained_on
        if trained_on is None:
            return np.zeros(len(prompts), dtype=bool)
        return trained_on.has([as_prompt(prompt) for prompt in prompts])

    def save(self, folder: str | Path) -> Path:
        """Write the policy as a bundle; an older bundle in its place is replaced. Returns the folder.

        Raises:
            BundleError: the folder holds something else, or it cannot be written.
        """
        return write_bundle(folder, Bundle(self.manifest, self._model, self._files), format_card(self.manifest))

    def _run(self, prompts: Sequence[Any], *names: str) -> list[np.ndarray]:
        """Graph outputs for many prompts, in their order."""
        if isinstance(prompts, (str, Mapping)):
            raise InvalidInput("prompts", "a list of prompts", prompts, "For one prompt, use predict or decide.")
        results = [
            np.empty(
                (len(prompts), len(self.space)) if name in self.dial.heads else len(prompts),
                dtype=np.int64 if name == _CHOICE else np.float32,
            )
            for name in names
        ]
        for numbers, arrays in self._inputs.many(prompts):
            for result, part in zip(results, self._session.run(list(names), arrays), strict=True):
                result[numbers] = part
        return results

    def __reduce__(self) -> tuple[Any, ...]:
        # A session cannot be copied to another process; what it was made of can.
        return Policy, (self.manifest, self._model, self._files)

    def __repr__(self) -> str:
        what = "ships the single best config" if self.ships_sbs else f"{self.learner} on {self.encoder['name']}"
        return f"Policy({what}, {len(self.space)} configs)"
