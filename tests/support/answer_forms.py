# ruff: noqa: E501 - one form stays on one line
"""A table of forms in which models write answers, made for this project, each with the reward it should get.

The families are named after where such forms are met; no text is copied from a data set or a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.held_out_forms import FIRST, SECOND


@dataclass(frozen=True)
class Form:
    """One answer in one form.

    Attributes:
        scorer: name of the scorer that reads it.
        family: where such forms are met.
        text: the answer.
        reference: what the scorer compares with.
        value: the reward that is right.
        prompt: the question, where the form depends on it.
    """

    scorer: str
    family: str
    text: str
    reference: Any
    value: float
    prompt: str = "A question?"


def _make(scorer: str, family: str, rows: Sequence[tuple[Any, ...]], prompt: str = "A question?") -> list[Form]:
    """Forms of one family; a row is (text, reference) where the answer is right, or (text, reference, value)."""
    return [Form(scorer, family, row[0], row[1], row[2] if len(row) > 2 else 1.0, prompt) for row in rows]


FEW_SHOT = (
    "Question: A pen costs 2 dollars. What do 3 pens cost?\nAnswer: 3 * 2 = 6\n#### 6\n\n"
    "Question: Ann has 20 eggs and sells 2. How many are left?\nAnswer:"
)
Q_AND_A = "Q: What is 2 + 2?\nA: 4\n\nQ: What is 9 + 9?\nA:"

NUMERIC = [
    *_make(
        "numeric_match",
        "GSM8K-style answers",
        [
            ("20 - 2 = 18\n#### 18", 18),
            ("She sells 2 of 20.\n#### 18.", 18),
            ("#### $1,200", 1200),
            ("#### 18 eggs", 18),
            ("####18", 18),
            ("#### -3", -3),
            ("#### **18**", 18),
            ("#### \\$18", 18),
            ("20-2=<<20-2=18>>18 eggs are left.\n#### 18", 18),
            ("The answer is 18.", 18),
            ("So the answer is 18 eggs, because 20 - 2 leaves that.", 18),
            ("The final answer is 18. I subtracted 2 from 20.", 18),
            ("The answer is 18, which is 2 fewer than 20.", 18),
            ("Answer: 18\nConfidence: 95%", 18),
            ("**Answer:** 18", 18),
            ("**Final Answer**: **18** eggs", 18),
            ("The answer is $18 per day for 3 days.", 18),
            ("The answer is 20 - 2 = 18.", 18),
            ("The answer is 17. Wait, 20 - 2 is 18.", 18),
            ("The answer is 17. Hmm, let me recount. The answer is 18.", 18),
            ("18\n\nExplanation: 20 - 2 are left.", 18),
            ("Ann has **18** eggs left of the 20.", 18),
            ("18 eggs (20 before, 2 sold)", 18),
            ("So x = 18.\n\nCheck: 18 + 2 = 20", 18),
            ("The answer is not 20 but 18.", 18),
            ("It is 18, not 20.", 18),
            ("Step 1: 20 eggs.\nStep 2: sell 2.\nStep 3: 18 remain.", 18),
            ("20 - 2 = 18\n#### 18", 20, 0),
            ("The answer is 17.", 18, 0),
            ("I cannot tell.", 18, 0),
            ("", 18, 0),
        ],
    ),
    *_make(
        "numeric_match",
        "MATH LaTeX",
        [
            (r"\boxed{10,\!000}", 10000),
            (r"$10{,}000$", 10000),
            (r"\(10\,000\)", 10000),
            (r"$10\ 000$", 10000),
            (r"$\frac12$", 0.5),
            (r"\boxed{\frac12}", 0.5),
            (r"$\frac{3}{-4}$", -0.75),
            (r"$-\frac{3}{-4}$", 0.75),
            (r"$\dfrac{3}{4}$", 0.75),
            (r"$\tfrac 34$", 0.75),
            (r"$\cfrac{3}{4}$", 0.75),
            (r"$\frac{3}4$", 0.75),
            (r"$\frac3{40}$", 0.075),
            (r"$\frac{1.5}{2}$", 0.75),
            (r"$\frac{ -3 }{ 4 }$", -0.75),
            (r"$1\frac{1}{2}$", 1.5),
            (r"$1 \frac12$", 1.5),
            (r"${3 \over 4}$", 0.75),
            (r"\boxed{\text{18}}", 18),
            (r"\boxed{\mathbf{18}}", 18),
            (r"\boxed{18\text{ eggs}}", 18),
            (r"\boxed{18 \, \text{cm}^2}", 18),
            (r"\boxed{18\text{ m}^{2}}", 18),
            (r"\boxed{18\%}", 18),
            (r"\boxed{\$18}", 18),
            (r"\boxed{18^\circ}", 18),
            (r"\boxed{18^{\circ}\text{C}}", 18),
            (r"\boxed{x = 18}", 18),
            (r"\boxed{{18}}", 18),
            (r"\boxed{\dfrac{\text{9}}{2}}", 4.5),
            (r"\fbox{18}", 18),
            (r"\boxed 18", 18),
            (r"$\boxed{18}$, since $2^{2} = 4$.", 18),
            (r"First \boxed{7}. No: \boxed{18}", 18),
            ("\\[\n\\boxed{18}\n\\]\nThis took 3 steps.", 18),
            (r"$$x = 18$$", 18),
            (r"\(x = -18\)", -18),
            (r"$3 \times 10^{4}$", 30000),
            (r"$3 \cdot 10^4$", 30000),
            (r"$2^{10}$", 1024),
            (r"\boxed{2\sqrt{9}}", 6),
            (r"\boxed{\frac{\sqrt{16}}{2}}", 2),
            (r"\boxed{6\pi}", 18.84955592153876),
            (r"\boxed{\frac{\sqrt{3}}{2}}", 2, 0),
            (r"\boxed{3 + 4}", 4, 0),
            (r"\boxed{18", 18),
            (r"$x_1 = 18$", 18),
            (r"$\log_{2} 8 = 3$", 3),
            (r"The sum is $\left(18\right)$.", 18),
            (r"\boxed{17}", 18, 0),
        ],
    ),
    *_make(
        "numeric_match",
        "units, powers and currencies",
        [
            ("5 m^2", 5),
            ("5 cm²", 5),
            ("The area is 5 m^{2}.", 5),
            ("5 m/s^2", 5),
            ("5 kg·m^-3", 5),
            ("42kg", 42),
            ("42 °C", 42),
            ("42%", 42),
            ("42 percent", 42),
            ("$42", 42),
            ("US$42", 42),
            ("42 €", 42),
            ("€42,50", 42.5),
            ("42 USD", 42),
            ("USD 42", 42),
            ("USD42", 42),
            ("Rs. 500", 500),
            ("₹1,00,000", 100000),
            ("£1,250.75", 1250.75),
            ("¥3000", 3000),
            ("3 x 10^4", 30000),
            ("3 × 10⁴ m", 30000),
            ("3*10^4", 30000),
            ("3e4", 30000),
            ("3.0E+04", 30000),
            ("5e", 5),
            ("3 million", 3000000),
            ("$3.5 billion", 3.5e9),
            ("3 million", 3),
            ("42 CO2 molecules", 42),
            ("42nd", 42),
            ("approximately 42", 42),
            ("~42", 42),
            ("42 m^2", 2, 0),
            ("x^2", 2, 0),
        ],
    ),
    *_make(
        "numeric_match",
        "separators and signs",
        [
            ("1,234,567", 1234567),
            ("1 234 567", 1234567),
            ("10 000", 10000),
            ("1\u2009234", 1234),
            ("1\u00a0234,50", 1234.5),
            ("1'234'567", 1234567),
            ("1’234", 1234),
            ("1_000", 1000),
            ("1.234.567", 1234567),
            ("1.234,56", 1234.56),
            ("3,14", 3.14),
            ("0,75", 0.75),
            ("0,125", 0.125),
            ("12,34,567", 1234567),
            ("−7", -7),
            ("–7", -7),
            ("－７", -7),
            ("minus 7", -7),
            ("The answer is negative 7.", -7),
            ("x = -7", -7),
            ("(-7)", -7),
            ("-1/2", -0.5),
            ("−½", -0.5),
            ("1 1/2", 1.5),
            ("2¾", 2.75),
            ("7.", 7),
            ("+7", 7),
            ("1,234", 1.234, 0),
            ("1, 2, 3", 3),
            ("007", 7),
        ],
    ),
    *_make(
        "numeric_match",
        "few-shot continuation",
        [
            (" 18\n\nQuestion: Bob has 5 hats. How many?\nAnswer: 5", 18),
            (" 20 - 2 = 18\n#### 18\n\nQuestion: Bob has 5 hats.\nAnswer: 5\n#### 5", 18),
            (" 18\nQuestion: Next, 7?\nAnswer: 7", 18),
            (" 18\n\nQ: And 7?\nA: 7", 18),
            (" 18\n\nProblem: What is 7?", 18),
            (" 18\nUser: and 7?", 18),
            (" 18\n\nHuman: thanks, and 7?\n\nAssistant: 7", 18),
            (" 18\n\n### Question\nWhat is 7?", 18),
            (" 18<|im_end|>\n<|im_start|>user\n7?", 18),
            (" 18</s> 7", 18),
            (" 18<|eot_id|><|start_header_id|>user<|end_header_id|>7", 18),
            (" 18<|endoftext|>7 dwarfs", 18),
            (" 18<end_of_turn>\n7", 18),
            ("Question: Ann has 20 eggs and sells 2.\nAnswer: 18", 18),
        ],
        FEW_SHOT,
    ),
    *_make("numeric_match", "few-shot continuation", [(" 18\n\nQ: What is 1 + 1?\nA: 2", 18), ("18\nQ:", 18)], Q_AND_A),
    *_make("numeric_match", "few-shot continuation", [(" 8\n4+4=8\n3+6=9", 8), (" 8", 8)], "2+3=5\n4+1=5\n7+1="),
    *_make(
        "numeric_match",
        "few-shot continuation",
        [(" 18\nSentence: three\nNumber: 3", 18)],
        "Sentence: two\nNumber: 2\nSentence: eighteen\nNumber:",
    ),
    *_make(
        "numeric_match",
        "other languages",
        [
            ("答案是42。", 42),
            ("答案：42", 42),
            ("所以答案是-42个。", -42),
            ("答案是４２。", 42),
            ("共有１，０００个", 1000),
            ("정답은 42입니다.", 42),
            ("答えは42です。", 42),
            ("La respuesta es 42.", 42),
            ("La réponse est 1\u202f234,5.", 1234.5),
            ("Die Antwort ist 3,5.", 3.5),
            ("Ответ: 42", 42),
            ("الإجابة هي ٤٢", 42),
            ("उत्तर ४२ है", 42),
            ("คำตอบคือ ๔๒", 42),
            ("A resposta é 42, porque 6 × 7.", 42),
            ("3万", 30000),
        ],
    ),
    *_make(
        "numeric_match",
        "reasoning tags",
        [
            ("<think>20 - 2 = 17?</think>18", 18),
            ("Maybe 17.\n</think>\n\nThe answer is **18**.", 18),
            ("<think>It is 18", 18, 0),
            ("◁think▷17◁/think▷18", 18),
            ("[THINK]17[/THINK]\\boxed{18}", 18),
            ("<reasoning>17</reasoning>\n<answer>18</answer>", 18),
            ("<|channel|>analysis<|message|>17<|end|><|start|>assistant<|channel|>final<|message|>18", 18),
            ("<think>17</think>\n<answer>18</answer> in 3 steps", 18),
        ],
    ),
]

METALS = {"answer": "B", "choices": ["iron", "gold", "tin", "iron oxide"]}
MMLU = (
    "The following are multiple choice questions (with answers).\n\nWhich one floats?\nA. iron\nB. cork\nC. lead\nD. gold\n"
    "Answer: B\n\nWhich one is a gas?\nA. iron\nB. helium\nC. lead\nD. gold\nAnswer:"
)


def _choose(family: str, texts: Sequence[str], letter: str = "B", wrong: str = "C") -> list[Form]:
    """Forms that choose one letter, each with the right reference; every fourth one with another letter too."""
    rows: list[tuple[Any, ...]] = [(text, {**METALS, "answer": letter}) for text in texts]
    rows += [(text, {**METALS, "answer": wrong}, 0.0) for text in texts[::4]]
    return _make("multiple_choice", family, rows)


CHOICES = [
    *_choose(
        "letters as models state them",
        [
            "B", "b", "(B)", "[B]", "B)", "B.", "B:", "**B**", "*B*", "__B__", "`B`", '"B"', "B\n", "Option B", "option (b)", "Choice B",
            "B) gold", "B. gold", "(B) gold", "B: gold", "B - gold", "B – gold", "**B) gold**", "**B.** gold", "B (gold)",
            "The answer is B", "The answer is B.", "The answer is (B).", "The answer is **B**.", "The answer is option B.",
            "The answer is: B", "The correct answer is B) gold.", "The correct option is B.", "The best answer is B.",
            "Answer: B", "Answer: B. gold", "Answer:B", "ANSWER: B", "Ans: B", "**Answer:** B", "**Answer**: (B)", "Final answer: B",
            "### Answer\nB", "Correct answer: b)", "My choice is B.", "I choose B.", "I would go with B.", "I'd say B.",
            "So B is correct.", "B is correct.", "Option B is the right answer.", "(B) is the best choice.", "B would be correct.",
            "Therefore, the answer is B", "Thus, B.", "#### B", '{"answer": "B"}', "<answer>B</answer>", "It must be B.",
            "\\boxed{B}", "$\\boxed{\\text{B}}$", "\\boxed{\\textbf{(B)}}", "\\boxed{B. gold}", "\\boxed{\\mathrm{(B)}\\ gold}",
            "The answer is $\\textbf{(B)}$.", "It is gold.", "The answer is gold.", "gold", "Gold!", "\\boxed{gold}",
            "The answer is most likely B.", "The letter is B", "Answer: the letter B",
        ],
    ),
    *_choose(
        "other letters rejected afterwards",
        [
            "B, because A is wrong and C does not shine.", "B. A is wrong, and C and D are compounds.", "The answer is B, not A.",
            "The answer is B. Option A is incorrect because iron rusts; C is a soft metal; D is an oxide.",
            "B\n\nA: rusts.\nC: soft.\nD: no metal.", "B. gold\n\nExplanation:\nA. iron rusts.\nC. tin is cheap.\nD. an oxide.",
            "The answer is B rather than A or C.", "It is not A but B.", "The answer is not A but B.", "not A, so B",
            "A is incorrect. C is incorrect. D is incorrect. So the answer is B.", "A is wrong, hence B.",
            "Unlike A, B is correct.", "I first thought A. The answer is B.", "Some might say A is correct, but B is correct.",
            "I would rule out A, C and D.", "A, C and D are wrong.", "Neither A nor C nor D is right.", "B, since A, C and D rust.",
            "A) iron: incorrect.\nB) gold: correct.\nC) tin: incorrect.\nD) iron oxide: incorrect.",
            "The answer is A. Wait, no. The answer is B.", "It cannot be A. It must be B.", "Eliminating A and C leaves B.",
            "The answer is B because A is a compound.", "B is correct while A is not.", "Not C. B.",
        ],
    ),
    *_choose(
        "letters in other scripts",
        [
            "答案是B。", "答案：B", "答案：（B）", "正确答案是B，因为A会生锈。", "选B", "应选B。", "故选B。", "B是正确的。", "选项B正确。", "答案为Ｂ。", "Ｂ", "（Ｂ）", "Ｂ．",
            "答案選B", "答えはBです。", "答えはＢ。", "正解はB", "Bが正解です。", "정답은 B입니다.", "정답: B", "답은 B", "B가 정답입니다.", "정답은 (B)입니다",
            "La respuesta es B.", "La respuesta correcta es la B.", "La réponse est B.", "Réponse : B", "Die Antwort ist B.",
            "Antwort: B", "Ответ: B", "Ответ: В", "Правильный ответ — B.", "A resposta é B.", "La risposta è B.", "الإجابة هي B", "उत्तर B है",
            "Đáp án là B.", "Cevap: B", "คำตอบคือ B", "Ⓑ", "B es correcta.", "B ist richtig.",
        ],
    ),
    *_choose(
        "articles, pronouns and other words",
        ["I think B.", "I am sure: B", "A good question. B", "A metal that shines is gold.", "As a rule, B", "I'd pick B", "A quick check gives B."],
    ),
    *_make(
        "multiple_choice",
        "no choice, or several",
        [
            (text, METALS, 0.0)
            for text in (
                "A and B", "B or C", "A, B", "Both A and B are correct.", "The answer is A or B.", "The answer is A and B.", "(A) or (B)",
                "A) iron\nB) gold\nC) tin\nD) iron oxide", "I cannot tell.", "", "The answer is a guess.", "none of them", "The answer is E.",
                "<think>The answer is B", "A dog is a good pet.", "The answer is not B.", "iron or gold",
            )
        ],
    ),
    *_make("multiple_choice", "articles, pronouns and other words", [("A", {**METALS, "answer": "A"}), ("The answer is A.", {**METALS, "answer": "A"}), ("A is correct.", {**METALS, "answer": "A"}), ("A, because gold does not rust.", {**METALS, "answer": "A"})]),
    *_make(
        "multiple_choice",
        "MMLU few-shot continuation",
        [
            (" B\n\nWhich one is a metal?\nA. air\nB. tin\nC. wood\nD. tea\nAnswer: C", "B"),
            (" B\n\nQuestion: Which one is red?\nAnswer: C", "B"),
            (" B. helium\n\nQ: next\nA: C", "B"),
            (" B<|im_end|>\n<|im_start|>user\nC?", "B"),
            (" B</s>C", "B"),
            (" B\nUser: Why not C?", "B"),
            (" C", "B", 0),
        ],
        MMLU,
    ),
    *_make(
        "multiple_choice",
        "reasoning tags",
        [
            ("<think>A? C?</think>B", METALS), ("maybe A</think>The answer is B", METALS), ("[THINK]A[/THINK]**B**", METALS),
            ("<think>B</think>", METALS, 0), ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B", METALS),
        ],
    ),
]  # fmt: skip

TEXTS = [
    *_make(
        "exact_match",
        "quotes and stops of any script",
        [
            (text, "Paris")
            for text in ("Paris", "paris.", "«Paris»", "„Paris“", "「Paris」", "『Paris』", "‹Paris›", "“Paris”.", "‘Paris’", "Paris。", "Paris．", "Paris！", "Paris؟", "Paris…", "Paris।", "（Paris）", "《Paris》", "【Paris】", "**Paris**", "`Paris`", "Paris،", "\ufeffParis", "¡Paris!", "Paris<|im_end|>", "<think>Rome</think>Paris", "Paris\n\nQuestion: Next?\nAnswer: Rome")
        ]
        + [("東京。", "東京"), ("「東京」", "東京"), ("서울입니다", "서울", 0), ("Москва.", "москва"), ("cafe\u0301", "café"), ("5%", "5%"), ("5", "5%", 0), ("C#", "C#"), ("C", "C#", 0), (".NET", ".NET"), ("-5", "-5"), ("5", "-5", 0), ("don’t", "don't"), ("Rome", "Paris", 0), ("<think>Paris", "Paris", 0), ("İstanbul", "İstanbul")],
    ),
    *_make(
        "contains_all",
        "words of any script",
        [
            ("我喜欢东京的夏天。", ["东京"]), ("東京都に行きました", ["東京", "行き"]), ("서울은 크다", ["서울"]), ("ฉันรักกรุงเทพมาก", ["กรุงเทพ"]), ("我喜欢北京", ["东京"], 0),
            ("I write C++ and C#.", ["C++", "C#"]), ("I write C.", ["C++"], 0), ("I write C++.", ["C"], 0), ("It runs on .NET.", [".NET"]), ("node.js is fine", ["node.js"]),
            ("It is -5 degrees", [-5]), ("It is 5 degrees", [-5], 0), ("It is -5 degrees", [5], 0), ("pi is 3.14", [3.14]), ("pi is 3.14", [3], 0), ("1,000 men", [1000]), ("I don’t know", ["don't"]),
            ("cafe\u0301 au lait", ["café"]), ("a well-known dog", ["well known"]), ("naïve", ["naive"], 0), ("<think>dog</think>cat", ["dog"], 0), ("हिन्दी की किताब", ["की"]), ("हिन्दी का", ["की"], 0), ("Ｃａｔｓ", ["cat"]), ("dog<|eot_id|>cat", ["cat"], 0),
        ],
    ),
    *_make(
        "distinct_items",
        "lists as models write them",
        [("", 2, 0), ("<think>- apple\n- pear", 2, 0)]
        + [
            (text, 2)
            for text in ("- apple\n- pear", "* apple\n* pear", "• apple\n• pear", "– apple\n– pear", "1. apple\n2. pear", "1) apple\n2) pear", "(1) apple\n(2) pear", "a. apple\nb. pear", "a) apple\nb) pear", "１．apple\n２．pear", "① apple\n② pear", "1、apple\n2、pear", "- [ ] apple\n- [x] pear", "☐ apple\n☑ pear", "**1. apple**\n**2. pear**", "1. **apple**: red\n2. **pear**: green", "1.Apple\n2.Pear", "apple, pear,", "apple; pear;", "Apple\nPear", "| fruit | colour |\n|---|---|\n| apple | red |\n| pear | green |", "```\n- apple\n- pear\n```", "1、苹果\n2、梨", "苹果，梨，", "<think>- plum\n- fig</think>- apple\n- pear", "▪ apple\n▪ pear", "- apple\n- pear<|im_end|>\n- plum")
        ]
        + [
            (text, 4, 0.5)
            for text in ("1. apple\n   - red\n   - sweet\n2. pear\n   - green", "- apple\n  - red\n- pear\n  - green", "- apple\n\t- red\n- pear", "1. apple\n- red\n- sweet\n2. pear\n- green", "* apple\n    1. red\n    2. sweet\n* pear", "- Fruits:\n  - apple\n  - pear", "1. Fruits:\n   a) apple\n   b) pear")
        ],
    ),
    *_make(
        "json_valid",
        "JSON as models write it",
        [
            (text, ["name"])
            for text in ('{"name": 1}', '```json\n{"name": 1}\n```', '```\n{"name": 1}\n```', '```JSON\n{"name": 1}```', '~~~json\n{"name": 1}\n~~~', '\ufeff{"name": 1}', '<think>{}</think>{"name": 1}', '{"name": 1}<|im_end|>', '{"name": "<think>"}', '```json title="x"\n{"name": 1}\n```')
        ]
        + [(text, ["name"], 0) for text in ('Here: {"name": 1}', "{'name': 1}", '{"name": 1', '<think>{"name": 1}')],
    ),
    *_make("chrf", "reasoning tags", [("<think>dogs</think>The cat sat.", "The cat sat."), ("The cat sat.<|im_end|>", "The cat sat."), ("<think>The cat sat.", "The cat sat.", 0)]),
]  # fmt: skip

LATER = "tried after the readers were built"


def _numbers(rows: Sequence[tuple[Any, ...]], prompt: str = "A question?") -> list[Form]:
    return _make("numeric_match", LATER, rows, prompt)


def _choices(rows: Sequence[tuple[Any, ...]]) -> list[Form]:
    return _make("multiple_choice", LATER, [(row[0], {**METALS, "answer": row[1]}, *row[2:]) for row in rows])


TRIED = [*(
    _numbers([
 ("To solve this, we multiply.\n\n**6 × 7 = 42**",42),("## Final Answer\n\n$$\\boxed{42}$$",42),("### Final Answer:\n42 apples",42),
 ("**Final Answer:** \\(\\boxed{42}\\)",42),("\\sqrt{16}",4),("The answer is √16.",4),("The answer is $2\\sqrt{3}$.",2*3**.5),("The answer is 42!",42),("The final answer is: $\\boxed{42}$",42),("Final Answer: The final answer is $42$. I hope it is correct.",42),
 ("Therefore, John has 42 apples left. ✅",42),("= 42 (km/h)",42),("So, the total cost is $42.00.",42),("The total is $1{,}234.50$.",1234.5),
 ("42\n\n---\n\nLet me know if you have 2 more questions!",42),("It takes 42 minutes. Hope this helps!",42),("x=42, y=7\n\nThe answer is x = 42.",42),
 ("$\\frac{5}{6}$ of the cake",5/6),("\\[ x = \\frac{-1}{2} \\]",-0.5),("\\boxed{-\\dfrac{7}{2}}",-3.5),("\\boxed{\\frac{1}{3}\\text{ hour}}",1/3),
 ("\\boxed{42 \\text{ cm}^3}",42),("\\boxed{42\\,\\mathrm{kg\\,m^{-3}}}",42),("\\boxed{\\$42.50}",42.5),("\\boxed{1{,}234{,}567}",1234567),("\\boxed{12\\;345}",12345),
 ("the area is 42 cm^2 (square centimetres)",42),("speed: 42 m s^{-1}",42),("4.2 \\times 10^{-3} mol",0.0042),("4.2×10⁻³",0.0042),("4.2E-3",0.0042),
 ("42,000.00 USD",42000),("R$ 42,00",42),("42 000 €",42000),("CHF 1'200.50",1200.5),("٣٫٥",3.5),("१२३",123),("约42个",42),("合計で42円です",42),("총 42개입니다.",42),
 ("La respuesta final es $\\boxed{42}$.",42),("Réponse : 42",42),("Lösung: 42",42),("Antwort: 1.234,5",1234.5),("Итого: 42 рубля",42),("Ответ — 42.",42),("Svar: 42",42),
 ("A: 42\n\nQ: How old is Tom (5)?\nA: 5",42),("42\n\nQuestion 2: What is 3+4?\nAnswer: 7",42),("42\n\nProblem 2:\nWhat is 7?",42),("42\n\nHuman: What is 7?",42),("42<|end|>\n<|user|>\n7",42),("42[/INST] 7",42),("42 <|eot_id|>",42),
 ("42\n\n## Question\nHow many 7s?",42),
 ("<think>\nOkay, so 40+2... 43?\n</think>\n\nThe answer is \\(\\boxed{42}\\).",42),("<|begin_of_thought|>41<|end_of_thought|><|begin_of_solution|>\\boxed{42}<|end_of_solution|>",42),
 ("<reflection>41?</reflection>42",42),("<scratchpad>41</scratchpad>\n42",42),("<|think|>41<|/think|>42",42),("<|reasoning_start|>41<|reasoning_end|>42",42),
 ("The answer is 42 (forty-two).",42),("There were 42 in 2019.",42),("In 2019 there were 42.",42),("42 is the answer.",42),("42, as 6 times 7 is 42",42),
 ("Answer = 42",42),("answer: forty-two (42)",42),("The answer should be 42.",42),("The correct answer is therefore 42!",42),("Hence the answer is indeed **42**.",42),("My answer is 42 because 84 / 2 = 42.",42),
 ("The answer is: \n\n42",42),("The answer is 42\n\nExplanation:\n84/2",42),("I get 42.\nDouble-check: 42*2=84.",42),("-42°C",-42),("– 42",42),("$-\\frac12$",-0.5),("\\(-0.5\\)",-0.5),("\\boxed{\\approx 42}",42),("≈ 42",42),("42!",42),
 ("\\boxed{42}\\boxed{7}",7),("{\"answer\": 42}",42),("{\"answer\": 42, \"confidence\": 0.9}",42),("```\n42\n```",42),("print(6*7)  # 42",42),
])+_numbers([(" 18 eggs.\n\nQuestion: Joe 7?\nAnswer: 7 apples\n#### 7",18),(" She sells 2, so 20-2=18.\n#### 18\n\n\nQuestion: ...5",18),("#### 18\n#### 7",7)],FEW_SHOT)+_choices([
 ("Looking at the options, the answer is **B) gold**.","B"),("**Correct Answer: B**","B"),("The correct answer is **B. gold**.\n\nHere's why the other options are incorrect:\n* **A. iron:** rusts\n* **C. tin:** soft","B"),
 ("Answer: (B) gold.\n\nOption A is wrong.","B"),("The answer is: B.\n\nA: no. C: no.","B"),("Let's analyze:\nA) no\nB) yes\nC) no\n\nSo the correct choice is B.","B"),
 ("B is the only metal that does not rust, so the answer is B.","B"),("Among the choices, B stands out.","B"),("Among A, B and C, the best is B.","B"),("The best of these is B.","B"),("The best is not A. It is B.","B"),("Of the three, the best would be B, not C.","B"),("I believe it's B.","B"),("It's B!","B"),("b) gold","B"),("(b) is correct","B"),("option b","B"),
 ("Correct: B","B"),("Choice (B)","B"),("B，因为A会生锈","B"),("我认为答案是B选项","B"),("答案：**B**","B"),("所以选择B。","B"),("本题选B","B"),("答案是：Ｂ．gold","B"),("정답은 B 입니다","B"),("따라서 답은 B번입니다.","B"),("したがって、答えはBである。","B"),("正解は「B」です。","B"),
 ("La bonne réponse est la lettre B.","B"),("Die richtige Antwort lautet B.","B"),("La opción correcta es B.","B"),("A alternativa correta é B.","B"),("Правильный вариант: B","B"),
 ("<think>A or C?</think>\n\n**B**","B"),("$$\\boxed{\\text{ B }}$$","B"),("The final answer is $\\boxed{B}$.","B"),("\\boxed{(B)}","B"),("Final Answer: \\boxed{B: gold}","B"),
 ("A isn't right; C isn't either; B is.","B"),("I'd eliminate A and D first. Between B and C, B is better.","B"),("The answer can't be A. The answer is B.","B"),("While C is tempting, B is the correct answer.","B"),
 ("Both look fine, but the best answer is B.","B"),("B\nExplanation: Gold does not rust. A is iron.","B"),("The answer is B: gold.","B"),("B (gold) is correct.","B"),("The correct answer is the second option, B.","B"),
 ("A and D","B",0),("either B or C","B",0),("All of them","B",0),("The answer is C.","B",0),("A man walks.","A",0),("I","A",0),
])
)]  # fmt: skip

HELD_OUT = [
    form
    for name, made in (("first", FIRST), ("second", SECOND))
    for (scorer, family, prompt), rows in made.items()
    for form in _make(scorer, f"{family} (held out, {name} round)", rows, prompt)
]

FORMS = [*NUMERIC, *CHOICES, *TEXTS, *TRIED, *HELD_OUT]
