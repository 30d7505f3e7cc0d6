"""Claim: `import hagpolicy` takes less than 150 ms more than `import numpy`.

    python -m benchmarks run import_time [--quick]

Fresh processes in shuffled order; the difference is paired.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record

CLAIM = Claim(
    name="import_time",
    states="import hagpolicy takes less than 150 ms more than import numpy",
    groups=("bench",),
    headline="import hagpolicy, more than numpy",
)

CODES = {
    "numpy": "import numpy",
    "hagpolicy": "import numpy, hagpolicy",
    "a config": "import numpy, hagpolicy; hagpolicy.DecodingConfig()",
}


def main() -> int:
    args = arguments(__doc__ or "")
    rows = []
    for _ in range(5 if args.quick else 40):
        row = {}
        for name in random.sample(list(CODES), len(CODES)):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", CODES[name]], check=True)
            row[name] = 1000 * (time.perf_counter() - start)
        rows.append([row["hagpolicy"] - row["numpy"], row["a config"] - row["numpy"], row["numpy"]])
    taken = np.array(rows)
    figures = [
        figure("import hagpolicy, more than numpy", *bootstrap(taken[:, 0]), unit="ms", at_most=150),
        figure("the same with a DecodingConfig made", *bootstrap(taken[:, 1]), unit="ms", at_most=150),
        figure("a Python process that imports numpy", *bootstrap(taken[:, 2]), unit="ms"),
    ]
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    raise SystemExit(main())
