r"""Where a text marks its answer: in \boxed{}, and behind words such as "the answer is"."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s{0,9}(?:(\{)|([^\s{}$.,]{1,20}))")
_MOST_BOXES, _MOST_IN_BOX = 20, 2000
_WORDS = r"(?:\s{1,9}\w{1,20}){0,2}?\s{0,9}"
# "The answer is", "Answer:", and the same in other languages. Runs are bounded: a text that went astray may hold
# thousands of one sign.
_STATEMENTS = [
    r"\b(?:answers?|ans)\b[*_\"'`.]{0,3}\s{0,9}[:：=]",
    r"\banswers?\b(?:[^\S\n]{1,9}[^\s.:!?,;=]{1,30}){0,12}?\s{1,9}(?:is|are|was|be|equals)(?![a-z'’])(?:\s{0,9}[:：])?",
    r"\banswers?\b[*_]{1,3}\s{1,9}(?=[\d(\"'*])",
    r"(?:^|\n)[#*_ \t]{0,9}(?:final |correct |right )?answer[*_ \t]{0,5}\n",
    r"(?:正确|最终|最終)?答案(?:应该|應該|应|為)?\s{0,3}(?:是|为|為|选|選|[:：])",
    r"(?:^|(?<=[\s。，,.故应應]))(?:因此|所以)?(?:选|選)(?:择|擇)?[:：]?|(?<![不可])(?:选|選)(?:择|擇)?(?=[A-Za-z])",
    r"(?:^|\n)\s{0,9}(?:答|解答|回答)\s{0,3}[:：]",
    r"(?:答え|正解)\s{0,3}[はが:：]",
    r"(?:정답|답)(?:은|는|이)?(?=[\s:：*(]|[A-Za-z0-9])[:：]?",
    rf"\brespuesta\b{_WORDS}(?:es\b|:)",
    rf"\bréponse\b{_WORDS}(?:est\b|:)",
    rf"\bantwort\b{_WORDS}(?:ist\b|lautet\b|:)",
    rf"\bresposta\b{_WORDS}(?:é(?!\w)|:)",
    rf"\brisposta\b{_WORDS}(?:è(?!\w)|:)",
    rf"\bantwoord\b{_WORDS}(?:is\b|:)",
    r"\bответ\b(?:\s{0,9}[:—–-])?|\bвариант\s?(?:ответа\s?)?[:—–-]",
    rf"\b(?:opção|alternativa|opción|letra)\b{_WORDS}(?:é|es)(?!\w)(?:\s(?:a|la)(?=\s))?",
    r"\b(?:cevap|odpowiedź|svaret|svar)\b\s{0,9}(?::|är\b|er\b|to\b)?",
    r"الإجابة(?:\s\w{1,12})?\s?(?:هي|:)|الجواب",
    r"उत्तर(?:\s?है|:)?",
    r"đáp án(?:\s\w{1,9})?\s?(?:là|:)",
    r"คำตอบ(?:คือ)?",
]
_STATEMENT = re.compile("(?i)" + "|".join(_STATEMENTS))


def find_boxed(text: str) -> list[str]:
    r"""The contents of the \boxed{} of a text, in their order; of very many the last ones. One that a text cut short
    leaves open goes to its end."""
    found = []
    for box in list(_BOX.finditer(text))[-_MOST_BOXES:] if "\\" in text else ():
        if box[2]:
            found.append(box[2])
            continue
        depth = 1
        for at, sign in enumerate(text[box.end() : box.end() + _MOST_IN_BOX]):
            depth += (sign == "{") - (sign == "}")
            if not depth:
                found.append(text[box.end() : box.end() + at])
                break
        else:
            found.append(text[box.end() : box.end() + _MOST_IN_BOX])
    return found


def find_statements(text: str) -> list[int]:
    """Where what a text states begins, behind "the answer is", "Answer:", "答案是" and such words; the last 50."""
    return [match.end() for match in _STATEMENT.finditer(text)][-50:]
