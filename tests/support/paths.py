"""Where the tests find things: the repository, the stored fixtures, the public data beside it."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
BENCHMARKS = ROOT / "benchmarks"
DATA = Path(os.environ.get("HAGPOLICY_DATA", ROOT.parent / "shared" / "data"))
