"""`Policy`: prompt to decoding configuration. Needs numpy, tokenizers and an onnxruntime."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest, digest_bytes
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.prompts import as_prompt
from hagpolicy.data.rows import list_rows
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.bundle import Bundle, read_bundle, write_bundle
from hagpolicy.policy.card import format_card
from hagpolicy.policy.decision import Decision, choose_index, decide
from hagpolicy.policy.dial import DecisionRule
from hagpolicy.policy.explanation import Explanation, explain_decision
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.graph.operators import FLOAT
from hagpolicy.policy.graph.rule import check_rule
from hagpolicy.policy.inputs import Embed, VectorInputs, make_inputs, read_vector
from hagpolicy.policy.manifest import MAX_TASKS, PolicyManifest
from hagpolicy.policy.reading import PromptReader, Read
from hagpolicy.policy.session import Providers, open_session
from hagpolicy.policy.training_prompts import FEATURES, TRAINING_FILES, TrainingPrompts
from hagpolicy.results import Evaluation, Ships

if TYPE_CHECKING:
    from hagpolicy.data.table import SweepTable

# Outputs of the graph beside its heads, by the names that they have in every bundle that was written. `choice` is for
# other languages: it is held to the manifest's rule at load, and decided here by that rule itself.
_OOD, _CHOICE = "novelty", "choice"
_NO_TASKS = "it knows none: they were not told in training, or nothing was proven for them"
# What the tensors of a batch may take together; a larger batch is run in parts.
_BATCH_BYTES = 256 << 20


def load(folder: str | Path, *, embed: Embed | None = None, providers: Providers = None) -> Policy:
    """The policy that `Policy.save` wrote. No code of it is run, and every digest is checked.

    Args:
        folder: the bundle.
        embed: for a policy that reads vectors: makes them of texts, a list of n of them to numbers (n, dim), the same
            as in training. With it the policy reads strings and chats; without it only vectors.
        providers: of onnxruntime, in the order of preference, such as ["CUDAExecutionProvider"]; "auto": the GPU's
            where there is one, else the CPU's. None: the CPU's, on which a decision takes less time than the way to
            a GPU and back; figures and so decisions at a tie may differ on another.

    Raises:
        BundleError: a missing, damaged, changed, foreign or newer bundle.
        InvalidInput: an `embed` for a policy that reads texts by itself, or a provider that is not to be had.
        MissingExtra: no onnxruntime is installed, or remains of one.
    """
    bundle = read_bundle(folder)
    dial = bundle.manifest.dial
    shape = len(dial.heads), len(bundle.manifest.space), len(dial.points)
    training = TrainingPrompts.from_files(bundle.files, *shape)
    files = {name: data for name, data in bundle.files.items() if name not in TRAINING_FILES}
    return Policy(bundle.manifest, bundle.model, files, embed, providers, training)


class _Opening:
    """Stands where a policy has its session or inputs in a forked process, and opens them when it is asked for them."""

    def __init__(self, policy: Policy, name: str) -> None:
        self._policy, self._name = policy, name

    def __getattr__(self, name: str) -> Any:
        if getattr(self._policy, self._name) is self:
            self._policy._open()
        return getattr(getattr(self._policy, self._name), name)


_POLICIES: weakref.WeakSet[Policy] = weakref.WeakSet()
# What a fork copied is not used and not destroyed either: both could wait for threads that are not there.
_OF_PARENTS: list[Any] = []


def _close_policies() -> None:
    for policy in list(_POLICIES):
        policy._close_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_policies)


class Policy:
    """Chooses a decoding configuration for each prompt, always by its ONNX graph.

    One decision rule: the reference is what the gate left, the single best config where that is proven over what runs
    today and else what runs today (where that is unknown, the single best config); depart from it only for an
    advantage above the margin, where a per-prompt policy is proven; stay with it for a prompt unlike the training
    prompts; ties go to the first in the space's order.

    Args:
        manifest: what it is, as policy.json says it.
        model: bytes of the ONNX graph, see `fitting.policy_graph`.
        files: other files of the bundle, by name.
        embed: see `load`; no part of the bundle.
        providers: the same.
        training: the prompts that it was fitted on, by which it explains decisions; None: it cannot.

    Attributes:
        manifest: as given.
        embed: the same.
        training: the same; no part of what decides, nor of the bundle unless `save` is told so.
        space: the configs that compete, n_configs of them.
        dial: what can be turned at call time, and what the gate decided at its points.
        training_means: float64 (n_configs,), mean value in training, at the dial's first point.
        margin: in units of the objective, there.
        sbs_index: index of the config with the best training mean, there.
        reference_index: index of `reference`, there.
        reason: the gate's reason, at every point of the dial.
        evaluations: how well it does on prompts it was not trained on, at every point of the dial; None where
            nothing was evaluated.
        task_best: at every point of the dial, the index of each training task's best config.
        ships: what is proven at some point of the dial: "per_prompt"; else "single_best"; else "default", what runs
            today, which stands.
        ships_sbs: `ships` is "single_best".
        candidate: the policy that the gate held back, where there is one; not part of the bundle.

    Raises:
        BundleError: a graph that does not fit the manifest.
        InvalidInput: an `embed` for a policy that reads texts by itself, or a provider that is not to be had.
    """

    candidate: Policy | None

    def __init__(
        self,
        manifest: PolicyManifest,
        model: bytes,
        files: Mapping[str, bytes],
        embed: Embed | None = None,
        providers: Providers = None,
        training: TrainingPrompts | None = None,
    ) -> None:
        self.manifest, self.embed, self._providers, self.training = manifest, embed, providers, training
        self._model, self._files = model, dict(files)
        self.candidate = None
        self.space, self.dial, self.encoder = manifest.space, manifest.dial, dict(manifest.encoder)
        self.task_best = manifest.task_best
        self.evaluations = tuple(point.evaluation for point in self.dial.points)
        first = self.dial.rule_at()
        self.training_means, self.sbs_index, self.reference_index = first.means, first.sbs, first.reference
        self.margin, self.reason = self.dial.points[0].margin, self.dial.reason
        shipped = {point.ships for point in self.dial.points}
        self.ships: Ships = next(one for one in reversed(get_args(Ships)) if one in shipped)
        self.ships_sbs = self.ships == "single_best"
        self._inputs: Any = make_inputs(self.encoder, files, embed)
        vectors = self._inputs.names == VectorInputs.names
        self._reader = PromptReader(manifest.reads, manifest.forms, vectors=vectors, texts=not vectors or bool(embed))
        self._means = self.dial.means.astype(np.float32)
        self._tasks: tuple[str | None, ...] = (None, *manifest.tasks)
        self._numbers = {name: number for number, name in enumerate(manifest.tasks, 1)}
        self._unknown: set[str] = set()
        self._takes_task = any(point.told_ships for point in self.dial.points)
        self._task_arrays = tuple(np.array([number], dtype=np.int64) for number in range(len(self._tasks)))
        graph = Graph(model, self._inputs.most_tokens)
        wanted = ({*self._inputs.names, *(["task"] if self._takes_task else [])}, {*self.dial.heads, _OOD, _CHOICE})
        for what, found, expected in zip(("inputs", "outputs"), (graph.inputs, graph.outputs), wanted, strict=True):
            if set(found) != expected:
                raise BundleError(f"policy.onnx: expected the {what} {sorted(expected)}, got {sorted(found)}")
        check_rule(graph, self.dial, _OOD, _CHOICE, len(manifest.tasks))
        self._outputs = [*self.dial.heads, _OOD]
        self._batch = max(1, _BATCH_BYTES // graph.row_bytes)
        self._session: Any = open_session(graph, self._outputs, providers)
        self._features_session: Any = None  # of explanations alone: a decision must not pay for them
        self._check_training(graph)
        self._configs = tuple(self.space)
        self._check_fit()
        _POLICIES.add(self)

    def _check_fit(self) -> None:
        """One run on the tokenizer's last token: tokenizer, graph and space must fit each other now, not
        fail on some prompt later. Of several tasks the last is told: the graph's tables must be as long."""
        arrays = self._inputs.probe()
        if self._takes_task:
            arrays["task"] = self._task_arrays[-1]
        for name, values in zip(self._outputs, self._compute(self._outputs, arrays), strict=True):
            expected = (1, len(self.space)) if name in self.dial.heads else (1,)
            if values.shape != expected or values.dtype != np.float32:
                raise BundleError(
                    f"policy.onnx: expected {name}, float32 {expected}, got {values.dtype} {values.shape}"
                )
            if not np.isfinite(values).all():
                raise BundleError(f"policy.onnx: expected finite {name}, got NaN or infinity")

    def _check_training(self, graph: Graph) -> None:
        """The stored features must be such as the graph makes."""
        if self.training is None:
            return
        expected, tensor = ("batch", self.training.features.shape[1]), graph.tensors.get(FEATURES)
        if tensor is None or tensor.dtype != FLOAT or tensor.shape != expected:
            raise BundleError(f"policy.onnx: expected the tensor {FEATURES}, float32 {expected}, got none such")

    def _compute(self, names: list[str], arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of the graph by name."""
        try:
            found: list[np.ndarray] = self._session.run(names, arrays)
        except Exception as error:  # onnxruntime's exception types have no stable public name
            raise BundleError(f"policy.onnx: it does not take the inputs of this bundle: {error}") from error
        return found

    @cached_property
    def digest(self) -> str:
        """Identity of what decides, 32 hex digits: the same for a policy that was saved and loaded."""
        files = {name: digest_bytes(data) for name, data in self._files.items()}
        return digest({"manifest": self.manifest.to_json(), "model": digest_bytes(self._model), "files": files})

    @property
    def sbs(self) -> DecodingConfig:
        """The single best config of the training prompts."""
        return self._configs[self.sbs_index]

    @property
    def reference(self) -> DecodingConfig:
        """The config that stands where nothing per prompt is proven, and for a prompt that falls back; at the dial's
        first point."""
        return self._configs[self.reference_index]

    @property
    def default_index(self) -> int | None:
        """Index in the space of what runs today; None where unknown."""
        return self.manifest.default

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers of onnxruntime that run the graph, the preferred one first."""
        return tuple(self._session.get_providers())

    @property
    def learner(self) -> str:
        """Name of the learner."""
        return self.manifest.learner

    @property
    def reads_text(self) -> bool:
        """Whether it takes strings and chats; False where it takes the caller's vectors and has no `embed`."""
        return self._reader.texts

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
        self,
        prompt: Any,
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | None = None,
    ) -> DecodingConfig:
        """The config for a prompt.

        Args:
            prompt: a string, chat messages or a `Prompt`; a vector where the encoder takes vectors, and there a text
                only with `embed` (see `load`). Of a chat is read what `manifest.reads` says; for one that cannot be
                read the reference is given.
            fixed: fields the caller has set: chooses among the configs that agree with them.
            price: reward that a token (or second) costs, [0, 1e6], for a policy fitted with prices.
            n: answers that will be drawn, at least 1, for a policy fitted for several.
            task: the kind of the prompt, where the caller knows it, one of `manifest.tasks`. One that the policy does
                not know is none, with one warning. A `Prompt`'s own task is for scorers and reports, and not read.

        Where neither price nor n is given, the dial stands at its first point. Where nothing is proven at a price or
        n, what runs today is given; where that is unknown, the best config on average for it (`Dial`).

        Raises:
            InvalidInput: what is no prompt, a field that does not exist or is out of range, or a dial that
                this policy does not have.
            BundleError: the graph gives NaN or infinity for the prompt, or fails.
        """
        if fixed:
            return self.decide(prompt, fixed, price=price, n=n, task=task).config
        rule, number = self._rule(price, n, 0 if task is None else self._number_task(task))
        plain = type(prompt) is str and prompt and not prompt.isspace() and self._reader.texts
        read = Read(prompt, prompt) if plain else self._read(prompt, number)
        heads, ood_score = self._look(read, number)
        return self._configs[choose_index(rule, rule.values(heads), ood_score, None, read.refusal)[0]]

    def predict_batch(
        self,
        prompts: Sequence[Any],
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | Sequence[str | None] | None = None,
    ) -> list[DecodingConfig]:
        """The config of each prompt, the same as `predict` gives; see there. A task for all, or one a prompt."""
        if fixed:
            return [decision.config for decision in self.decide_batch(prompts, fixed, price=price, n=n, task=task)]
        rules = [self.dial.rule_at(price, n, told) for told in (False, True)]
        reads, known = self._read_all(prompts, task, rules[True])
        numbers = known * rules[True].told
        *heads, ood_scores = self._run(reads, numbers, *self._outputs)
        rows = zip(reads, numbers.tolist(), rules[0].values(heads), ood_scores.tolist(), strict=True)
        return [
            self._configs[choose_index(rules[number > 0], values, score, None, read.refusal)[0]]
            for read, number, values, score in rows
        ]

    def decide(
        self,
        prompt: Any,
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | None = None,
        among: np.ndarray | None = None,
    ) -> Decision:
        """The config for a prompt with its expected value and the reason; see `predict`.

        Args:
            among: bool (n_configs,), the configs that can be had, such as those that a server can be sent; None: all.
        """
        known = 0 if task is None else self._number_task(task)
        rule, number = self._rule(price, n, known)
        read = self._read(prompt, number)
        heads, ood_score = self._look(read, number)
        costs = self.dial.costs(heads)
        return decide(
            self.space,
            rule,
            heads,
            ood_score,
            fixed,
            read.content,
            costs,
            refusal=read.refusal,
            task=self._tasks[known],
            among=among,
        )

    def decide_batch(
        self,
        prompts: Sequence[Any],
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | Sequence[str | None] | None = None,
    ) -> list[Decision]:
        """The decision for each prompt, the same as `decide` gives. A task for all, or one a prompt."""
        rules = [self.dial.rule_at(price, n, told) for told in (False, True)]
        reads, known = self._read_all(prompts, task, rules[True])
        numbers = known * rules[True].told
        *heads, ood_scores = self._run(reads, numbers, *self._outputs)
        rows = zip(reads, known.tolist(), np.stack(heads, axis=1), ood_scores.tolist(), strict=True)
        return [
            decide(
                self.space,
                rules[number > 0],
                row,
                score,
                fixed,
                read.content,
                self.dial.costs(row),
                refusal=read.refusal,
                task=self._tasks[number],
            )
            for read, number, row, score in rows
        ]

    def explain(
        self,
        prompt: Any,
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | None = None,
        neighbours: int = 5,
    ) -> Explanation:
        """Why it decides as it does for a prompt: what moved the choice, how sure it is, and the nearest training
        prompts with what the configs achieved on them. The same prompt has the same explanation.

        What moved the choice is found by leaving out one word at a time (of a long prompt one line, of a vector one
        column, which is set to its median in training) and deciding again. How sure it is, is told by what departing
        from the reference achieved where as much was predicted for prompts that were not learned from.

        Args:
            prompt, price, n, task: see `predict`.
            neighbours: how many training prompts are told, at least 0.

        Raises:
            InvalidInput: a policy without its training prompts: they are in a bundle only where it was saved with
                `explain=True`; or see `predict`.
            BundleError: see `predict`.
        """
        if self.training is None:
            do = "Fit it again and save it with save(folder, explain=True), or with `hagpolicy fit --explain`."
            raise InvalidInput("explain", "a policy that holds its training prompts' features", "one without", do)
        if not is_whole(neighbours, 0):
            raise InvalidInput("neighbours", "a whole number, at least 0", neighbours)
        decision = self.decide(prompt, price=price, n=n, task=task)
        known = 0 if decision.task is None else self._number_task(decision.task)
        rule, number = self._rule(price, n, known)
        read = self._read(prompt, number)

        def compute(items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
            reads = [Read(item, None) for item in items]
            *heads, scores = self._run(reads, np.full(len(reads), number, dtype=np.int64), *self._outputs)
            return rule.values(heads), scores

        point = self._find_point(price, n)
        return explain_decision(
            decision,
            # Whether values may be missing, `decide` has judged.
            item=read.item if isinstance(read.item, str) else read_vector(read.item, missing=True),
            features=None if read.refusal is not None else self._compute_features(read.item),
            compute=compute,
            rule=rule,
            point=None if rule.told else point,
            proof="" if rule.told else self.reason if point is None else self.dial.points[point].reason,
            configs=self._configs,
            training=self.training,
            neighbours=neighbours,
        )

    def _find_point(self, price: float | None, n: int | None) -> int | None:
        """Number of the dial's point at a position; None between its points."""
        given = n if price is None else price
        if given is None:
            return 0
        return next((number for number, point in enumerate(self.dial.points) if point.at == float(given)), None)

    def _compute_features(self, item: Any) -> np.ndarray:
        """float32 (n_features,): the features of a text or vector, from the graph."""
        if self._features_session is None:
            graph = Graph(self._model, self._inputs.most_tokens)
            self._features_session = open_session(graph, [FEATURES], self._providers)
        arrays = self._inputs.one(item)
        if self._takes_task:
            arrays["task"] = self._task_arrays[0]
        found: np.ndarray = self._features_session.run([FEATURES], arrays)[0][0]
        return found

    def knows_task(self, task: str) -> bool:
        """Whether a task is one of those that can be told to it."""
        return task in self._numbers

    def _number_task(self, task: str) -> int:
        """Number of a task as the graph takes it, from 1; 0 for one that is not known, with one warning for each."""
        if not isinstance(task, str):
            raise InvalidInput("task", "a string, or None", task)
        number = self._numbers.get(task, 0)
        if not number and task not in self._unknown and len(self._unknown) < MAX_TASKS:
            self._unknown.add(task)
            known = f"it knows {', '.join(map(repr, self.manifest.tasks))}" if self.manifest.tasks else _NO_TASKS
            warnings.warn(f"task {task!r} is none of this policy's, and is read as none: {known}", stacklevel=3)
        return number

    def _read_all(
        self, prompts: Sequence[Any], task: str | Sequence[str | None] | None, rule: DecisionRule
    ) -> tuple[list[Read], np.ndarray]:
        """What is read of each prompt, and int64 (n_prompts,) the number of each one's task, 0 where it has none.

        Args:
            prompts: as the caller gave them.
            task: of all, or of each.
            rule: for prompts whose task is told.
        """
        if isinstance(prompts, str):
            raise InvalidInput("prompts", "a list of prompts", prompts, "For one prompt, use predict or decide.")
        rows = list_rows(prompts)
        given = list(task) if isinstance(task, Sequence) and not isinstance(task, str) else [task] * len(rows)
        if len(given) != len(rows):
            raise InvalidInput("task", f"one, or one a prompt ({len(rows)})", f"{len(given)} of them")
        numbers = [0 if one is None else self._number_task(one) for one in given]
        reads = [self._read(row, number * rule.told) for row, number in zip(rows, numbers, strict=True)]
        return reads, np.array(numbers, dtype=np.int64)

    def _rule(self, price: float | None, n: int | None, number: int) -> tuple[DecisionRule, int]:
        """The rule for a task of some number, and the number that the graph takes: 0 where nothing is proven for it."""
        rule = self.dial.rule_at(price, n, number > 0)
        return rule, number if rule.told else 0

    def _read(self, prompt: Any, number: int) -> Read:
        """What is read of a prompt; nothing is refused where only the task matters."""
        read = self._reader.read(prompt)
        return read if not number or self.manifest.told_reads else read._replace(refusal=None)

    def _look(self, read: Read, number: int) -> tuple[Sequence[np.ndarray] | np.ndarray, float]:
        """Heads, each float32 (n_configs,), and out-of-distribution score of a prompt, from the graph; of one that is
        not read, what is expected of prompts in general."""
        if read.refusal is not None:
            return self._means, 0.0
        arrays = self._inputs.one(read.item)
        if self._takes_task:
            arrays["task"] = self._task_arrays[number]
        *heads, ood_score = self._compute(self._outputs, arrays)
        return [head[0] for head in heads], float(ood_score[0])

    def values(
        self,
        prompts: Sequence[Any],
        *,
        price: float | None = None,
        n: int | None = None,
        task: str | Sequence[str | None] | None = None,
    ) -> np.ndarray:
        """float32 (n_prompts, n_configs): expected value of every config, which is its reward unless the
        policy was fitted for something else. Where nothing per prompt ships, and for a prompt that is not read, the
        configs' training means; where only some points of the dial ship, what the learner expects at the others too."""
        rule = self.dial.rule_at(price, n, task is not None)
        reads, numbers = self._read_all(prompts, task, rule)
        return rule.values(self._run(reads, numbers * rule.told, *self.dial.heads))

    def costs(self, prompts: Sequence[Any], *, task: str | Sequence[str | None] | None = None) -> np.ndarray:
        """float32 (n_prompts, n_configs): expected new tokens, or seconds, of one answer.

        Raises:
            InvalidInput: the policy was not fitted with prices.
        """
        if self.dial.cost_head is None:
            raise InvalidInput("costs", "a policy fitted with prices", "one without", "Fit with objective=[Priced(…)].")
        return np.asarray(
            self.dial.costs(self._run(*self._read_all(prompts, None, self.dial.rule_at()), *self.dial.heads))
        )

    def ood_scores(self, prompts: Sequence[Any]) -> np.ndarray:
        """float32 (n_prompts,): above 1 for a prompt unlike everything seen in training, by the text that is read."""
        return self._run(*self._read_all(prompts, None, self.dial.rule_at()), _OOD)[0]

    def trained_on(self, prompts: Sequence[Any]) -> np.ndarray:
        """bool (n_prompts,): True for a prompt whose normalised text, or whose declared group, was
        among the training prompts."""
        trained_on, prompts = self.manifest.trained_on, list_rows(prompts)
        if trained_on is None:
            return np.zeros(len(prompts), dtype=bool)
        return trained_on.has([as_prompt(prompt) for prompt in prompts])

    def fitted_on(self, table: SweepTable) -> bool:
        """Whether it was fitted on these outcomes: the comparable prompts of a table (`analysis.checks`). Of an older
        bundle, whether it was fitted on these prompts."""
        if self.manifest.table:
            return self.manifest.table == table.digest
        known = self.manifest.trained_on
        return known is not None and len(known.digests) == len(table.prompts) and bool(known.has(table.prompts).all())

    def save(
        self,
        folder: str | Path,
        *,
        license: str | None = None,
        explain: bool = False,
        include_prompts: bool = False,
    ) -> Path:
        """Write the policy as a bundle; an older bundle in its place is replaced. Returns the folder.

        Args:
            folder: for the bundle.
            license: for the metadata of its card, as the Hub calls it, such as "apache-2.0"; None: nothing is said.
            explain: with what `explain` needs: ids, tasks, features and values of the training prompts. Features tell
                much of what a prompt is about.
            include_prompts: with their texts too.

        Raises:
            BundleError: the folder holds something else, or it cannot be written.
            InvalidInput: what is no name of a license; or to be saved is what this policy does not hold.
        """
        training = self._take_training(texts=include_prompts) if explain or include_prompts else None
        card = format_card(self.manifest, license, training)
        more = {} if training is None else training.to_files()
        return write_bundle(folder, Bundle(self.manifest, self._model, {**self._files, **more}), card)

    def _take_training(self, *, texts: bool) -> TrainingPrompts:
        """The training prompts, with their texts or without. Raises InvalidInput for what is not held."""
        if self.training is None or (texts and self.training.texts is None):
            name, do = ("include_prompts" if texts else "explain"), "Save the policy where it was fitted."
            raise InvalidInput(name, "a policy that holds its training prompts", "one without", do)
        return self.training if texts else self.training.without_texts()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        embed: Embed | None = None,
        providers: Providers = None,
    ) -> Policy:
        """The policy in a folder, or of a repository of the Hub. No code of it is run, and every digest is checked.

        Args:
            name_or_folder: a bundle's folder, where there is one; else OWNER/NAME.
            revision: a branch, tag or commit of the repository; None: its main branch. Name a commit where the policy
                must not change.
            token: of the Hub; None: the one that is logged in.
            cache_dir: the Hub's cache; None: its own.
            local_files_only: nothing is asked of the Hub; what the cache holds is taken.
            embed, providers: see `load`.

        Raises:
            BundleError: there is none, or it is damaged, changed, foreign or newer.
            InvalidInput: neither a folder nor a name of the Hub, or a revision of a folder.
            MissingExtra: a name of the Hub, and huggingface_hub is not installed.
        """
        from hagpolicy.policy import hub

        if Path(name_or_folder).exists():
            if revision is not None:
                do = "A folder has no revisions."
                raise InvalidInput("revision", "None beside a folder", revision, do)
            return load(name_or_folder, embed=embed, providers=providers)
        if not hub.is_hub_name(str(name_or_folder)):
            raise InvalidInput("name_or_folder", "a folder that exists, or OWNER/NAME of the Hub", str(name_or_folder))
        options = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        with hub.pull_policy(str(name_or_folder), revision=revision, **options) as folder:
            return load(folder, embed=embed, providers=providers)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        commit_message: str = "Upload a policy",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Upload the policy as the content of a repository of the Hub, which is made where it is missing; older files
        in it are replaced. Returns the address of the commit.

        Read its card before: it says what a bundle reveals of the training prompts.

        Args:
            repo_id: OWNER/NAME.
            license: see `save`.
            commit_message: of the upload.
            private: a new repository is private; None: as the owner has it.
            token: of the Hub; None: the one that is logged in.
            branch: of the repository; None: main.
            create_pr: as a pull request.

        Raises:
            MissingExtra: huggingface_hub is not installed.
            InvalidInput: what is no name of a repository, or of a license.
            BundleError: the Hub did not take it.
        """
        from hagpolicy.policy.hub import push_policy

        options = {"commit_message": commit_message, "token": token, "branch": branch, "create_pr": create_pr}
        return push_policy(partial(self.save, license=license), repo_id, private=private, **options)

    def _run(self, reads: Sequence[Read], tasks: np.ndarray, *names: str) -> list[np.ndarray]:
        """Graph outputs for many prompts, in their order; heads of those not read are the means of training."""
        results = [
            np.empty((len(reads), len(self.space)) if name in self.dial.heads else len(reads), dtype=np.float32)
            for name in names
        ]
        for numbers, arrays in self._inputs.many([read.item for read in reads]):
            if self._takes_task:
                arrays["task"] = tasks[numbers]
            for start in range(0, len(numbers), self._batch):
                rows = slice(start, start + self._batch)
                found = self._compute(list(names), {name: values[rows] for name, values in arrays.items()})
                for result, part in zip(results, found, strict=True):
                    result[numbers[rows]] = part
        refused = [number for number, read in enumerate(reads) if read.refusal is not None]
        for name, result in zip(names, results, strict=True):
            if refused and name in self.dial.heads:
                result[refused] = self._means[self.dial.heads.index(name)]
        return results

    def _close_after_fork(self) -> None:
        """Give up session and tokenizer, whose threads stayed with the parent; the next use opens new ones."""
        _OF_PARENTS.append((self._session, self._inputs, self._features_session))
        self._features_session = None
        self._session, self._inputs = _Opening(self, "_session"), _Opening(self, "_inputs")

    def _open(self) -> None:
        inputs = make_inputs(self.encoder, self._files, self.embed)
        session = open_session(Graph(self._model, inputs.most_tokens), self._outputs, self._providers)
        self._session, self._inputs = session, inputs

    def __reduce__(self) -> tuple[Any, ...]:
        # A session cannot be copied to another process; what it was made of can.
        training = None if self.training is None else self.training.without_texts()
        return Policy, (self.manifest, self._model, self._files, self.embed, self._providers, training)

    def __repr__(self) -> str:
        stands = {"default": "ships the default", "single_best": "ships the single best config"}
        what = stands.get(self.ships, f"{self.learner} on {self.encoder['name']}")
        return f"Policy({what}, {len(self.space)} configs)"
