"""What a constraint may say, what it is to digests and files, and how engines that mask themselves are told it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hagpolicy import Constraint, DecodingConfig, InvalidInput, Prompt, UnsupportedSetting, read_prompts
from hagpolicy.config.constraints import ASK
from hagpolicy.config.render import ask_for
from hagpolicy.config.servers import make_request_body

SCHEMA = {
    "type": "object",
    "properties": {"why": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["why"],
}
EACH = {
    "choices": Constraint(choices=("yes", 'a "no"')),
    "regex": Constraint(regex=r"\d{4}"),
    "schema": Constraint(schema=SCHEMA),
    "words": Constraint(include=("dog",), avoid=("cat",), min_words=3, max_words=9),
}
NOT_REGULAR = {
    r"(?=a)b": "look-around",
    r"(?<!x)y": "look-around",
    r"(a)\1": "a back-reference",
    r"(a)?(?(1)b|c)": "a back-reference",
    r"\bx": "a word boundary",
    r"a^b": "an anchor that is not at an end",
    r"a++": "a possessive repetition",
    r"(?>a)b": "an atomic group",
}


@pytest.mark.parametrize("pattern", NOT_REGULAR)
def test_what_is_not_regular_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(InvalidInput, match=NOT_REGULAR[pattern]):
        Constraint(regex=pattern)


REFUSED: list[dict[str, Any]] = [
    {},
    {"choices": ["a"], "regex": "a"},
    {"regex": "("},
    {"regex": "(?i)a"},
    {"choices": "yes"},
    {"choices": [""]},
    {"include": ["two words"]},
    {"include": ["dog"], "avoid": ["Dog"]},
    {"min_words": 5, "max_words": 4},
    {"max_words": 0},
    {"schema": {"$ref": "https://example.com/schema.json"}},
    {"schema": {"type": float("nan")}},
    {"words": ["dog"]},
]


@pytest.mark.parametrize("values", REFUSED, ids=str)
def test_what_says_nothing_or_too_much_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="constraint"):
        Constraint.parse(values)


@pytest.mark.parametrize("kind", EACH)
def test_a_constraint_comes_back_from_json(kind: str) -> None:
    constraint = EACH[kind]
    text = json.dumps(constraint.to_dict(), sort_keys=True)
    again = Constraint.parse(text)
    assert again == constraint
    assert again is not None
    assert again.kind == kind
    assert again.describe() == constraint.describe()
    # Rows of a table have every key, most of them without a value.
    empty = dict.fromkeys(("choices", "regex", "schema", "include", "avoid", "min_words", "max_words"))
    assert Constraint.parse({**empty, **constraint.to_dict()}) == constraint


def test_the_order_of_properties_is_kept_and_counts() -> None:
    turned = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}
    again = Constraint.parse(json.loads(json.dumps(EACH["schema"].to_dict(), sort_keys=True)))
    assert again is not None
    assert list(again.schema["properties"]) == ["why", "answer"]
    assert Constraint(schema=turned) != EACH["schema"]


def test_a_prompt_without_a_constraint_is_what_it_was() -> None:
    """The digest is that of before there were constraints; with one it is another, and comes back."""
    assert Prompt("Name a river.", task="geo").digest == "ba87fab826b37286f04909b72d35db84"
    prompt = Prompt("Name a river.", task="geo", constraint={"choices": ["Rhine"]})
    assert prompt.digest != Prompt("Name a river.", task="geo").digest
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt
    assert prompt.constraint == Constraint(choices=("Rhine",))
    assert DecodingConfig(constrain="").digest == DecodingConfig().digest


def test_constraints_are_read_from_files(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": f"p{n}", "constraint": one.to_dict()} for n, one in enumerate(EACH.values())]
    rows.append({"prompt": "free"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    texts = [{**row, "form": json.dumps(row["constraint"]) if "constraint" in row else ""} for row in rows]
    table = pa.Table.from_pylist([{"prompt": row["prompt"], "form": row["form"]} for row in texts])
    parquet.write_table(table, tmp_path / "texts.parquet")
    expected = [*EACH.values(), None]
    for name in ("a.jsonl", "a.parquet"):
        assert [prompt.constraint for prompt in read_prompts(tmp_path / name)] == expected
    mapped = read_prompts(tmp_path / "texts.parquet", keys={"constraint": "form"})
    assert [prompt.constraint for prompt in mapped] == expected


def test_it_is_asked_for_behind_the_hint() -> None:
    constraint = Constraint(choices=("yes", "{keywords}"))
    asked = ask_for("Is it?", "Think.", constraint, ASK)
    assert asked == f"Is it?\n\nThink.\n\n{constraint.describe()}"
    assert "{keywords}" in asked  # a text of the caller's is no slot
    assert ask_for("Is it?", "", constraint, "mask") == ask_for("Is it?", "", None, ASK) == "Is it?"
    chat = [{"role": "user", "content": "Is it?"}]
    (turn,) = ask_for(chat, "", constraint, ASK)
    assert turn["content"] == f"Is it?\n\n{constraint.describe()}"


def body(server: str, constraint: Constraint, **fields: Any) -> dict[str, Any]:
    config = DecodingConfig(constrain="mask", **fields)
    made = make_request_body(server, config.fields(), seed=1, max_tokens=9, chat=True, constraint=constraint)
    return {**made.body, **made.extra_body}


def test_servers_that_mask_are_told_in_their_own_words() -> None:
    assert body("vllm", EACH["choices"])["structured_outputs"] == {"choice": ["yes", 'a "no"']}
    assert body("vllm", EACH["regex"])["structured_outputs"] == {"regex": r"\d{4}"}
    assert body("vllm", EACH["schema"])["structured_outputs"] == {"json": SCHEMA}
    assert body("sglang", EACH["choices"])["regex"] == 'yes|a\\ "no"'
    assert body("llama_cpp", EACH["choices"])["grammar"] == 'root ::= "yes" | "a \\"no\\""'
    assert body("llama_cpp", EACH["schema"])["json_schema"] == SCHEMA
    assert body("llama_cpp_python", EACH["schema"])["response_format"] == {"type": "json_object", "schema": SCHEMA}
    for server in ("openai", "ollama", "sglang"):
        sent = body(server, EACH["schema"])["response_format"]
        assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", SCHEMA)


@pytest.mark.parametrize(
    ("server", "kind"),
    [("openai", "regex"), ("openai", "words"), ("llama_cpp", "regex"), ("vllm", "words"), ("compatible", "schema")],
)
def test_a_constraint_that_a_server_does_not_mask_is_never_sent(server: str, kind: str) -> None:
    with pytest.raises(UnsupportedSetting, match="constrain"):
        body(server, EACH[kind])
    rendering = DecodingConfig(constrain="mask").render(f"openai:{server}", unsupported="drop", constraint=EACH[kind])
    plain = DecodingConfig().render(f"openai:{server}")
    assert rendering.kwargs == plain.kwargs
    assert rendering.receipt.dropped == {"constrain": "mask"}


def test_a_way_without_a_constraint_changes_nothing_and_says_so() -> None:
    plain = DecodingConfig().render("vllm", "Hello")
    for constrain in ("ask", "mask", "retry"):
        made = DecodingConfig(constrain=constrain).render("vllm", "Hello")
        assert (made.kwargs, made.prompt) == (plain.kwargs, plain.prompt)
        assert "no constraint" in made.receipt.notes["constrain"]
