"""`multiple_choice`: the option an answer chooses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, normalise_text
from hagpolicy.scorers.text.marks import find_boxed, find_statements

# "A) text", "(A) text", "A. text" at the start of a line of a prompt.
_OPTION_LINE = re.compile(r"^[ \t]*(?:\(([A-Za-z])\)|([A-Za-z])[).:])[ \t]+(\S.*)$", re.MULTILINE)
_SEVERAL = "several"
_MOST_STATEMENTS, _MOST_CLAUSE, _MOST_READ = 50, 300, 20_000
# \text{B} and \textbf{B} are B; Cyrillic and Greek letters that look like ours stand for them where they stand alone.
_DECORATION = re.compile(r"\\(?:(?:text|math)(?:bf|it|rm|sf|tt|normal)?|mbox|bm|boldsymbol|operatorname)\s?\{")
_LOOKALIKE = re.compile(r"(?<!\w)[АВСЕНΑΒΕΗ](?!\w)")
_LATIN = str.maketrans("АВСЕНΑΒΕΗ", "ABCEHABEH")
# "A" before a word is the article, unless that word belongs to a statement.
_ARTICLE = r"A\s+(?!or\b|and\b|is\b|was\b|because\b|since\b|as\b|seems\b|would\b|over\b|instead\b|are\b)[a-z]"
_KINDS = (
    r"(?i:options?|choice|letter|alternative|answer|statement|opción|opção|choix|réponse|antwort|вариант"
    r"|选项|選項|选择|보기)"
)
_OPEN = r"[\s*_\"'“”‘’`«»「『(\[{$\\:=>→-]{0,20}"
_FILLERS = (
    r"(?i:most likely|likely|probably|clearly|definitely|thus|therefore|indeed|obviously|the|still|actually|simply|just"
    r"|by|elimination|hence|that|it is|it's|number|correct|best|right|with|in|fact|be|would|must|la|die|der|das|lettre"
    r"|letra)"
)
_RATHER = r"\b(?:but(?: rather)?|rather|it is|it's)"
_BESIDE = r"(?:,?\s?(?:and|or|und|oder|et|ou|y|o|e)\s|[/&+和或与、]|,?\s?as well as\s)"
_RIGHT = (
    r"(?i:correct|right|best|better|true|accurate|valid|answer|only\s(?:correct|one|option|true)|most\s\w{1,20}"
    r"|my\s(?:answer|choice|final))(?![A-Za-z])"
)
_CORRECT = (
    r"\s{0,3}(?i:[^\W\d_]{1,15}\s)?(?i:is|was|would be|must be|has to be|seems|looks|appears to be)\s"
    rf"(?i:(?:therefore|thus|clearly|indeed|definitely|probably|likely|obviously|still)\s)?(?i:the\s)?{_RIGHT}"
    r"|\s(?i:it is|for sure|fits best)\b|\s?(?:가|이|은|는)?\s?(?:정답|맞)|\s?が正"
    r"|\s?(?:是|为|項|项)?\s?(?:正确|正確|对的|對的|正解)"
    r"|\s(?i:es|é|est|ist|è)\s(?i:(?:la|a|die|der|das|le|il|l['’])\s?)?(?i:\w{1,12}\s)?"
    r"(?i:correct|richtig|bonne|juste|cert|corret|giust|respuesta|réponse|antwort)"
)
_REJECTING = (
    r"(?i:\bnot|\bneither|\bnor|\bunlike|\brather than|\binstead of|\bexcept|\brul(?:e|es|ed|ing) out|\beliminat\w{1,3}"
    r"|\bexclud\w{1,3}|\bdiscard\w{0,3}|\breject\w{0,3}|\bcross out|\b(?:false|incorrect|wrong)\s?:)|不是|排除"
)
_TICK = "[✓✔✅☑]"
_WRONG = (
    r"(?i:[^\W\d_]{1,15}\s)?(?i:(?:is|are|was|were|can|do|does|would)(?:\s|(?=n['’]t))|cannot\b|can't\b)?"
    r"(?i:(?:also|simply|clearly|definitely|obviously|both|all)\s)?(?:(?i:not|n['’]t|incorrect|wrong|false|invalid"
    r"|ruled out|eliminated|excluded|too\s|irrelevant|fails?\b)|错|錯|不对|不是|不正确|틀|[❌✗✘])"
)
# Verbs of choosing, and what concludes; a letter has to follow.
_CHOOSING = re.compile(
    r"\b(?i:choose|chose|pick|select|selected|going with|go with|opt for|vote for|settle on|leaves(?: us)?(?: with)?"
    r"|must be|should be|has to be|ultimately|finally|only"
    r"|it(?:['’]s| is)(?=\s[*_(\[]{0,3}(?-i:[A-Z])\b)"
    r"|so|thus|hence|therefore|conclusion|choice|selection|verdict|guess(?: is)?"
    r"|(?:correct|right|best|final|my) (?:option|choice|one|selection|response|pick)(?:\s(?:is|would be))?"
    r"|the (?:correct|right|best)(?: of (?:these|those|them|the \w{1,9}))? (?:is|would be))[,:]?(?=\s)"
    r"|=>|→|⇒|####"
)
# Before a statement: it is not the text's own.
_DOUBT = re.compile(
    r"(?i)\b(?:if|might|may|although|though|unless|whether|why|(?:some|many|people|they|one|you|others)(?:\s\w+)?\s(?:think|say"
    r"|choose|pick|argue|believe)|tempt\w*|neither|nor|would have been|why not|common mistake)\b[^.,;:\n]{0,50}\Z"
)
_NOT_NAMED = re.compile(r"(?:\bnot|n't|\brather than|\binstead of|\bunlike)")
# Of what concludes: only a letter is its conclusion, for option texts stand in the middle of sums ("so, 18 hours").
_CONCLUDING = ("so", "thus", "hence", "therefore", "only", "finally", "must be", "should be", "has to be")
_EXPECTED = "the letter of an option, or a mapping with 'answer' and 'choices'"


@dataclass(frozen=True)
class Choices:
    """The letter of the right option, and the options' texts by letter ("" where unknown)."""

    right: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class MultipleChoice(ReferenceScorer[Choices]):
    r"""1 where the answer chooses the right option, else 0.

    The reference is a letter ("B"), or {"answer": …, "choices": …} with the options' texts as a list
    or by letter, and as answer the letter, the option's text or its index from 0. Without choices
    the options are read from the prompt's lines ("A) …", "(A) …", "A. …"), else A to H are allowed.

    The choice is found by the first of these that applies: the last \boxed; the last statement, such as
    "the answer is B", "B is correct" or "答案是B", whatever is said of other options behind it; an answer that is
    one letter, or has one alone on its first line and on no other, or starts with one marked as an option; the
    only letter in brackets that is not rejected; the only option whose text occurs; the only letter standing
    alone. An answer that chooses nothing, or several, is wrong.
    """

    name = "multiple_choice"
    ends_at_run_on = True
    needs_reference = True
    answers_agree = True

    def read_reference(self, prompt: Prompt) -> Choices:
        """The right letter and the options."""
        reference = prompt.reference
        if isinstance(reference, Mapping):
            if "answer" not in reference:
                raise self.reject(_EXPECTED, reference)
            texts = self._read_choices(reference.get("choices"), prompt)
            answer = reference["answer"]
        else:
            texts, answer = self._read_choices(None, prompt), reference
        letters = sorted(texts)
        if is_whole(answer, 0, len(letters) - 1):
            return Choices(letters[answer], texts)
        if isinstance(answer, str):
            letter = re.sub(r"[\s().:*]", "", answer).upper()
            if letter in texts:
                return Choices(letter, texts)
            same = [key for key in letters if texts[key] and normalise_text(texts[key]) == normalise_text(answer)]
            if len(same) == 1:
                return Choices(same[0], texts)
        raise self.reject(f"{_EXPECTED}, here one of {', '.join(letters)}", reference)

    def holds_answer(self, text: str, wanted: Choices) -> bool:
        """True where the text chooses an option."""
        return extract_choice(text, wanted.texts) is not None

    def score_text(self, text: str, wanted: Choices) -> Score:
        """1.0 or 0.0, with the letter chosen."""
        chosen = extract_choice(text, wanted.texts)
        return Score(float(chosen == wanted.right), None, chosen)

    def _read_choices(self, choices: Any, prompt: Prompt) -> dict[str, str]:
        if isinstance(choices, Mapping) and choices:
            texts = {str(letter).strip().upper(): str(text) for letter, text in choices.items()}
            if all(len(letter) == 1 and letter in ascii_uppercase for letter in texts):
                return texts
        elif isinstance(choices, (list, tuple)) and 0 < len(choices) <= 26:
            return {letter: str(text) for letter, text in zip(ascii_uppercase, choices, strict=False)}
        elif choices is None:
            found = {(a or b).upper(): text.strip() for a, b, text in _OPTION_LINE.findall(prompt.text)}
            # Anything but A, B, C … without a gap is some other list.
            if len(found) >= 2 and sorted(found) == list(ascii_uppercase[: len(found)]):
                return found
            return dict.fromkeys("ABCDEFGH", "")
        raise self.reject("choices as a list of up to 26 texts, or as a mapping of letters to texts", choices)


def extract_choice(text: str, texts: Mapping[str, str]) -> str | None:
    """The letter that `text` chooses among the options, or None where it chooses none or several.

    Args:
        text: the answer.
        texts: the options' texts by upper-case letter; "" where unknown.
    """
    if len(text) > 2 * _MOST_READ:  # it went astray: what it says stands at an end
        text = f"{text[:_MOST_READ]}\n{text[-_MOST_READ:]}"
    text = _DECORATION.sub("{", unicodedata.normalize("NFKC", text))
    text = _LOOKALIKE.sub(lambda found: found[0].translate(_LATIN), text)
    signs = _compile_signs("".join(sorted(texts)))
    options = {key: normalise_text(value) for key, value in texts.items() if normalise_text(value)}
    for box in reversed(find_boxed(text)):
        if chosen := _read_clause(f" {box}", signs, options):
            return None if chosen == _SEVERAL else chosen
    if stated := _read_statements(text, signs, options):
        return None if stated == _SEVERAL else stated
    rejected = {letter for groups in signs.rejected.findall(text) for letter in signs.letter.findall("".join(groups))}
    if (opening := _read_opening(text, signs)) and opening not in rejected:
        return opening
    # Later rules look for the only candidate, so that an answer that goes through all options chooses none.
    bracketed = {str(found).upper() for found in signs.bracketed.findall(text)} - rejected
    if len(bracketed) == 1:
        return bracketed.pop()
    named = _find_named(normalise_text(text), options) - rejected
    if len(named) == 1:
        return named.pop()
    alone = {str(found) for found in signs.alone.findall(text)} - rejected - {"I"}
    if len(alone) == 1 and not named:
        return alone.pop()
    left = set(texts) - rejected
    return left.pop() if len(left) == 1 < len(rejected) and not alone and not named else None


def _read_statements(text: str, signs: _Signs, options: Mapping[str, str]) -> str | None:
    """The letter that the last statement gives ("the answer is B", "B is correct"), `_SEVERAL`, or None."""
    ends = {end: end for end in find_statements(text)} | {
        match.end(): match.start() for match in list(_CHOOSING.finditer(text))[-_MOST_STATEMENTS:]
    }
    found: list[tuple[int, str]] = []
    for end, start in ends.items():
        letter_only = text[start:end].strip(" ,:").lower() in _CONCLUDING
        chosen = _read_clause(text[end : end + _MOST_CLAUSE], signs, {} if letter_only else options)
        if chosen and not _DOUBT.search(text[max(start - 60, 0) : start]):
            found.append((end, chosen))
    for match in list(signs.correct.finditer(text))[-_MOST_STATEMENTS:]:
        if not _DOUBT.search(text[max(match.start() - 60, 0) : match.start()]):
            found.append((match.start(), next(group for group in match.groups() if group).upper()))
    if found:
        return max(found)[1]
    marked = {str(next(filter(None, match.groups()))).upper() for match in signs.marked.finditer(text)}
    return marked.pop() if len(marked) == 1 else None


def _read_clause(clause: str, signs: _Signs, options: Mapping[str, str]) -> str | None:
    """The letter with which a clause begins, else the one option whose text it has; `_SEVERAL` for more."""
    if negated := signs.negated.match(clause):
        return str(negated[1]).upper() if negated[1] else None
    if match := signs.stated.match(clause):
        letter = next(group for group in match.groups() if group).upper()
        return letter if not signs.more.match(clause, match.end()) else _SEVERAL
    sentence = re.split(r"[.!?。！？](?:\s|\Z)|\n", clause.lstrip(' \t\n*_:"'), maxsplit=1)[0]
    named = _find_named(normalise_text(sentence), options)
    return named.pop() if len(named) == 1 else None


def _read_opening(text: str, signs: _Signs) -> str | None:
    """The letter that the text consists of or begins with; None where it goes on through other options."""
    if whole := signs.whole.fullmatch(text):
        return str(whole[1]).upper()
    # "B", and below it what is wrong with the others; an answer with several such lines has not chosen.
    lines = signs.line.findall(text)
    if len(lines) == 1 and re.match(rf"[\s*_]*{lines[0]}[ \t*_]*\n", text):
        return str(lines[0]).upper()
    opening = signs.opening.match(text)
    if not opening:
        return None
    first = next(group for group in opening.groups() if group).upper()
    listed = [found.upper() for found in signs.listed.findall(text)]
    # A list of all options goes on with the next letter.
    goes_on = len(set(listed)) > 1 and ord(listed[1]) == ord(first) + 1
    return None if goes_on and listed[0] == first else first


@dataclass(frozen=True)
class _Signs:
    """What the letters of some options look like where an answer means them.

    Attributes:
        letter: one that stands alone.
        stated: at the beginning of a clause that follows "the answer is".
        negated: "not A but B" there.
        more: another letter beside it ("B and C").
        correct: "B is correct".
        marked: on a line that calls it correct.
        rejected: "A is wrong", "rule out A and D": what has the letters is its first group that matches.
        whole, line, opening, listed: the whole text, a whole line, the beginning, the beginning of any line.
        bracketed, alone: in brackets; between other words.
    """

    letter: re.Pattern[str]
    stated: re.Pattern[str]
    negated: re.Pattern[str]
    more: re.Pattern[str]
    correct: re.Pattern[str]
    marked: re.Pattern[str]
    rejected: re.Pattern[str]
    whole: re.Pattern[str]
    line: re.Pattern[str]
    opening: re.Pattern[str]
    listed: re.Pattern[str]
    bracketed: re.Pattern[str]
    alone: re.Pattern[str]


@lru_cache(maxsize=64)
def _compile_signs(letters: str) -> _Signs:
    """The patterns for the letters of some options, upper-case and sorted."""
    either = f"[{letters}{letters.lower()}]"
    # Words of scripts without spaces touch a letter; letters and digits of ours do not.
    before, after = r"(?<![A-Za-z0-9À-ɏ'’])", r"(?![A-Za-z0-9À-ɏ'’]|-\w)"
    alone = rf"{before}(?<!\w-)[{letters}]{after}"
    name = rf"[*_(\[\"'“「]{{0,4}}{alone}[*_)\]\"'”」]{{0,4}}"
    names = rf"{name}(?:\s?(?:,|/|&|and|or|nor|、|和|或)\s?(?:(?:and|or)\s)?{name}){{0,8}}"
    # A lower-case letter counts only where it cannot be a word: "the answer is a guess".
    said = rf"(?:(?!{_ARTICLE})([{letters}]){after}|({either})(?=[)\]}}*.\"'`]|\s*$))"
    lead = rf"{_OPEN}(?:(?:{_FILLERS}|{_KINDS})[\s*_\"'“(\[{{$:#-]{{1,9}}){{0,4}}(?:{_KINDS}[*_(\[]{{0,3}})?"
    return _Signs(
        letter=re.compile(alone),
        stated=re.compile(lead + said),
        negated=re.compile(
            rf"{lead}(?i:not|neither)\b(?:[^.\n]{{0,60}}?{_RATHER}\s+(?:{_KINDS}\s+)?[*(\[]{{0,3}}({alone}))?"
        ),
        more=re.compile(
            rf"[*_)\]}}\"'.]{{0,4}}\s{{0,3}}(?:{_BESIDE}\s{{0,3}}(?:{_KINDS}\s)?[*_(\[\"']{{0,3}}(?!{_ARTICLE})[{letters}]{after}"
            rf"(?!\s(?:is|are|was)\b)|,\s?[*_(\[]{{0,3}}[{letters}][*_)\]]{{0,3}}(?=\s{{0,3}}(?:[.,\n]|and\b|\Z)))"
        ),
        correct=re.compile(rf"[*_(\[\"'“「]{{0,4}}({alone})[*_)\]\"'”」]{{0,4}}(?:{_CORRECT})"),
        marked=re.compile(
            rf"(?m)^[ \t*_(\[>-]{{0,9}}({alone})[*_)\].:][^\n❌✗✘]{{0,200}}?(?<![A-Za-z])(?<!not )(?<!not the )"
            rf"(?:(?i:correct|right|true)(?![A-Za-z])|{_TICK})"
            rf"|^[ \t*_(\[>-]{{0,9}}{_TICK}[ \t*_(\[]{{0,5}}({alone})|({alone})[*_)\]]{{0,4}}[ \t]{{0,3}}{_TICK}"
        ),
        rejected=re.compile(
            rf"(?i:neither|nor)\s{{0,3}}(?:{_KINDS}\s)?({names})|(?:{_REJECTING})\s{{0,3}}(?:{_KINDS}s?\s)?({names})(?!\s{{0,3}}(?:is|are)\s{{0,3}}(?:correct|right))"
            rf"|({names})\s{{0,3}}(?:(?i:both|all)\s)?{_WRONG}"
        ),
        whole=re.compile(rf"[\W_]*(?:{_KINDS}\s*[:.]?\s*[*_(]{{0,3}})?({either})[\W_]*"),
        line=re.compile(rf"(?m)^[ \t*_]{{0,20}}({either})[ \t*_]{{0,20}}$"),
        opening=re.compile(
            rf"[\s*_(\[\"'「]*(?:{_KINDS}\s+)?(?:({either})[)\].:,*\"'」]"
            rf"|([{letters}])(?:\s(?i:because|since|as|for|due)\b|\s?[-–—(;]|[^\x00-\u024f]))"
        ),
        listed=re.compile(rf"(?m)^[\s*_(\[-]{{0,20}}({either})[)\].:*]"),
        bracketed=re.compile(rf"(?<!not )[(\[]({either})[)\]]"),
        alone=re.compile(rf"(?<!not )(?!(?<!\w){_ARTICLE}){alone}"),
    )


def _find_named(text: str, options: Mapping[str, str]) -> set[str]:
    """Letters of the options whose words occur in the text and are not rejected there ("not iron"), longest first:
    "iron" within "iron oxide" is not named."""
    named = set()
    either = f"(?:the |an? )?(?:{'|'.join(re.escape(value.rstrip('.')) for value in options.values())})(?!\\w)"
    if options and _NOT_NAMED.search(text):
        text = re.sub(rf"{_NOT_NAMED.pattern} {either}(?:(?:,|,? (?:or|nor|and)) {either}){{0,9}}", " ", text)
    for key in sorted(options, key=lambda key: -len(options[key])):
        pattern = rf"(?<!\w){re.escape(options[key].rstrip('.'))}(?!\w)"
        if re.search(pattern, text):
            named.add(key)
            text = re.sub(pattern, " ", text)
    return named
