"""Engines that the tests of Ray put into workers: importable there, since the nodes' PYTHONPATH names this folder."""

import os
import signal

from hagpolicy import SimulatedEngine
from hagpolicy.errors import EngineError

DEADLY, SPARED, BROKEN, ODD = "deadly", "spared", "broken", "odd"


class Noted(SimulatedEngine):
    """Writes a line of pid and seeds into a file before each unit: one write, so a kill cannot tear it."""

    def __init__(self, seed=0, *, log, **options):
        super().__init__(seed, **options)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def generate(self, unit):
        os.write(self._log, f"{os.getpid()} {' '.join(str(request.seed) for request in unit)}\n".encode())
        return super().generate(unit)


class OddError(Exception):
    """Cannot be rebuilt from its arguments in another process, as those of the HTTP clients cannot."""

    def __init__(self, message, *, code):
        super().__init__(f"{message} ({code})")


class Perilous(SimulatedEngine):
    """Dies of prompts that contain "deadly", once for all workers of "spared", and raises at "broken" and "odd"."""

    def __init__(self, seed=0, *, folder, **options):
        super().__init__(seed, **options)
        self._folder = folder

    def generate(self, unit):
        texts = " ".join(request.prompt.text for request in unit)
        if DEADLY in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if SPARED in texts and not os.path.exists(os.path.join(self._folder, "died")):
            open(os.path.join(self._folder, "died"), "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if BROKEN in texts:
            raise EngineError("out of order")
        if ODD in texts:
            raise OddError("no answer", code=503)
        return super().generate(unit)


class Versioned(SimulatedEngine):
    """Of the model version that its node's environment names."""

    @property
    def fingerprint(self):
        return {**super().fingerprint, "revision": os.environ.get("HAGPOLICY_TEST_REVISION", "1")}


class Threads(SimulatedEngine):
    """Named after the threads that its worker gives it."""

    def __init__(self, seed=0, **options):
        super().__init__(seed, **options)
        self.name = f"threads:{os.environ['OMP_NUM_THREADS']}"
