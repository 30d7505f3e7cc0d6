"""`python -m hagpolicy`."""

from __future__ import annotations

import sys

from hagpolicy.cli import main

sys.exit(main())
