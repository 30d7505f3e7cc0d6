"""The exit codes of `hagpolicy`, each with one meaning; a signal's is 128 and its number, as in a shell."""

DONE = 0
"""All that was asked for is done."""
PARTLY = 1
"""The command came to its end, and a part of its result is missing: cells failed, nothing agrees with --fixed,
an engine's defaults cannot say all of a config."""
BAD_INPUT = 2
"""Bad input or usage; nothing was begun."""
MISSING = 3
"""An optional package is missing."""
FAILED = 4
"""The command could not come to its end: the server, the engine, the disk or the memory gave up."""
FAULT = 5
"""A fault of hagpolicy itself."""
REJECT = 10
"""`compare`: A does not gain what was asked over B. `log experiment`: the default is better."""
INCONCLUSIVE = 11
"""`compare`: A and B cannot be told apart on these prompts. `log experiment`: nor can the arms so far. `log value`: the
log says nothing of the policy."""
UNPROVEN = 12
"""`export`: no single config is proven over what runs today; nothing was written."""

SUMMARY = """\
exit codes:
  0    done
  1    done, and a part of the result is missing: cells failed, nothing agrees with --fixed,
       an engine's defaults cannot say all of a config
  2    bad input or usage
  3    an optional package is missing (the message says how to install it)
  4    not done: the server, the engine, the disk or the memory gave up; the same command goes on from what is stored
  5    not done: a fault of hagpolicy itself (HAGPOLICY_TRACEBACK=1 shows where)
  10   compare: A does not gain what was asked over B (0: it does); log experiment: the default is better
  11   compare: these prompts do not tell; log experiment, log value: this log does not, so far
  12   export: no single config is proven over what runs today; nothing was written
  130  interrupted (129 by SIGHUP, 143 by SIGTERM); what is stored stays, and the same command goes on from there"""
"""The codes, for `--help`."""
