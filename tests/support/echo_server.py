"""A server of the OpenAI-compatible API that answers every request with its own body."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # of connections that wait to be taken


class EchoServer:
    """On a loopback socket, in a thread. A body with `stream` is answered by events, ten a second where it says `slow`.

    Attributes:
        asked: bodies of all requests.
        headers: of all requests, by names in lower case.
        targets: of all POST requests: path and query.
        fail: so many requests from now on are answered with 503.
        redirect: where requests are sent on to from now on, with a cookie; "": nowhere.
        cut: streams whose client went away before their end.
    """

    def __init__(self):
        self.asked, self.headers, self.targets, outer = [], [], [], self
        self.fail = self.cut = 0
        self.redirect = ""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(raw)
                outer.asked.append(body)
                outer.targets.append(self.path)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                if outer.fail:
                    outer.fail -= 1
                    self.send(503, b"{}", "application/json")
                elif outer.redirect:
                    self.send(307, b"{}", "application/json", {"Location": outer.redirect, "Set-Cookie": "c=1"})
                elif body.get("stream"):
                    self.stream(body)
                else:
                    message = {"role": "assistant", "content": json.dumps(body)}
                    choice = {"index": 0, "message": message, "text": json.dumps(body), "finish_reason": "stop"}
                    said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                    self.send(200, json.dumps(said).encode(), "application/json")

            def send(self, status, data, kind, further=()):
                self.send_response(status)
                for name, value in dict(further).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send(200, json.dumps({"path": self.path}).encode(), "application/json")

            def stream(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                for word in ["one", " two"] + [" more"] * (50 * bool(body.get("slow"))) + [None]:
                    delta = {} if word is None else {"content": word}
                    choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
                    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                    data = json.dumps({**chunk, "choices": [choice]}).encode()
                    try:
                        self.wfile.write(b"data: " + data + b"\n\n")
                        self.wfile.flush()
                    except OSError:
                        outer.cut += 1
                        return
                    time.sleep(0.1 if body.get("slow") else 0.0)
                self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, *_):
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
