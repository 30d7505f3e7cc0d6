"""Real servers of the OpenAI-compatible API, as processes of their own on a loopback port."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

READY_SECONDS = 120
# LiteLLM's proxy does not start without one.
LITELLM_KEY = "sk-of-the-tests-only-0123456789abcdef"


@dataclass(frozen=True)
class Served:
    """A server that answers.

    Attributes:
        url: its /v1 root.
        server: its name in `config.servers.SERVERS`.
        model: the name of the model in requests.
        pid: of its process.
        log: file with what it printed.
    """

    url: str
    server: str
    model: str
    pid: int
    log: Path


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    ready: str,
    server: str,
    model: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Served]:
    """Run a server until the block ends; its process group is killed however the block ends.

    Args:
        ready: path that answers 200 when the server is ready.
        log: file for what it prints.
        env: variables beside this process's own.
        cwd: the folder in which it runs; None: this process's own.

    Raises:
        RuntimeError: it ended, or was not ready in time; with the end of its log.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}{ready}", log)
        yield Served(f"http://127.0.0.1:{port}/v1", server, model, process.pid, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def transformers_serve(folder: Path, work: Path) -> contextlib.AbstractContextManager[Served]:
    """`transformers serve` on a model folder, offline; `work` is a folder for its log and its empty hub cache."""
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hub"), "TRANSFORMERS_VERBOSITY": "error"}
    log = work / "transformers_serve.log"
    named = {"server": "transformers_serve", "model": str(folder)}
    return running(command, port=port, ready="/health", log=log, env=env, **named)


def llama_cpp_python(gguf: Path, work: Path, interpreter: str) -> contextlib.AbstractContextManager[Served]:
    """llama-cpp-python's server on a GGUF file, under an interpreter that has it."""
    port = free_port()
    command = [interpreter, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "smollm2"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--n_threads",
        "1",
        "--n_threads_batch",
        "1",
        "--n_ctx",
        "2048",
        "--verbose",
        "false",
    ]
    named = {"server": "llama_cpp_python", "model": "smollm2"}
    return running(command, port=port, ready="/v1/models", log=work / "llama_cpp.log", **named)


def litellm_proxy(config: Path, interpreter: str) -> contextlib.AbstractContextManager[Served]:
    """LiteLLM's proxy on a config file, under an interpreter that has it; beside the file lie its hooks and its log."""
    port = free_port()
    command = [interpreter, "-c", "from litellm import run_server; run_server()", "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": LITELLM_KEY, "PYTHONPATH": str(ROOT)}
    named = {"server": "compatible", "model": "m"}
    return running(
        command,
        port=port,
        ready="/health/liveliness",
        log=config.with_suffix(".log"),
        env=env,
        cwd=config.parent,
        **named,
    )


def faulty(
    served: Served, plan: Mapping[str, float], work: Path, seed: int = 0
) -> contextlib.AbstractContextManager[Served]:
    """A proxy in front of a server that breaks answers as `plan` says; what it did is in `work`/faults.jsonl."""
    port = free_port()
    target = served.url.removeprefix("http://").removesuffix("/v1")
    command = [sys.executable, str(Path(__file__).with_name("fault_proxy.py")), "--listen", str(port)]
    command += [
        "--target",
        target,
        "--plan",
        json.dumps(plan),
        "--seed",
        str(seed),
        "--log",
        str(work / "faults.jsonl"),
    ]
    named = {"server": served.server, "model": served.model}
    return running(command, port=port, ready="/__proxy__", log=work / "proxy.log", **named)


def llama_interpreter() -> str | None:
    """An interpreter with llama-cpp-python's server: `HAGPOLICY_LLAMA_PYTHON`, else this one; None: neither has it."""
    named = os.environ.get("HAGPOLICY_LLAMA_PYTHON")
    if named:
        asked = subprocess.run([named, "-c", "import llama_cpp.server.app"], capture_output=True)
        return named if asked.returncode == 0 else None
    there = all(importlib.util.find_spec(name) is not None for name in ("llama_cpp", "starlette_context"))
    return sys.executable if there else None


def gateways_interpreter() -> str | None:
    """An interpreter with LiteLLM and LangChain: `HAGPOLICY_GATEWAYS_PYTHON`, else that of `make test-servers`; None:
    there is none. They ask for another huggingface_hub than ours."""
    named = os.environ.get("HAGPOLICY_GATEWAYS_PYTHON") or str(ROOT / ".venv-gateways" / "bin" / "python")
    if not Path(named).exists():
        return None
    asked = subprocess.run([named, "-c", "import litellm.proxy, langchain_openai, onnxruntime"], capture_output=True)
    return named if asked.returncode == 0 else None


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}:\n{_end(log)}")
        # Not ready yet: refused, or an error of its own.
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready after {READY_SECONDS} s:\n{_end(log)}")


def _end(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")[-2000:]


def _die_with_parent() -> None:
    """Ask the kernel to kill the server should the test process be killed itself (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
