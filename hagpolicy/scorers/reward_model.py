"""`reward_model`: a sequence classifier of transformers, squashed to [0, 1] between two stated values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy._digest import digest
from hagpolicy._extras import require
from hagpolicy._text import replace_surrogates
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt, as_prompt, prompt_text, to_messages
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.base import Score, Scorer

# Conversations in one forward pass, of about equal length.
BATCH = 16
# A score depends in its last digits on what it is computed with; rewards are rounded so that they do not.
DIGITS = 5


class RewardModel(Scorer):
    """A classifier with one output reads prompt and answer and gives a raw score.

    The reward is (raw − low) / (high − low), held in [0, 1].

    Where the tokenizer has a chat template, it is applied to the prompt's turns and the answer as
    the assistant's; else prompt and answer are read as a pair of texts. A conversation longer than
    the model's context is unscored: cut short, it would be another one.

    Args:
        model: the hub's name, or a folder.
        low: raw score that becomes 0.
        high: raw score that becomes 1; above `low`. `reward_quantiles` gives both for your own texts.
        device: "auto" (a GPU where there is one) or a device of torch.

    Attributes:
        version: a digest of the weights, the tokenizer, both values and the version of transformers.

    Raises:
        InvalidInput: values that are no numbers in order, or a classifier with several outputs.
        EngineError: the model cannot be loaded, or it is none that was trained to score.
        MissingExtra: torch or transformers is not installed.
    """

    name = "reward_model"
    answers_agree = False

    def __init__(self, model: str | Path, low: float, high: float, device: str = "auto") -> None:
        for option, value in (("low", low), ("high", high)):
            if not is_number(value) or not math.isfinite(value):
                raise InvalidInput(f"reward_model.{option}", "a finite number", value)
        if not low < high:
            raise InvalidInput("reward_model.high", f"a number above low, which is {low!r}", high)
        self.low, self.high = float(low), float(high)
        self._classifier = _Classifier(str(model), device)
        about = [self._classifier.identity, self.low, self.high, BATCH, DIGITS]
        self.version = f"2-{digest(about)[:16]}"

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards in order; `answer` is the raw score."""
        return [self._squash(raw) for raw in self._classifier.score_raw([(p, c.text) for p, c in items])]

    def _squash(self, raw: float | str) -> Score:
        if isinstance(raw, str):
            return Score.unscored(raw)
        if not math.isfinite(raw):
            return Score.unscored("the model's score is not finite")
        value = (raw - self.low) / (self.high - self.low)
        return Score(round(min(max(value, 0.0), 1.0), DIGITS), None, f"{raw:.4g}")

    def __repr__(self) -> str:
        return f"RewardModel(version={self.version!r})"


def reward_quantiles(
    model: str | Path, items: Iterable[tuple[Any, str]], device: str = "auto", share: float = 0.05
) -> tuple[float, float]:
    """The quantiles (low, high) of raw scores that `RewardModel` takes, from texts like those it will score.

    Args:
        model: see `RewardModel`.
        items: (prompt, answer) pairs, at least two; a prompt is anything `as_prompt` takes.
        device: see `RewardModel`.
        share: of the texts that is to lie beyond each end, [0, .5).

    Returns:
        The `share` and 1 − `share` quantiles of the raw scores.

    Raises:
        InvalidInput: too few texts that can be scored, or a share out of range; else as `RewardModel`.
    """
    if not 0.0 <= share < 0.5:
        raise InvalidInput("share", "a number in [0, 0.5)", share)
    raw = _Classifier(str(model), device).score_raw([(as_prompt(prompt), answer) for prompt, answer in items])
    usable = [value for value in raw if isinstance(value, float) and math.isfinite(value)]
    if len(usable) < 2:
        raise InvalidInput("items", "at least two texts that can be scored", f"{len(usable)} of {len(raw)}")
    low, high = np.quantile(usable, [share, 1.0 - share])
    return float(low), float(high)


class _Classifier:
    """A model with one output and its tokenizer."""

    def __init__(self, name: str, device: str) -> None:
        self._torch = require("torch", "sweep", "the scorer reward_model")
        transformers = require("transformers", "sweep", "the scorer reward_model")
        from hagpolicy.engines.transformers.loading import digest_state, digest_tokenizer, pick_device

        place = pick_device(device)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            self._model, about = transformers.AutoModelForSequenceClassification.from_pretrained(
                name, dtype=self._torch.float32 if place == "cpu" else "auto", output_loading_info=True
            )
        except Exception as error:  # each loader has error types of its own
            raise EngineError(f"transformers could not load {name!r} as a sequence classifier: {error}") from error
        if missing := sorted(about["missing_keys"]):
            raise EngineError(f"{name!r} is no trained classifier: its weights lack {', '.join(missing[:3])}")
        if self._model.config.num_labels != 1:
            raise InvalidInput("reward_model.model", "a classifier with one output", f"{self._model.config.num_labels}")
        self._model.eval().to(place)
        version = f"transformers {transformers.__version__}"
        template = digest(getattr(self._tokenizer, "chat_template", None))
        self.identity = [digest_state(self._model), digest_tokenizer(self._tokenizer), template, version]

    def score_raw(self, pairs: Sequence[tuple[Prompt, str]]) -> list[float | str]:
        """The raw score of each (prompt, answer), or why there is none."""
        encoded = [self._encode(prompt, answer) for prompt, answer in pairs]
        found: list[float | str] = [one if isinstance(one, str) else math.nan for one in encoded]
        ready = [(len(one["input_ids"]), index, one) for index, one in enumerate(encoded) if not isinstance(one, str)]
        ready.sort(key=lambda row: row[:2])
        # Without a padding token of its own a decoder cannot tell where the rows of a batch end.
        rows = BATCH if self._model.config.get_text_config().pad_token_id is not None else 1
        for at in range(0, len(ready), rows):
            batch = ready[at : at + rows]
            padded = self._pad([one for _, _, one in batch])
            with self._torch.inference_mode():
                scores = self._model(**padded).logits[:, 0].float().tolist()
            for (_, index, _), value in zip(batch, scores, strict=True):
                found[index] = value
        return found

    def _pad(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if len(rows) == 1:
            tensors = {name: self._torch.tensor([values]) for name, values in rows[0].items()}
        else:
            tensors = dict(self._tokenizer.pad(list(rows), return_tensors="pt"))
        return {name: values.to(self._model.device) for name, values in tensors.items()}

    def _encode(self, prompt: Prompt, answer: str) -> dict[str, Any] | str:
        answer = replace_surrogates(answer)  # as it is stored
        if getattr(self._tokenizer, "chat_template", None):
            messages = [*to_messages(prompt.content), {"role": "assistant", "content": answer}]
            try:
                text = self._tokenizer.apply_chat_template(messages, tokenize=False)
            except Exception as error:  # templates are programs and raise what they like
                return f"the chat template refused the conversation: {type(error).__name__}"
            # The template wrote the special tokens; the tokenizer would add its own a second time.
            encoded = dict(self._tokenizer(text, add_special_tokens=False))
        else:
            encoded = dict(self._tokenizer(prompt_text(prompt.content), answer))
        size, most = len(encoded["input_ids"]), self._context
        if not 0 < size <= most:
            return f"prompt and answer have {size} tokens, the model's context {most:g}"
        return encoded

    @property
    def _context(self) -> float:
        """Most tokens of a conversation; some tokenizers know a smaller number than the model."""
        stated = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        return float(min(stated, self._tokenizer.model_max_length))
