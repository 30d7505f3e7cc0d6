"""`Health`: tells an engine that is dead from one that has only met units which it cannot do."""

from __future__ import annotations

from collections.abc import Iterable

# So many failures without a success in between are taken for death: one in twenty of the units that succeeded, within
# these bounds. After thousands of good units a few bad neighbours are no sign of it.
LEAST, MOST, SHARE = 3, 50, 20


class Health:
    """Judges an engine by the units that end.

    Units come back in any order, and a bad one often first: those that were in flight at the first
    failure are waited for. A unit that failed in an earlier call says nothing when it fails again.

    Attributes:
        good: units that succeeded.
        failures: units that failed since the last one that succeeded.
        error: what the latest of them failed with; None where none failed.
        dead: nothing more is to be expected of the engine. What ends after that changes nothing.
    """

    def __init__(self) -> None:
        self.good = self.failures = 0
        self.dead = False
        self.error: Exception | None = None
        self._awaited: set[int] = set()

    def record_end(
        self, number: int, error: Exception | None, in_flight: Iterable[int], *, failed_before: bool
    ) -> None:
        """Take in a unit that ended.

        Args:
            number: of the unit.
            error: what the engine failed with on it as a whole; None: it did not.
            in_flight: numbers of the units that have begun and not ended.
            failed_before: whether the engine failed on cells of it in an earlier call.
        """
        self._awaited.discard(number)
        if self.dead:
            return
        if error is None:
            self.good += 1
            self.failures, self._awaited = 0, set()
        elif not failed_before:
            if not self.failures:
                self._awaited = set(in_flight)
            self.failures += 1
            self.error = error
        enough = self.failures >= min(max(LEAST, self.good // SHARE), MOST)
        # One that hangs is not waited for while all others fail.
        self.dead = enough and (not self._awaited or self.failures >= MOST)
