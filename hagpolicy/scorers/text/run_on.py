"""Where an answer ends that goes on: with the next question of the prompt's own format, or another's turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

# Whose turn it is, and what asks the next question, in the words of prompts.
_TURN = (
    r"(?:User|Human|Assistant|System|Student|Teacher|Customer|Instruction"
    r"|用户|ユーザー|사용자|Usuario|Utilisateur|Benutzer)"
)
_QUESTION = (
    r"(?:Question|Q|Problem|Exercise|Task|Puzzle|Query|Input|Passage|Context|Example|Prompt|问题|問題|题目|題目|问|質問|질문|문제"
    r"|Pregunta|Pergunta|Domanda|Frage|Aufgabe|Вопрос|Задача|السؤال|سؤال|प्रश्न|Câu hỏi|Soru|Pytanie|Vraag)"
)
_LINE = r"(?:\A|\n)[ \t>*_#\[-]{0,12}"
_NUMBER = r"(?:[ \t]?#?\d{1,4})?[*_\]]{0,3}[ \t\u00a0]?"
_TURNS = re.compile(rf"(?i){_LINE}{_TURN}{_NUMBER}[:：]")
_QUESTIONS = re.compile(rf"(?i){_LINE}{_QUESTION}{_NUMBER}(?:[:：]|(?<=\d)[.)]|(?<=\d)(?=\n))")
_HEADINGS = re.compile(
    rf"(?i)\n[ \t]{{0,9}}#{{2,6}}[ \t]{{0,9}}(?:{_TURN}|{_QUESTION}){_NUMBER}[:：]?[ \t]{{0,9}}(?:\n|\Z)"
)
_LABEL = re.compile(
    r"(?<!\S)[*_#]{0,6}[ ]?([^\W\d_][^\W\d_]{0,20}(?:[ ][^\W\d_]{1,15})?)(?:[ ]?\d{1,4})?[*_]{0,3}[ ]?[:：]"
)
# Labels of prompts under which answers stand.
_ANSWERS = frozenset(
    [
        *"abcdefgh", "answer", "answers", "the answer", "final answer", "solution", "explanation", "reasoning",
        "rationale", "thought", "thoughts", "output", "response", "result", "step", "note", "hint", "final",
        "conclusion", "therefore", "label", "options", "choices", "答案", "答", "解答", "回答", "解", "정답", "답",
        "답변", "respuesta", "réponse", "antwort", "ответ", "resposta", "risposta",
    ]
)  # fmt: skip
# A line of signs alone that parts the examples of a prompt.
_RULE = re.compile(r"(?:\A|\n)[ \t]{0,9}([#=*_~-]{3,40})[ \t]{0,9}(?=\n)")
_CUE = re.compile(r"(?:=|->|=>|→|⇒)\s*\Z")
_MOST_PROMPT, _SHORT = 20_000, 4


def cut_run_on(text: str, prompt: str, holds_answer: Callable[[str], bool]) -> str:
    """The part of a text before it goes on with another question or turn; the whole where no answer stands before it.

    Args:
        text: the answer, as the engine gave it.
        prompt: the prompt's text; labels that it repeats ("Q:", "Sentence:") begin its next example.
        holds_answer: whether a part of the text holds an answer.
    """
    prompt = prompt[-_MOST_PROMPT:]
    line = text.strip().partition("\n")[0]
    label = prompt.rstrip().rpartition("\n")[2]
    again = 0 < len(label) <= 30 and prompt.count(label) > 1 and f"\n{label}" in text.lstrip()
    if again and len(line.split()) <= _SHORT and holds_answer(line):
        return line  # "B", a blank line, another question, "Answer:": examples without a label of their own
    if (cue := _CUE.search(prompt)) and cue[0].strip() in prompt[: cue.start()] and line and holds_answer(line):
        return line  # "2+3=5", "7+1=" is answered on one line; what follows are examples of the same kind
    ends = [match.start() for match in _TURNS.finditer(text)]
    ends += [match.start() for match in _HEADINGS.finditer(text)]
    if own := _list_labels(prompt):
        ends += [match.start() for match in _LABEL.finditer(text) if match[1].casefold() in own]
    rules = set(_RULE.findall(prompt))
    ends += [match.start() for match in _RULE.finditer(text) if match[1] in rules]
    # A question that the answer only restates does not follow a blank line.
    ends += [match.start() for match in _QUESTIONS.finditer(text) if text[: match.start() + 1].endswith("\n\n")]
    for end in sorted(set(ends))[:50]:
        if end and holds_answer(text[:end]):
            return text[:end]
    return text


@lru_cache(maxsize=4096)
def _list_labels(prompt: str) -> frozenset[str]:
    """Labels ("question") that begin a prompt or stand in it twice, without those under which answers stand."""
    found = [match[1].casefold() for match in _LABEL.finditer(prompt)]
    first = _LABEL.match(prompt.lstrip())
    repeated = {label for label in found if found.count(label) > 1} if len(found) < 500 else set(found)
    return frozenset((repeated | ({first[1].casefold()} if first else set())) - _ANSWERS)
