"""The command line: each verb through `main`, its exit codes, and what `predict` must not import."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.cli.commands import parse_engine_options, parse_fixed, parse_scorer
from hagpolicy.errors import EngineError, InvalidInput, MissingExtra, StoreError
from hagpolicy.simulated import SimulatedEngine

HEAVY = ("torch", "transformers", "pyarrow", "onnx", "lightgbm", "sklearn", "matplotlib", "jinja2", "scipy")
SPACE = [
    {"temperature": 0.0},
    {"temperature": 0.3},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.7, "hint": "Think step by step."},
    {"temperature": 1.3, "min_p": 0.1},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and a space on disk, a sweep of them, and a policy fitted on it, all by the command line."""
    root = tmp_path_factory.mktemp("cli")
    prompts = SimulatedEngine(seed=3).prompts(140, 0)
    write_prompts(root / "prompts.jsonl", prompts[:100])
    write_prompts(root / "more.jsonl", prompts[80:])
    (root / "space.json").write_text(json.dumps(SPACE))
    assert sweep(root, "prompts.jsonl", "sweep") == 0
    assert main(["fit", str(root / "sweep"), "--out", str(root / "policy"), "--learner", "ridge"]) == 0
    return root


def write_prompts(path: Path, prompts: object) -> None:
    path.write_text("".join(json.dumps(prompt.to_dict()) + "\n" for prompt in prompts))  # type: ignore[attr-defined]


def sweep(root: Path, prompts: str, out: str, *more: str) -> int:
    files = ["--prompts", str(root / prompts), "--space", str(root / "space.json"), "--out", str(root / out)]
    return main(["sweep", "--engine", "simulated:3", "--samples", "4", "--quiet", *files, *more])


def test_sweep_resumes_and_names_the_next_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in (folder / "sweep").rglob("*.parquet"))
    assert sweep(folder, "prompts.jsonl", "sweep") == 0
    printed = capsys.readouterr()
    assert "100 prompts × 6 configs" in printed.out  # the engine's default is added
    assert "next:  hagpolicy headroom" in printed.out
    assert sorted(path.name for path in (folder / "sweep").rglob("*.parquet")) == before


def test_headroom_in_words_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["headroom", str(folder / "sweep")]) == 0
    assert "The best single configuration" in capsys.readouterr().out
    assert main(["headroom", str(folder / "sweep"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_prompts"] == 100
    assert found["sbs_over_default"].keys() == {"value", "low", "high"}


def test_fit_prints_the_comparison_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "constant,ridge", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"engine_default", "sbs", "ridge", "policy"} <= {row["name"] for row in found["evaluation"]["rows"]}
    assert isinstance(found["ships_sbs"], bool)
    assert (tmp_path / "p" / "policy.onnx").is_file()


def test_an_objective_with_several_values_is_a_dial(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "ridge", "--json"]
    assert main([*made, "--objective", "best@1,3", "--baselines", "argmax, nearest"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(point["name"], point["at"]) for point in found["points"]] == [("best of 1", 1.0), ("best of 3", 3.0)]
    assert {"argmax", "nearest"} <= {row["name"] for row in found["points"][1]["evaluation"]["rows"]}
    assert main(["predict", str(tmp_path / "p"), "Tell me more.", "--n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] > 0.0
    assert main(["headroom", str(folder / "sweep"), "--objective", "best@3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objective"] == "best of 3"
    assert main(["fit", str(folder / "sweep"), "--out", str(tmp_path / "q"), "--objective", "best@9"]) == 2
    assert "9 scored samples of every sampled config" in capsys.readouterr().err


def test_the_earlier_word_for_baselines_is_understood_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "constant", "--json"]
    assert main([*made, "--rivals", "argmax"]) == 0
    printed = capsys.readouterr()
    assert "argmax" in {row["name"] for row in json.loads(printed.out)["evaluation"]["rows"]}
    assert printed.err == "hagpolicy: --rivals is called --baselines now\n"
    assert main([*made, "--rivals", "argmax", "--baselines", "nearest"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_portfolio_in_words_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["portfolio", str(folder / "sweep"), "--n", "3"]) == 0
    assert "For 3 samples of a prompt" in capsys.readouterr().out
    assert main(["portfolio", str(folder / "sweep"), "--n", "3", "--json"]) == 0
    assert sum(part["count"] for part in json.loads(capsys.readouterr().out)["configs"]) == 3


def test_predict_in_words_as_json_and_from_stdin(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "Tell me about the oven and the dough, then compare the soup with the pan."
    assert main(["predict", str(folder / "policy"), prompt, "--json", "--engine", "transformers"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] in [*SPACE, {}]
    assert "do_sample" in found["kwargs"]
    assert set(found["receipt"]) == {"applied", "dropped", "clamped"}
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(prompt))
    assert main(["predict", str(folder / "policy"), "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == found["config"]
    assert main(["predict", str(folder / "policy"), prompt]) == 0
    assert "expected reward" in capsys.readouterr().out


def test_predict_keeps_what_is_fixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(folder / "policy"), "Name a fern.", "--json", "--fixed"]
    assert main([*arguments, "temperature=0.3"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == {"temperature": 0.3}
    assert main([*arguments, "temperature=0.31"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "no_config_agrees"


def test_evaluate_leaves_out_the_prompts_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "more") == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder / "policy"), str(folder / "more"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_prompts"], found["n_left_out"]) == (40, 20)


def test_report_with_a_policy(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert main(["report", str(folder / "sweep"), "--policy", str(folder / "policy"), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert "The comparison" in out.read_text("utf-8")


def test_rescore_changes_the_rewards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "scored-twice") == 0
    assert main(["rescore", str(folder / "scored-twice"), "--scorer", "json_valid"]) == 0
    capsys.readouterr()
    assert main(["headroom", str(folder / "scored-twice"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["naive_oracle"]["value"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["headroom", "no-such-folder"], "no-such-folder"),
        (["fit", "{sweep}", "--out", "p", "--learner", "rigde"], "ridge"),
        (["fit", "{sweep}", "--out", "p", "--encoder", "magic"], "magic"),
        (["fit", "{sweep}", "--out", "{sweep}"], "older bundle"),
        (["predict", "no-such-policy", "Hello"], "no-such-policy"),
        (["predict", "{policy}", "Hello", "--fixed", "temprature=0.2"], "temperature"),
        (["predict", "{policy}", "Hello", "--fixed", "temperature"], "FIELD=VALUE"),
        (["predict", "{policy}", "  "], "empty prompt"),
        (["predict", "{policy}", "Hello", "--engine", "vlm"], "vllm"),
        (["sweep", "--engine", "simulated:3", "--prompts", "no.jsonl", "--out", "o"], "no.jsonl"),
        (
            ["sweep", "--engine", "simulated:3", "--prompts", "{prompts}", "--out", "o", "--space", "standrad"],
            "standard",
        ),
        (["sweep", "--engine", "simulated:4", "--prompts", "{prompts}", "--out", "{sweep}", "--quiet"], "simulated:3"),
        (["rescore", "{sweep}", "--scorer", "a=numeric_match", "--scorer", "a=chrf"], "once"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    folder: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"sweep": folder / "sweep", "policy": folder / "policy", "prompts": folder / "prompts.jsonl"}
    assert main([part.format(**places) for part in arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("hagpolicy: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err


def test_a_folder_that_cannot_take_the_policy_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hag, "fit", lambda *_, **__: pytest.fail("fitted first"))
    assert main(["fit", str(folder / "sweep"), "--out", str(folder / "sweep")]) == 2


def test_a_prompt_that_is_no_text_is_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    assert main(["predict", str(folder / "policy")]) == 2
    assert "prompt on stdin: expected text in utf-8" in capsys.readouterr().err


def test_a_terminal_that_lacks_a_sign_shows_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert sweep(folder, "prompts.jsonl", "sweep") == 0
    assert b"100 prompts ? 6 configs" in terminal.buffer.getvalue()


def test_cells_that_fail_are_code_1_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "failing", "--engine-option", "fail_rate=0.2") == 1
    printed = capsys.readouterr().out
    assert "cells failed: engine error" in printed
    assert "failed: " in printed.partition("this run:")[2]
    assert sweep(folder, "more.jsonl", "failing", "--json") == 0  # only the failed cells are tried again
    found = json.loads(capsys.readouterr().out)
    assert (found["prompts"], found["failures"]) == (60, {})
    assert 0 < found["summary"]["run"]["done"] < found["summary"]["cells"] == found["summary"]["wanted"]
    assert found["summary"]["bytes"]["cells"] > 0


def test_a_dry_run_says_the_cost_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "dry", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "60 prompts × 6 configs × 4 samples: 1,260 cells, 0 stored, 1,260 to generate" in printed
    assert "from a probe of 16 cells" in printed
    assert not (folder / "dry").exists()
    stored = {path: path.stat().st_mtime_ns for path in (folder / "sweep").rglob("*")}
    assert sweep(folder, "more.jsonl", "sweep", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["wanted"], found["stored"], found["to_generate"]) == (1260, 420, 840)
    assert "420 stored cells" in found["source"]
    assert found["tokens"]["low"] < found["tokens"]["value"] < found["tokens"]["high"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "sweep").rglob("*")} == stored


def test_where_the_engine_fails_a_dry_run_is_code_1_and_a_sweep_names_itself_as_the_next_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prompts", str(folder / "prompts.jsonl"), "--space", str(folder / "space.json")]
    failing = ["sweep", "--engine", "simulated:3", "--engine-option", "fail_rate=1.0", *files]
    assert main([*failing, "--out", str(folder / "lost"), "--dry-run"]) == 1
    assert "no estimate of tokens and time" in capsys.readouterr().out
    assert main([*failing, "--out", str(folder / "lost"), "--budget", "50"]) == 1
    assert "next:  the same command, which tries cells once more" in capsys.readouterr().out


def test_a_sweep_says_the_cost_on_stderr_and_the_account_on_stdout(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prompts", str(folder / "more.jsonl"), "--space", str(folder / "space.json")]
    assert main(["sweep", "--engine", "simulated:3", *files, "--out", str(folder / "said"), "--budget", "500"]) == 0
    printed = capsys.readouterr()
    assert "at most 500 to generate in 8 units (budget 500 generations)" in printed.err
    assert "new tokens after" in printed.err
    assert "cells generated first" in printed.err
    assert "this run: " in printed.out
    assert "this run: " not in printed.err
    assert "of 1,260 cells" in printed.out


def test_budgets_and_strategies_are_checked_before_anything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "never", "--budget", "5 parsecs") == 2
    assert "Units: generations, tokens, minutes" in capsys.readouterr().err
    assert sweep(folder, "more.jsonl", "never", "--workers", "2") == 2
    assert "on='ray' beside it" in capsys.readouterr().err
    assert sweep(folder, "more.jsonl", "never", "--strategy", "guess") == 2
    assert not (folder / "never").exists()


@pytest.mark.parametrize(
    "name", ["api_key", "key", "API-KEY", "hf_token", "password", "client_secret", "default_headers"]
)
def test_no_secret_is_taken_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert sweep(folder, "more.jsonl", "never", "--engine-option", f"{name}=sk-123") == 2
    printed = capsys.readouterr().err
    assert "environment" in printed
    assert "sk-123" not in printed


def test_engine_options_are_values_or_text() -> None:
    given = ["unit_cells=8", "server=vllm", "key_env=MY_KEY", "max_tokens_key_env=x", "base_url=http://a/v1?b=c"]
    assert parse_engine_options(given)["unit_cells"] == 8
    assert parse_engine_options(given)["base_url"] == "http://a/v1?b=c"
    assert parse_engine_options(given)["key_env"] == "MY_KEY"
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        parse_engine_options(["cuda"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingExtra("feature needs the package 'x': pip install 'hagpolicy[fit]'"), 3),
        (EngineError("the engine gave up"), 1),
        (StoreError("the folder is locked"), 2),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_errors(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("hagpolicy.cli.commands.headroom", failing)
    assert main(["headroom", "x"]) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert str(error) in printed


def test_a_full_disk_is_code_1_also_where_the_library_explains_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise StoreError("cannot write cells/000001.parquet") from OSError(28, "No space left on device")

    monkeypatch.setattr("hagpolicy.cli.commands.headroom", failing)
    assert main(["headroom", "x"]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_usage_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    number, share = ["headroom", "s", "--seed", "-1"], ["fit", "s", "--out", "p", "--near-duplicates", "7"]
    for wrong in ([], ["swep"], number, share):
        assert main(wrong) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("demo", "sweep", "headroom", "fit", "evaluate", "predict", "report", "rescore", "portfolio"):
        assert f"    {verb}" in text
        assert main([verb, "--help"]) == 0
        assert "example:" in capsys.readouterr().out
    assert "exit codes" in text


def test_predict_imports_nothing_that_only_training_needs(folder: Path) -> None:
    program = (
        "import sys; from hagpolicy.cli import main; "
        f"code = main(['predict', {str(folder / 'policy')!r}, 'Name a fern.']); "
        f"sys.exit(code or ' '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "expected reward" in done.stdout


def test_scorer_and_fixed_are_read_as_written(tmp_path: Path) -> None:
    assert parse_scorer(None) is None
    assert parse_scorer(["chrf"]) == "chrf"
    assert parse_scorer(["a=chrf", "b=numeric_match"]) == {"a": "chrf", "b": "numeric_match"}
    (tmp_path / "s.json").write_text('{"name": "numeric_match", "tolerance": 0.1}')
    assert parse_scorer([str(tmp_path / "s.json")]) == {"name": "numeric_match", "tolerance": 0.1}
    with pytest.raises(InvalidInput, match="readable JSON"):
        parse_scorer([str(tmp_path / "none.json")])
    with pytest.raises(InvalidInput, match="TASK=NAME"):
        parse_scorer(["a=chrf", "numeric_match"])
    assert parse_fixed(["temperature=0", "hint=5", "top_k=40"]) == {"temperature": 0, "hint": "5", "top_k": 40}
