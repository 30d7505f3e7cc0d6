"""What the tests of `wrap` share: a space, a policy that a test can foretell, ways to call a model."""

from types import SimpleNamespace

import numpy as np

from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.policy.decision import decide
from hagpolicy.policy.dial import DecisionRule, Dial, OperatingPoint
from hagpolicy.policy.reading import PromptReader

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0),
        DecodingConfig(temperature=0, repetition_penalty=1.8),
        DecodingConfig(temperature=0, hint="think step by step ."),
        DecodingConfig(temperature=0, presence_penalty=2.0),
        DecodingConfig(temperature=0.7, top_p=0.9),
    ]
)
# The first of these words in a prompt decides its config: the numbers are SPACE's.
WORDS = {"sum": 2, "name": 1, "red": 3, "say": 4}


class WordPolicy:
    """The real decision rule over values that a word in the prompt decides: what a test can foretell."""

    def __init__(self, space=SPACE, words=None, fingerprint=None, max_tokens=None, dial=""):
        self.space, self.words = space, WORDS if words is None else words
        self.training_means = np.linspace(0.6, 0.5, len(space))
        self.rule = DecisionRule(np.ones(1, np.float32), self.training_means, "per_prompt", 0, 0.0)
        self.fingerprint, self.max_tokens = fingerprint or {}, max_tokens
        points = [OperatingPoint(at, "", "", (1.0,), 0.0, "per_prompt", 0) for at in ((1.0, 4.0) if dial else (0.0,))]
        self.dial = Dial(dial, "token", ("values",), [1.0], [self.training_means], tuple(points))
        self.asked, self.turned = [], []
        self.default_index, self.reads_text, self.digest = None, True, "0" * 32
        self.manifest = SimpleNamespace(tasks=())

    def knows_task(self, task):
        return task != "unknown"

    def decide_batch(self, prompts, fixed=None, **dial):
        self.turned.append(dial)
        made = [self.decide(prompt, fixed) for prompt in prompts]
        del self.turned[-len(made) :]
        return made

    def decide(self, prompt, fixed=None, *, among=None, **dial):
        self.turned.append(dial)
        self.asked.append((prompt, fixed))
        read = PromptReader("all").read(prompt)
        text = read.item
        values = self.training_means.astype(np.float32)
        for word, index in self.words.items():
            if word in text.split():
                values = values.copy()
                values[index] = 1.0
        return decide(self.space, self.rule, values[None], 0.0, fixed, prompt, refusal=read.refusal, among=among)


def chat(text):
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]


def texts(records):
    return [record["generated_text"] for record in records]


def padded(tokenizer, rows):
    return tokenizer(rows, padding=True, padding_side="left", return_tensors="pt")


def alone(model, tokenizer, text, index, **kwargs):
    rendering = SPACE[index].render("transformers")
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    out = model.generate(ids, **{**rendering.kwargs, **kwargs}, logits_processor=rendering.processors)
    return out[0, ids.shape[1] :].tolist()
