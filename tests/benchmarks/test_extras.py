"""Every extra that can be tried here has a use that is run."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from benchmarks.claims.predicting.extras import USES, list_extras


def test_every_extra_has_a_use() -> None:
    assert set(list_extras()) == USES.keys()
    for use in USES.values():
        compile(use.code, use.words, "exec")
