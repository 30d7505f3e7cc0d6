"""`hagpolicy serve` as a process: one client through it, and its end by a signal."""

import json
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("uvicorn")
httpx2 = pytest.importorskip("httpx2")

from hagpolicy import load  # noqa: E402
from hagpolicy.cli import main  # noqa: E402
from hagpolicy.config.fields import FIELDS  # noqa: E402
from hagpolicy.data.traffic import read_traffic  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402


@pytest.fixture(scope="module")
def policy_folder(null, tmp_path_factory):
    return null[1].save(tmp_path_factory.mktemp("serve") / "policy")


def test_a_proxy_serves_until_a_signal_ends_it(policy_folder, tmp_path):
    upstream, log = EchoServer(), tmp_path / "live" / "log.db"
    command = [sys.executable, "-m", "hagpolicy", "serve", "--policy", str(policy_folder)]
    command += ["--upstream", upstream.url, "--port", "0", "--server", "vllm", "--overrule", "temperature"]
    command += ["--log", str(log), "--explore", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url, said = process.stdout.readline().split("/v1 is ", 1)
        assert said.startswith(f"{upstream.url} (vllm)")
        body = {"model": "m", "prompt": "What is 17 * 23?", "temperature": 0.123}
        with httpx2.Client(base_url=url, timeout=30.0) as client:
            assert client.get("/hag/ready").status_code == 200  # it listens before it says where
            answer = client.post("/v1/completions", json=body, headers={"authorization": "Bearer sk-secret"})
            assert answer.headers["x-hag-overruled"] == "temperature"
            given = {"id": answer.headers["x-hag-request-id"], "value": 0.5}
            assert client.post("/hag/reward", json=given).status_code == 200
            client.post("/v1/completions", json=body)
            assert len(answer.headers.get_list("date")) == len(answer.headers.get_list("server")) == 1
        assert upstream.asked[0]["temperature"] != 0.123
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)
        assert process.returncode == 0  # it was asked to end, and no answer was cut
        said += tuple(path.read_bytes().decode("latin-1") for path in log.parent.iterdir())
        assert not any(secret in text for text in said for secret in ("sk-secret", "17 * 23", "Traceback"))
        np.testing.assert_array_equal(read_traffic(log).decisions.reward, [0.5, np.nan])
    finally:
        process.kill()
        upstream.close()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--upstream", "nowhere"], "upstream: expected an address"),
        (["--upstream", "http://127.0.0.1:1", "--server", "vlm"], "Did you mean 'vllm'"),
        (["--upstream", "http://127.0.0.1:1", "--overrule", "temprature"], "overrule: expected fields"),
        (["--upstream", "http://127.0.0.1:1", "--lacks", "top_k", "--lacks", "min_p"], "--lacks: expected a value, or"),
        (["--upstream", "http://127.0.0.1:1", "--provider", "NoProvider"], "providers: expected some of"),
        (["--upstream", "http://127.0.0.1:1", "--port", "70000"], "port: expected 0 to 65535"),
        (["--upstream", "http://127.0.0.1:1", "--host", "192.0.2.1"], "host and port: expected an address of this"),
        (["--upstream", "http://127.0.0.1:1", "--graceful-timeout", "-1"], "--graceful-timeout: expected seconds"),
        (["--upstream", "http://127.0.0.1:1", "--price", "0.1"], "price"),
        (["--upstream", "http://127.0.0.1:1", "--policy", "m=nowhere"], "nowhere"),
        (["--upstream", "http://127.0.0.1:1", "--explore", "0.05"], "explore: expected a log beside it"),
        (["--upstream", "http://127.0.0.1:1", "--endpoint", "drafted"], "--endpoint: expected NAME=URL"),
        (
            ["--upstream", "http://127.0.0.1:1", "--log", "no/log.db", "--experiment", "7"],
            "experiment: expected a share",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(policy_folder, more, words, capsys):
    assert main(["serve", "--policy", str(policy_folder), *more]) == 2
    assert words in capsys.readouterr().err


def test_json_says_where_it_listens(policy_folder, capsys, monkeypatch):
    served = []
    monkeypatch.setattr("hagpolicy.serving.proxy.run_proxy", lambda *given: served.append(given))
    given = ["serve", "--policy", f"m={policy_folder}", "--upstream", "http://127.0.0.1:1", "--port", "0", "--json"]
    own = ["--overrule", "top_p", "--overrule", "m=all", "--provider", "auto", "--server", "vllm"]
    own += ["--endpoint", "drafted=http://draft.invalid:8001/v1#there"]
    assert main([*given, *own, "--graceful-timeout", "5"]) == 0
    app, listening, seconds = served[0]
    assert {model: len(one.overrule) for model, one in app.app.handler.rules.items()} == {"m": len(FIELDS)}
    endpoint = app.app.handler.rules["m"].endpoints["drafted"]
    assert (endpoint.base, endpoint.model) == ("http://draft.invalid:8001", "there")
    listening.close()
    assert seconds == 5.0
    told = json.loads(capsys.readouterr().out)
    url = told["url"]
    assert told["policies"] == {"m": load(policy_folder).digest}
    assert url.startswith("http://127.0.0.1:")
    assert not url.endswith(":0")


def test_a_port_that_is_taken_is_told_before_anything_is_served(policy_folder, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = ["serve", "--policy", str(policy_folder), "--upstream", "http://127.0.0.1:1", "--server", "vllm"]
        assert main([*given, "--port", str(taken.getsockname()[1])]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("at which nothing listens")) == ("", 1)
