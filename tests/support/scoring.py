"""What the tests of scorers share."""

from hagpolicy import Completion, Prompt
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import get_scorer


def score(spec, text, reference=None, *, content="A question?", **completion):
    scorer = get_scorer(spec)
    (result,) = score_checked(scorer, [(Prompt(content, reference), Completion(text, **{"tokens": 5, **completion}))])
    return result


def reason(spec, reference, content="A question?"):
    return get_scorer(spec).check(Prompt(content, reference))
