"""Own vectors at call time: what a function makes of texts, in training and in the policy, and arrays of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from tests.support.making import LISTS, SPACE, SUMS

DIM = 5


def embed(texts: list[str]) -> np.ndarray:
    """Digits and commas tell sums from lists."""
    assert all(isinstance(text, str) and text.strip() for text in texts)
    rows = [[sum(map(str.isdigit, text)), text.count(" "), len(text) / 9, text.count("n"), 1.0] for text in texts]
    return np.array(rows, dtype=np.float32)


def make_table(messages: bool = False) -> hag.SweepTable:
    """Config 0 is best of sums and config 4 of lists, by far; some prompts lack a config."""
    texts = [f"{text} {'n' * number}" for number in range(1, 4) for text in (*SUMS, *LISTS)]
    sums = np.array([text.startswith(tuple(SUMS)) for text in texts])
    rng = np.random.default_rng(0)
    rewards = rng.uniform(0.3, 0.5, (len(texts), len(SPACE), 2))
    rewards[sums, 0] += 0.4
    rewards[~sums, 4] += 0.4
    rewards[::9, 2] = np.nan
    prompts: list[Any] = list(texts)
    if messages:
        before = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
        prompts = [[*before, {"role": "user", "content": text}] for text in texts]
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards)


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    return make_table()


@pytest.fixture(scope="module")
def policy(table: hag.SweepTable) -> hag.Policy:
    return hag.fit(table, hag.PrecomputedEncoder(embed=embed), "ridge")


def test_a_policy_reads_texts_through_a_function(policy: hag.Policy, table: hag.SweepTable, tmp_path: Path) -> None:
    assert policy.ships == "per_prompt"
    texts = [prompt.text for prompt in table.prompts[::3]]
    again = hag.load(policy.save(tmp_path / "policy"), embed=embed)
    for given in (texts, [[{"role": "user", "content": text}] for text in texts], embed(texts), list(embed(texts))):
        assert again.predict_batch(given) == [again.predict(one) for one in given] == policy.predict_batch(texts)
    chosen = [SPACE.index(again.predict(text)) for text in texts]
    assert set(chosen) == {0, 4}
    assert again.decide(texts[0]).prompt == texts[0]
    np.testing.assert_array_equal(again.values(texts), again.values(embed(texts)))


def test_what_is_not_read_is_not_embedded(policy: hag.Policy) -> None:
    chat = [
        {"role": "user", "content": SUMS[0]},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "shorter, please"},
    ]
    empty = [{"role": "user", "content": None}]
    assert policy.decide(chat).reason == "needs_context"
    assert [one.reason for one in policy.decide_batch(["", chat, empty])] == [
        "unreadable",
        "needs_context",
        "unreadable",
    ]


def test_without_the_function_vectors_are_read_and_texts_refused(policy: hag.Policy, tmp_path: Path) -> None:
    bare = hag.load(policy.save(tmp_path / "policy"))
    assert bare.predict(embed([SUMS[0]])[0]) == policy.predict(SUMS[0])
    for ask in (bare.predict, bare.decide, lambda text: bare.predict_batch([text])):
        with pytest.raises(InvalidInput, match=r"expected a vector of numbers, got .*load\(folder, embed=…\)"):
            ask(SUMS[0])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: embed(texts)[0], r"what embed returns: expected shape \(1, 5\), got shape \(5,\)"),
        (lambda texts: embed(texts)[:, :3], r"expected shape \(1, 5\), got shape \(1, 3\)"),
        (lambda texts: embed(texts) * np.nan, "what embed returns: expected finite numbers"),
        (lambda texts: [["a"]], "what embed returns: expected an array of numbers"),
        (lambda texts: None, "what embed returns: expected"),
        (7, "embed: expected a function"),
    ],
)
def test_a_function_that_returns_no_vectors_is_refused(
    policy: hag.Policy, tmp_path: Path, function: Any, message: str
) -> None:
    folder = policy.save(tmp_path / "policy")
    with pytest.raises(InvalidInput, match=message):
        hag.load(folder, embed=function).predict("What is 4 + 4?")


def test_a_policy_that_reads_texts_by_itself_takes_no_function(table: hag.SweepTable, tmp_path: Path) -> None:
    folder = hag.fit(table, learner="constant").save(tmp_path / "policy")
    with pytest.raises(InvalidInput, match="embed: expected a policy that reads vectors"):
        hag.load(folder, embed=embed)


def test_an_array_equals_vectors_of_the_prompts(table: hag.SweepTable) -> None:
    vectors = embed([prompt.text for prompt in table.prompts])
    prompts = hag.with_vectors(table.prompts, vectors)
    carried = hag.fit(hag.SweepTable.from_arrays(prompts, SPACE, table.rewards), "precomputed", "ridge")
    given = hag.fit(table, vectors, "ridge")
    both = hag.fit(table, hag.PrecomputedEncoder(vectors=vectors, embed=embed), "ridge")
    np.testing.assert_array_equal(given.values(vectors), carried.values(vectors))
    np.testing.assert_array_equal(both.values([prompt.text for prompt in table.prompts]), carried.values(vectors))
    assert given.evaluation == carried.evaluation == both.evaluation
    # The table is not changed, so that a report knows the policy as its own.
    assert given.fitted_on(table.take(table.complete))


def test_of_a_chat_the_function_is_given_what_is_read(policy: hag.Policy, table: hag.SweepTable) -> None:
    chats = hag.fit(make_table(messages=True), hag.PrecomputedEncoder(embed=embed), "ridge")
    texts = [prompt.text for prompt in table.prompts]
    np.testing.assert_array_equal(chats.values(texts), policy.values(texts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vectors: vectors[:-1], r"encoder: expected a vector for each of the table's \d+ prompts"),
        (lambda vectors: vectors[0], r"vectors: expected numbers of shape \(n_prompts, dim\), got shape \(5,\)"),
        (lambda vectors: vectors[:, :0], r"expected numbers of shape \(n_prompts, dim\)"),
        (lambda vectors: np.where(np.arange(len(vectors))[:, None] == 3, np.inf, vectors), "infinity for prompt 3"),
        (lambda vectors: vectors.astype(str).astype(object) + "a", "vectors: expected numbers"),
    ],
)
def test_an_array_that_is_no_vector_a_prompt_is_refused(table: hag.SweepTable, change: Any, message: str) -> None:
    vectors = embed([prompt.text for prompt in table.prompts])
    with pytest.raises(InvalidInput, match=message):
        hag.fit(table, change(vectors), "constant")


def test_vectors_that_the_function_does_not_make_are_refused(table: hag.SweepTable) -> None:
    vectors = embed([prompt.text for prompt in table.prompts])
    with pytest.raises(InvalidInput, match=r"what embed returns: expected the vectors given, got others, \d+% away"):
        hag.fit(table, hag.PrecomputedEncoder(vectors=vectors[::-1], embed=embed), "constant")
    with pytest.raises(InvalidInput, match="one that needs no whole table"):
        hag.until_proven(vectors)


class Foreign(hag.PrecomputedEncoder):
    """Stores something that no policy could make inputs by."""

    def __init__(self, inputs: Any) -> None:
        super().__init__(embed=embed)
        self.kind = inputs

    def spec(self) -> dict[str, Any]:
        return {**super().spec(), "inputs": self.kind}


@pytest.mark.parametrize("kind", ["text", None, "tokens", ["vectors"]])
def test_inputs_that_no_policy_makes_are_refused_before_anything_is_fitted(table: hag.SweepTable, kind: Any) -> None:
    class Never(hag.Learner):
        name = "never"

        def fit(self, *_: Any) -> Any:
            pytest.fail("a learner was fitted")

    with pytest.raises(InvalidInput, match=r"encoder precomputed: expected a graph, a spec and files"):
        hag.fit(table, Foreign(kind), Never())


def test_an_own_encoder_names_its_function_itself(table: hag.SweepTable) -> None:
    class Counting(hag.PrecomputedEncoder):
        name = "counting"

        def __init__(self) -> None:
            super().__init__(DIM, name="counting")

        def embed(self, texts: list[str]) -> np.ndarray:  # type: ignore[override]
            return embed(texts)

    policy = hag.fit(table, Counting(), "ridge")
    assert policy.predict(SUMS[0]) == SPACE[0]
