"""A server of the OpenAI-compatible API on a loopback socket that answers as a function says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]
"""The body of a request to (status, body), or to the body of an answer with the status 200."""


class AnsweringServer:
    """The server in a thread, as a context; `url` is its API's root, `asked` the bodies of all requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[dict[str, Any]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send(200, {"data": [{"id": "m"}]} if self.path == "/v1/models" else {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                said = outer.answer(body)
                self.send(*(said if isinstance(said, tuple) else (200, said)))

            def send(self, status: int, body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> AnsweringServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def say(text: str | None, *, tokens: Any = 3, finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """The body of a usual answer; `tokens` None: without a usage."""
    told = {"role": "assistant", "content": text, **message}
    body: dict[str, Any] = {"choices": [{"index": 0, "message": told, "finish_reason": finish}]}
    return body if tokens is None else {**body, "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
