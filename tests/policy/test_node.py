"""The example in Node.js decides as Python does, on a policy whose choice hangs on the text."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hagpolicy._text import replace_surrogates
from hagpolicy.cli.demo import read_demo_prompts
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.policy import Policy
from tests.support.making import LISTS, ODD, SUMS, sums_against_lists
from tests.support.paths import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "node"
# What normalisers, cuts and word lists treat in ways of their own.
MORE = [
    "ΟΔΟΣ ΣΟΦΟΣ and İstanbul: naïve café, Ångström, ﬁne",
    "a\u200bb\u00adc\ufffdd\x07e",
    "x = y + z; cost: $5 ~ <b>`q`</b>",
    "tab\there\r\n    indented\u2028next ↵ ⇥",
    "日本語テキスト、ひらがな。𠀀 漢字",
    "Straße\u00a0\u3000blank",
    "👩\u200d🚀 e\u0301 \u0130",
    "word " * 2500,
    "w" * 9000,
    f"{'long words ' * 600}{'y' * 300} {'tail ' * 700}",
    "half \udc00 pair",
    "constructor toString __proto__",
]


@pytest.fixture(scope="module")
def installed(request: pytest.FixtureRequest) -> Path:
    """The example with its one package, which is kept in pytest's cache."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node and npm here: install Node.js 20 or later")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version[1:].partition(".")[0]) < 20:
        pytest.skip(f"Node.js {version} here: 20 or later is needed")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("node")
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    done = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm ci failed: {done.stderr[-300:]}")
    return folder


def decide(folder: Path, bundle: Path, texts: list[str], script: str = "decide.mjs") -> list[dict[str, object]]:
    given = "".join(f"{json.dumps(text)}\n" for text in texts)
    done = subprocess.run(
        ["node", str(folder / script), str(bundle)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.servers
def test_decisions_are_pythons(installed: Path, tmp_path: Path) -> None:
    policy = sums_against_lists(told="reads")
    bundle = policy.save(tmp_path / "policy")
    demo = [prompt.text for prompt in read_demo_prompts("demo_prompts.jsonl")[::10]]
    texts = [*SUMS[::3], *LISTS[::3], *demo, *ODD, *MORE]
    assert len(texts) >= 50
    decided = decide(installed, bundle, texts)
    for text, row in zip(texts, decided, strict=True):
        decision = policy.decide(text)
        assert (row["choice"], policy.space[int(str(row["choice"]))]) == (decision.index, decision.config), text
    assert len({row["choice"] for row in decided}) > 1


@pytest.mark.servers
def test_ids_are_the_tokenizers(installed: Path, tmp_path: Path) -> None:
    """Decisions could agree by luck; the inputs may not."""
    source = (installed / "decide.mjs").read_text("utf-8")
    start = source.index("const session = await")
    asking = """for await (const line of createInterface({ input: process.stdin })) {
  const { ids, mask } = encode(JSON.parse(line), tokenizer, manifest.encoder);
  console.log(JSON.stringify({ ids: Array.from(ids.data, Number), mask: Array.from(mask.data) }));
}"""
    (installed / "ids.mjs").write_text(source[:start] + asking, "utf-8")
    policy: Policy = sums_against_lists()
    bundle = policy.save(tmp_path / "policy")
    inputs = TokenInputs((bundle / "tokenizer.json").read_bytes())
    texts = [*SUMS[:5], *LISTS[:5], *ODD, *MORE, ""]
    for text, row in zip(texts, decide(installed, bundle, texts, "ids.mjs"), strict=True):
        expected = inputs.one(replace_surrogates(text))
        assert row == {name: values[0].tolist() for name, values in expected.items()}, text


@pytest.mark.servers
def test_the_example_reads_a_window_as_python_does(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from hagpolicy.fitting.encoders.transformer import TransformerEncoder
    from tests.support.tiny_bert import write_bert

    policy = sums_against_lists(TransformerEncoder(write_bert(tmp_path / "tiny"), window=60))
    policy.save(tmp_path / "bundle")
    texts = [*SUMS, *LISTS, *(f"{text} {'and ' * 90}{text}" for text in (*SUMS[:4], *LISTS[:4]))]
    found = decide(installed, tmp_path / "bundle", texts)
    assert [row["choice"] for row in found] == [decision.index for decision in policy.decide_batch(texts)]
    assert len({row["choice"] for row in found}) > 1
