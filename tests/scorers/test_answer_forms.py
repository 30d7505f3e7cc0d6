"""Every form of the table of answers is scored right, or marked as one that cannot be scored."""

from __future__ import annotations

import math
from collections import Counter

from tests.support.answer_forms import FORMS
from tests.support.scoring import score


def test_every_form_is_right_or_marked_unscorable():
    wrong = []
    for form in FORMS:
        found = score(form.scorer, form.text, form.reference, content=form.prompt)
        if not math.isnan(found.value) and not math.isclose(found.value, form.value):
            wrong.append((form, found))
    assert not wrong


def test_the_table_has_no_form_twice_and_wrong_answers_too():
    assert len({(form.scorer, form.text, str(form.reference), form.prompt) for form in FORMS}) == len(FORMS)
    values = Counter((form.scorer, form.value > 0) for form in FORMS)
    assert all(values[form.scorer, False] for form in FORMS)
