"""Runs that lm-eval and inspect logged are one table: a config a run, its rewards where they belong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy import DecodingConfig, InvalidInput, SweepTable, load_table, read_prompts

NAN = float("nan")
NAME = "samples_gsm8k_2026-01-02T03-04-05.67890{}.jsonl"


def lm_eval(path: Path, rewards: list[Any], settings: dict[str, Any], **more: Any) -> Path:
    """Samples of a run as lm-eval logs them."""
    rows = [
        {
            "doc_id": number,
            "doc": {"question": f"{number}+1?"},
            "target": str(number + 1),
            "arguments": {"gen_args_0": {"arg_0": f"Q: {number}+1?\nA:", "arg_1": {"until": ["\n"], **settings}}},
            "resps": [[f"It is {number}."]],
            "filtered_resps": [str(number)],
            "filter": "strict-match",
            "metrics": ["exact_match"],
            "doc_hash": "0a",
            "exact_match": reward,
            **more,
        }
        for number, reward in enumerate(rewards)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def inspect_log(settings: dict[str, Any], scores: list[list[Any]], **more: Any) -> dict[str, Any]:
    """A log of a run as inspect writes it; scores by sample and epoch."""
    samples = [
        {
            "id": number,
            "epoch": epoch + 1,
            "input": f"{number}+1?",
            "target": str(number + 1),
            "output": {
                "choices": [{"message": {"role": "assistant", "content": "4"}, "stop_reason": "stop"}],
                "usage": {"input_tokens": 5, "output_tokens": 10 * number + epoch, "total_tokens": 9},
                "time": 0.5,
            },
            "scores": {} if value is None else {"match": {"value": value, "answer": str(number), "explanation": "…"}},
        }
        for number, values in enumerate(scores)
        for epoch, value in enumerate(values)
    ]
    about = {"task": "sums", "model": "openai/gpt-x", "model_generate_config": {"temperature": 0.9, "top_p": None}}
    return {"version": 2, "eval": about, "plan": {"config": settings}, "samples": samples, **more}


def write(path: Path, log: dict[str, Any]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(log))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in reversed(log["samples"]):
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps({**log, "samples": None}))
    return path


def test_runs_of_lm_eval_are_the_configs_of_a_table(tmp_path: Path) -> None:
    runs = [
        ({"do_sample": False, "temperature": 0.7, "max_gen_toks": 256}, [1.0, 0.0, 1]),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_gen_toks": 256, "seed": 3}, [0.0, True, 0.5]),
        ({"max_gen_toks": 256}, [False, 1.0, None]),  # greedy, as lm-eval is: another sample of the first
        ({"do_sample": True, "top_k": -1, "max_gen_toks": 256}, [NAN, 1.0]),
    ]
    paths = [lm_eval(tmp_path / NAME.format(n), rewards, told) for n, (told, rewards) in enumerate(runs)]
    table = SweepTable.from_logs(*paths, metric="exact_match", default={"temperature": 0.7, "top_p": 0.9})
    assert list(table.space) == [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.7, top_p=0.9),
        DecodingConfig(temperature=1.0),
    ]
    expected = [[[1, 0], [0, NAN], [NAN, NAN]], [[0, 1], [1, NAN], [1, NAN]], [[1, NAN], [0.5, NAN], [NAN, NAN]]]
    np.testing.assert_array_equal(table.rewards, expected)
    assert table.prompts == read_prompts(paths[0])
    assert (table.default, table.max_tokens, table.tokens) == (1, 256, None)
    assert table.scorers == {"gsm8k": "exact_match (strict-match) by lm-eval"}
    assert table.answers is not None
    assert load_table(table.save(tmp_path / "t.parquet")).digest == table.digest


def test_limits_that_differ_are_a_part_of_the_config(tmp_path: Path) -> None:
    paths = [lm_eval(tmp_path / NAME.format(n), [1.0], {"max_gen_toks": 64 << n}) for n in range(2)]
    table = SweepTable.from_logs(*paths)
    assert [config.max_tokens for config in table.space] == [64, 128]
    assert table.max_tokens is None


def test_tasks_stand_beside_each_other(tmp_path: Path) -> None:
    first = lm_eval(tmp_path / NAME.format(0), [1.0, 0.0], {"max_gen_toks": 256})
    told = {"max_gen_toks": 512, "until": ["###"]}
    other = lm_eval(tmp_path / "samples_mmlu_2026-01-02T03-04-05.678901.jsonl", [1.0], told)
    table = SweepTable.from_logs(first, other)
    assert table.tasks.tolist() == ["gsm8k", "gsm8k", "mmlu"]
    assert table.rewards.shape == (3, 1, 1)
    assert table.max_tokens is None


def test_filters_and_metrics_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / NAME.format(0)
    lines = []
    for name, reward in (("strict-match", 0.0), ("flexible-extract", 1.0)):
        lm_eval(path, [reward, reward], {}, filter=name, f1=0.25, metrics=["exact_match", "f1"])
        lines.append(path.read_text())
    path.write_text("".join(lines))
    with pytest.raises(InvalidInput, match=r"filter: .*strict-match, flexible-extract, got none chosen"):
        SweepTable.from_logs(path, metric="f1")
    with pytest.raises(InvalidInput, match=r"line 3: metric: .*exact_match, f1"):
        SweepTable.from_logs(path, filter="flexible-extract")
    with pytest.raises(InvalidInput, match="Did you mean 'exact_match'"):
        SweepTable.from_logs(path, filter="flexible-extract", metric="exact_mach")
    for name, metric, reward in (("flexible-extract", "exact_match", 1.0), ("strict-match", "f1", 0.25)):
        assert SweepTable.from_logs(path, filter=name, metric=metric).rewards.ravel().tolist() == [reward, reward]


@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_runs_of_inspect_are_the_configs_of_a_table(tmp_path: Path, suffix: str) -> None:
    logs = [
        inspect_log({"max_tokens": 99, "max_connections": 3}, [["C", "I"], ["P", None], [0.25, True]]),
        inspect_log({"max_tokens": 99, "temperature": 0.0, "seed": 1}, [["N"], [1], ["C"]]),
    ]
    table = SweepTable.from_logs(*(write(tmp_path / f"{n}{suffix}", log) for n, log in enumerate(logs)))
    assert list(table.space) == [DecodingConfig(temperature=0.9), DecodingConfig(temperature=0.0)]
    by_id = np.argsort([prompt.id for prompt in table.prompts])
    expected = [[[1, 0], [0, NAN]], [[0.5, NAN], [1, NAN]], [[0.25, 1], [1, NAN]]]
    np.testing.assert_array_equal(table.rewards[by_id], expected)
    np.testing.assert_array_equal(table.tokens[by_id][:, 0], [[0, 1], [10, 11], [20, 21]])
    assert table.seconds[by_id][0, 0].tolist() == [0.5, 0.5]
    assert table.fingerprint == {"kind": "inspect", "model": "openai/gpt-x"}
    assert table.scorers == {"sums": "match by inspect"}
    assert table.max_tokens == 99
    assert set(table.prompts) == set(read_prompts(tmp_path / f"0{suffix}"))


def test_a_log_that_names_no_setting_is_unset(tmp_path: Path) -> None:
    log = inspect_log({}, [["C"]])
    log["eval"]["model_generate_config"] = {}
    assert list(SweepTable.from_logs(write(tmp_path / "a.eval", log)).space) == [DecodingConfig(unset=True)]


def test_a_part_of_a_score_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", inspect_log({}, [[{"style": 0.5, "truth": "C"}]]))
    assert SweepTable.from_logs(path, metric="match/truth").rewards.ravel().tolist() == [1.0]
    with pytest.raises(InvalidInput, match="match/style, match/truth"):
        SweepTable.from_logs(path)


def broken(path: Path) -> Path:
    path.write_bytes(write(path, inspect_log({}, [["C"]])).read_bytes()[:-30])
    return path


def other_line(path: Path) -> Path:
    path.write_text('{"prompt": "a"}\n')
    return path


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda at: [lm_eval(at / "a.jsonl", [2.0], {})], r"line 1: metric: .*\[0, 1\], got 2"),
        (lambda at: [lm_eval(at / "a.jsonl", [1.0], {"temperature": -1})], "temperature"),
        (lambda at: [lm_eval(at / "a.jsonl", [1.0], {}, arguments=[["Q", " A"]])], "answers are generated"),
        (
            lambda at: [lm_eval(at / f"{n}.jsonl", [1.0], {"until": [str(n)]}) for n in range(2)],
            "differ in nothing but",
        ),
        (
            lambda at: [lm_eval(at / "a.jsonl", [1.0], {}), lm_eval(at / "b.jsonl", [1.0], {}, target="5")],
            "asked the same",
        ),
        (lambda at: [write(at / "a.json", inspect_log({}, [["good"]]))], "got good"),
        (lambda at: [write(at / "a.json", inspect_log({}, [["C"]], version=1))], "version 2"),
        (
            lambda at: [
                write(at / f"{n}.json", inspect_log({"reasoning_summary": n}, [["C"]])) for n in ("low", "high")
            ],
            "reasoning_summary",
        ),
        (lambda at: [broken(at / "a.eval")], r"a\.eval"),
        (lambda at: [other_line(at / "a.jsonl")], r"a\.jsonl, line 1: expected samples that lm-eval logged"),
        (lambda at: [at / "none.jsonl"], "none"),
        (lambda at: [], "at least one answer"),
    ],
)
def test_logs_that_make_no_table_are_refused(tmp_path: Path, make: Any, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        SweepTable.from_logs(*make(tmp_path))


def test_one_log_is_no_table_and_says_what_is(tmp_path: Path) -> None:
    for path in (lm_eval(tmp_path / NAME.format(0), [1.0], {}), write(tmp_path / "a.eval", inspect_log({}, [["C"]]))):
        with pytest.raises(InvalidInput, match="from_logs"):
            load_table(path)


def test_logs_of_two_models_are_refused(tmp_path: Path) -> None:
    other = inspect_log({}, [["C"]])
    other["eval"]["model"] = "openai/gpt-y"
    paths = write(tmp_path / "a.json", inspect_log({}, [["C"]])), write(tmp_path / "b.json", other)
    with pytest.raises(InvalidInput, match="one model"):
        SweepTable.from_logs(*paths)
