"""The exit codes of `hagpolicy`: done, done in part, bad input or usage, a package is missing, interrupted."""

DONE, PARTLY, BAD_INPUT, MISSING, INTERRUPTED = 0, 1, 2, 3, 130
