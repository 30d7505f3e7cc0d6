"""`hagpolicy serve` in a process of its own, and what it holds."""

import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


class ProxyProcess:
    """The proxy before a server.

    Args:
        upstream: address of the server.
        folder: where its log goes.
        bundle: of the policy.
        options: further words of the command line.
        environment: further variables.
    """

    def __init__(self, upstream, folder, bundle, options=(), environment=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = Path(folder) / "proxy.log"
        command = [sys.executable, "-m", "hagpolicy.cli", "serve", "--policy", str(bundle), "--server", "vllm"]
        command += ["--upstream", upstream, "--port", str(self.port), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        for _ in range(600):
            try:
                if self.get("/hag/ready") == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.read_log()
            time.sleep(0.05)
        raise AssertionError(f"it is not ready: {self.read_log()}")

    def get(self, path):
        """Status of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def read_log(self):
        return self.log.read_text("utf-8", "replace")

    def count_files(self):
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def measure_memory(self):
        """Resident MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(40)
        finally:
            self.process.kill()
            self.process.wait()
