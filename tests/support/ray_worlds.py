"""Engines that the tests of Ray put into workers: importable there, since the nodes' PYTHONPATH names this folder."""

import os
import signal
import time

from hagpolicy import SimulatedEngine
from hagpolicy.errors import EngineError

DEADLY, SPARED, BROKEN, ODD = "deadly", "spared", "broken", "odd"


class Noted(SimulatedEngine):
    """Writes a line of pid and seeds into a file before each unit: one write, so a kill cannot tear it.

    Then it pauses, which no cell tells of.
    """

    def __init__(self, seed=0, *, log, pause=0.0, **options):
        super().__init__(seed, **options)
        self._log, self._pause = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), pause

    def generate(self, unit):
        os.write(self._log, f"{os.getpid()} {' '.join(str(request.seed) for request in unit)}\n".encode())
        time.sleep(self._pause)
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
    """Of the model version that its node's environment names, or a file."""

    def __init__(self, seed=0, *, file=None, **options):
        super().__init__(seed, **options)
        self._revision = os.environ.get("HAGPOLICY_TEST_REVISION", "1")
        if file is not None:
            with open(file) as text:
                self._revision = text.read()

    @property
    def fingerprint(self):
        return {**super().fingerprint, "revision": self._revision}


class Sticky(SimulatedEngine):
    """Breaks with the third unit of the first worker, and fails from then on, as a device in error does."""

    def __init__(self, seed=0, *, folder, **options):
        super().__init__(seed, **options)
        self._flag, self._units, self._broken = os.path.join(folder, "broke"), 0, False

    def generate(self, unit):
        self._units += 1
        if self._units == 3 and not os.path.exists(self._flag):
            open(self._flag, "x").close()
            self._broken = True
        if self._broken:
            raise EngineError("device in error")
        return super().generate(unit)


class Stillborn(SimulatedEngine):
    """Dies while it is loaded, as for want of memory."""

    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Threads(SimulatedEngine):
    """Named after the threads that its worker gives it."""

    def __init__(self, seed=0, **options):
        super().__init__(seed, **options)
        self.name = f"threads:{os.environ['OMP_NUM_THREADS']}"


class Located(SimulatedEngine):
    """Named after the folder that its worker runs in."""

    def __init__(self, seed=0, **options):
        super().__init__(seed, **options)
        self.name = f"in:{os.getcwd()}"
