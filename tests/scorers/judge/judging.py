"""An engine whose replies are written down, and judges on it."""

from __future__ import annotations

import re

from hagpolicy import DecodingConfig, Prompt
from hagpolicy.data.completion import Completion
from hagpolicy.engines.base import Engine
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.judge.judge import Judge

ASK = Prompt("Name a colour.")


class Scripted(Engine):
    """An engine whose replies are a function of what it is asked."""

    name = "scripted"
    unit_cells = 3

    def __init__(self, reply, model="one"):
        self.reply, self.model = reply, model
        self.asked: list[str] = []
        self.requests = []
        self.units: list[int] = []

    @property
    def fingerprint(self):
        return {"kind": "scripted", "model": self.model}

    def default_config(self):
        return DecodingConfig()

    def unsupported(self, config):
        return ["num_beams"] if config.num_beams > 1 else []

    def generate(self, unit):
        self.units.append(len(unit))
        self.requests += unit
        self.asked += [request.prompt.text for request in unit]
        said = [self.reply(request.prompt.text) for request in unit]
        return [one if isinstance(one, Completion) else Completion(one, tokens=4) for one in said]


def texts_of(asked):
    """The texts between marker lines, in their order."""
    fence = re.search(r"^===== [0-9a-f]{20} =====$", asked, re.MULTILINE)[0]
    return [part.strip("\n") for part in asked.split(f"\n{fence}\n")[1::2]]


def by_length(asked):
    """Grades the last text by its number of words."""
    return f"Fine.\nGrade: {min(10, len(texts_of(asked)[-1].split()))}"


def longer(asked):
    *_, first, second = texts_of(asked)
    words = [len(text.split()) for text in (first, second)]
    return "Verdict: " + ("A" if words[0] > words[1] else "B" if words[1] > words[0] else "tie")


def graded(reply, text="blue", **options):
    (score,) = score_checked(Judge(Scripted(lambda _: reply), **options), [(ASK, Completion(text))])
    return score


def compared(engine, answers, default="red", prompt=ASK):
    judge = Judge(engine, pairwise=True)
    bound = judge.against({prompt.digest: Completion(default)})
    return judge, bound.score([(prompt, Completion(answer)) for answer in answers])
