"""Whether a text ends in a loop."""

from __future__ import annotations

__all__ = ["LEAST_COPIES", "LEAST_LENGTH", "is_looping"]

# Three consecutive copies are the measure of Holtzman et al., *The Curious Case of Neural Text Degeneration* (ICLR
# 2020). The least length keeps out rules of dashes, closing brackets and refrains of a word or two.
LEAST_COPIES = 3
LEAST_LENGTH = 80
# Only the end is read: a loop that was left again is none, and what a text costs is bounded.
_READ = 6000


def is_looping(text: str) -> bool:
    """Whether a text ends in at least `LEAST_COPIES` consecutive copies of one passage, together at least
    `LEAST_LENGTH` characters; the last copy may be cut anywhere, as a limit on tokens cuts it.

    Spaces at the end are not looked at, and of a text only the last 6,000 characters. Passages that differ from one
    copy to the next, such as a number that counts up, are no copies. Linear in the length of the text.
    """
    end = text.rstrip()[-_READ:][::-1]
    length = len(end)
    if length < LEAST_LENGTH:
        return False
    # Z function (Gusfield, 1997): matches[p] is how far the end agrees with what stands p characters before it, so the
    # last matches[p] + p characters have the period p.
    matches = [0] * length
    left = right = 0
    for period in range(1, length // LEAST_COPIES + 1):
        known = min(right - period, matches[period - left]) if period < right else 0
        while period + known < length and end[known] == end[period + known]:
            known += 1
        matches[period] = known
        if period + known > right:
            left, right = period, period + known
        if known + period >= max(LEAST_LENGTH, LEAST_COPIES * period):
            return True
    return False
