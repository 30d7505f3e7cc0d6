"""Which server answers: those that cannot run here are stood in for by what they answer to a probe."""

import contextlib
import http.server
import json
import logging
import threading
import time

import pytest

from hagpolicy.engines.openai.probe import probe
from hagpolicy.errors import EngineError, InvalidInput
from tests.support.servers.launching import free_port

# Routes and fields as in the sources of the servers.
VLLM = {
    "/v1/models": {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]},
    "/version": {"version": "0.33.0"},
}
SGLANG = {
    "/v1/models": {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 2048}]},
    "/server_info": {"version": "0.5.23"},
}
LLAMA_CPP = {
    "/v1/models": {"data": [{"id": "m.gguf", "owned_by": "llamacpp", "meta": {"n_ctx": 512}}]},
    "/props": {
        "build_info": "b9000-abc",
        "default_generation_settings": {"n_ctx": 512, "params": {"temperature": 0.8, "top_k": 40, "seed": 1}},
    },
}
OLLAMA = {
    "/v1/models": {"data": [{"id": "llama3:8b", "owned_by": "library"}]},
    "/api/version": {"version": "0.14.0"},
}
PLAIN = {"/v1/models": {"data": [{"id": "gpt", "owned_by": "system"}]}}


@contextlib.contextmanager
def answering(routes, *, faults=0, status=404, seconds_a_byte=0.0):
    """A server that answers these paths, after so many faults at each, and `status` to others."""
    met = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            met[self.path] = met.get(self.path, 0) + 1
            seen.append((self.path, self.headers.get("Authorization")))
            body = json.dumps(routes.get(self.path, {"detail": "Not Found"})).encode()
            if met[self.path] <= faults:
                # One way each time: an error, half an answer, none at all.
                way = met[self.path] % 3
                if way == 0:
                    return
                body = body[: len(body) // 2] if way == 2 else b"{}"
                self.send_response(503 if way == 1 else 200)
            else:
                found = routes.get(self.path)
                self.send_response(status if found is None else 307 if "location" in found else 200)
                if found and "location" in found:
                    self.send_header("Location", found["location"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have left
                for part in [bytes([byte]) for byte in body] if seconds_a_byte else [body]:
                    self.wfile.write(part)
                    time.sleep(seconds_a_byte)

        def log_message(self, *_):
            pass

    seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("routes", "server", "version", "context", "defaults"),
    [
        (VLLM, "vllm", "0.33.0", 4096, {}),
        (SGLANG, "sglang", "0.5.23", 2048, {}),
        (LLAMA_CPP, "llama_cpp", "b9000-abc", 512, {"temperature": 0.8, "top_k": 40}),
        (OLLAMA, "ollama", "0.14.0", None, {}),
        (PLAIN, "compatible", "", None, {}),
        ({}, "compatible", "", None, {}),
    ],
    ids=["vllm", "sglang", "llama_cpp", "ollama", "plain", "nothing known"],
)
def test_a_server_is_told_by_what_only_it_has(routes, server, version, context, defaults):
    with answering(routes) as (url, _):
        found = probe(url)
        assert probe(url.removesuffix("/v1") + "/") == found
    assert (found.server, found.version) == (server, version)
    assert (found.context, found.defaults) == (context, defaults)
    models = [card["id"] for card in routes.get("/v1/models", {}).get("data", [])]
    assert found.models == models


@pytest.mark.parametrize("routes", [VLLM, LLAMA_CPP, OLLAMA])
def test_a_fault_on_the_way_does_not_name_another_server(routes):
    with answering(routes) as (url, _):
        expected = probe(url)
    with answering(routes, faults=2) as (url, _):
        assert probe(url) == expected


def test_nothing_there_is_said_plainly():
    with pytest.raises(EngineError, match="nothing listens there"):
        probe(f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(EngineError, match="no server at http://no host"):
        probe("http://no host/v1")


def test_an_answer_that_does_not_end_is_no_answer():
    with answering(PLAIN, seconds_a_byte=0.05) as (url, _), pytest.raises(EngineError, match=r"answer within 0\.3 s"):
        probe(url, timeout=0.3)


def test_a_key_is_sent_to_this_host_only_and_shown_nowhere(caplog):
    caplog.set_level(logging.DEBUG)
    key = {"Authorization": "Bearer sk-secret"}
    with answering(PLAIN) as (other, elsewhere):
        away = {"/v1/models": {"location": other + "/models"}}
        with answering(away) as (url, seen):
            assert probe(url, key).server == "compatible"
        assert {value for _, value in seen} == {"Bearer sk-secret"}
        assert elsewhere == []
    with answering({}, status=401) as (url, _), pytest.raises(EngineError, match="answers 401") as caught:
        probe(url, key)
    assert "sk-secret" not in str(caught.value)
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("localhost:8000", {}),
        ("ftp://host/v1", {}),
        ("http://me:sk-secret@host/v1", {}),
        ("http://host/v1?key=sk-secret", {}),
        ("http://host/v1", {"Authorization": "Bearer sk-secret\n"}),
        ("http://host/v1", {"Authorization": "Bearer sk-secret\u2026"}),
    ],
)
def test_an_address_or_header_that_cannot_be_is_refused_without_its_secrets(url, headers):
    with pytest.raises(InvalidInput) as caught:
        probe(url, headers)
    assert "sk-secret" not in str(caught.value)
