"""`wrap` in front of a model whose memory of drafts learns from the answers it gives."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput
from hagpolicy.artefacts import open_artefact
from hagpolicy.errors import EngineError
from tests.serving.wrapping import WordPolicy
from tests.support.tiny_artefacts import save_memory
from tests.support.tiny_llama import WORDS as VOCABULARY
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")

from transformers import pipeline

from hagpolicy.engines.transformers.drafts import DraftMemory, GrowingMemory

DRAFTED = DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=6, draft_source="faq")
LIMIT = 24


@pytest.fixture
def folder(tmp_path):
    """The memory of an answer that no model gives."""
    return save_memory(tmp_path / "faq", [[7, 8, 9, 7]])


def make_policy(folder):
    pin = open_artefact("draft_source", "faq", folder).pin
    return WordPolicy(DecodingSpace([DRAFTED.replace(draft_source=pin)]), {})


def wrap(folder, policy=None, **options):
    given = {"draft_source": {"faq": folder}}
    policy = policy or make_policy(folder)
    return hag.wrap(tiny_model(seed=5), policy, tokenizer=tiny_tokenizer(), artifacts=given, **options)


def make_prompts(seed, count=12):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(VOCABULARY, 6)) for _ in range(count)]


def count_passes(wrapped, prompts, limit=LIMIT):
    """The texts of prompts, and the forward passes that they took."""
    passes = []
    handle = wrapped.target.register_forward_pre_hook(lambda *_: passes.append(1))
    texts = wrapped.generate_text(prompts, max_new_tokens=limit)
    handle.remove()
    return texts, len(passes)


def test_a_memory_of_another_model_is_refused(tmp_path):
    for name, answer in (("large", [7, 8, 33]), ("negative", [7, -1, 8])):
        with pytest.raises(EngineError, match="of another model"):
            wrap(save_memory(tmp_path / name, [answer]), WordPolicy(DecodingSpace([DRAFTED]), {}))


def test_repeated_traffic_takes_fewer_passes_and_the_texts_stay(folder):
    plain = hag.wrap(
        tiny_model(seed=5), WordPolicy(DecodingSpace([DecodingConfig(temperature=0.0)]), {}), tokenizer=tiny_tokenizer()
    )
    prompts, others = make_prompts(1), make_prompts(2)
    growing, frozen = wrap(folder), wrap(folder, learn_drafts=False)
    expected, most = count_passes(plain, prompts)
    first, again, third = (count_passes(growing, prompts) for _ in range(3))
    assert first[0] == again[0] == third[0] == expected
    assert again[1] < 0.75 * first[1]
    assert third[1] <= again[1]
    # Without learning nothing changes from call to call, and like answers of other prompts gain too.
    still = [count_passes(frozen, prompts) for _ in range(2)]
    assert still[0] == still[1]
    assert still[0][0] == expected
    assert first[1] < still[0][1] < most * len(prompts)
    new, passes = count_passes(growing, others)
    without, alone = count_passes(frozen, others)
    assert new == without
    assert passes < alone


def test_a_pipeline_learns_too(folder):
    pipe = pipeline("text-generation", model=tiny_model(seed=5), tokenizer=tiny_tokenizer())
    wrapped = hag.wrap(pipe, make_policy(folder), artifacts={"draft_source": {"faq": folder}})
    passes = []
    pipe.model.register_forward_pre_hook(lambda *_: passes.append(1))
    chats = [[{"role": "user", "content": one}] for one in make_prompts(1)]
    texts, counts = [], []
    for _ in range(2):
        texts.append(wrapped(chats, max_new_tokens=LIMIT, return_full_text=False))
        counts.append(len(passes))
    assert texts[0] == texts[1]
    assert counts[1] - counts[0] < 0.75 * counts[0]


def test_the_folder_stays_and_what_was_learned_is_saved_on_request(folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    policy, prompts = make_policy(folder), make_prompts(1)
    wrapped = wrap(folder, policy)
    _, first = count_passes(wrapped, prompts)
    texts, again = count_passes(wrapped, prompts)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    saved = wrapped.save_draft_memory("faq", tmp_path / "grown")
    grown = wrap(saved, policy, learn_drafts=False)  # in the place of the one that was swept
    assert count_passes(grown, prompts)[0] == texts
    assert count_passes(grown, prompts)[1] <= again < first
    assert open_artefact("draft_source", "faq", saved).origin is None  # nobody knows which prompts
    later = wrap(saved, policy)
    count_passes(later, make_prompts(2))
    wrap(later.save_draft_memory("faq", tmp_path / "later"), policy)
    with pytest.raises(InvalidInput, match="not there yet"):
        wrapped.save_draft_memory("faq", saved)
    with pytest.raises(InvalidInput, match="a memory that learns: faq"):
        wrapped.save_draft_memory("other", tmp_path / "other")
    with pytest.raises(InvalidInput, match="a memory that learns"):
        grown.save_draft_memory("faq", tmp_path / "other")
    stranger = save_memory(tmp_path / "stranger", [[3, 4, 5]])
    with pytest.raises(InvalidInput, match="the folder that was swept"):
        wrap(stranger, policy)


def test_what_it_learns_is_counted_together_with_what_it_began_with():
    first = DraftMemory.of([[1, 2, 3], [1, 2, 3], [1, 2, 4], [5, 6, 7]])
    memory = GrowingMemory(first)
    assert memory.propose([1, 2], 1) == [3]
    memory.learn([1, 2, 4])
    assert memory.propose([1, 2], 1) == [3]  # twice each: the least id
    memory.learn([1, 2, 4, 9])
    assert memory.propose([1, 2], 2) == [4, 9]
    assert memory.propose([5, 6], 2) == [7]
    assert memory.propose([8, 8], 2) == memory.propose([2], 2) == []
    frozen = memory.freeze()
    assert frozen.propose([1, 2], 2) == [4, 9]
    assert [frozen.count(one) for one in [(1, 2, 3), (1, 2, 4), (2, 4, 9), (5, 6, 7), (5, 6, 8)]] == [2, 3, 1, 1, 0]
    assert first.count((1, 2, 4)) == 1


def test_it_forgets_what_no_answer_had_for_longest_and_nothing_that_it_began_with():
    memory = GrowingMemory(DraftMemory.of([[1, 2, 3]]), most=3)
    memory.learn([1, 2, 9, 8, 7])  # 1 2 9, 2 9 8, 9 8 7
    memory.learn([1, 2, 9])
    memory.learn([4, 5, 6])
    assert len(memory) == 3
    assert memory.propose([2, 9], 1) == []  # forgotten, and with it nothing that was said later
    assert memory.propose([9, 8], 1) == [7]
    assert memory.propose([1, 2], 1) == [9]
    memory.learn([20, 21, 22, 23, 24])
    assert len(memory) == 3
    assert memory.propose([1, 2], 1) == [3]
    draw = np.random.default_rng(0)
    for _ in range(300):
        memory.learn(draw.integers(0, 6, 9).tolist())
        pairs = {pair: sum(one[:2] == pair for one in memory._learned) for pair in memory._followers}
        assert len(memory) <= 3
        assert pairs == {pair: len(tokens) for pair, tokens in memory._followers.items()}


def test_threads_learn_without_losing_a_count():
    memory = GrowingMemory(DraftMemory.of([]), most=50)
    answers = [[1, 2, 3, 4, number] for number in range(5, 9)]

    def work(answer):
        for _ in range(300):
            memory.learn(answer)
            assert memory.propose([1, 2], 2) == [3, 4]

    threads = [threading.Thread(target=work, args=(one,)) for one in answers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert memory.freeze().count((1, 2, 3)) == 1200
