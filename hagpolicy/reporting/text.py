"""Plain words for configs and for the rows of the comparison, the same in report, command line and demo."""

from __future__ import annotations

from hagpolicy.config.config import DecodingConfig

ROW_WORDS = {
    "engine_default": "engine's default",
    "random": "random configuration",
    "sbs": "single best configuration (SBS)",
    "best_per_task": "best configuration of each task",
    "nearest": "best of the nearest prompts",
    "policy": "policy, as it ships",
    "split_vbs": "oracle, split samples",
    "naive_vbs": "oracle, same samples",
}


def describe_config(config: DecodingConfig) -> str:
    """A config for people: the strategy first, then what differs from neutral; `greedy · repetition_penalty 1.1`."""
    values = config.to_dict()
    temperature = values.pop("temperature", 1.0)
    beams = values.pop("num_beams", 1)
    if beams > 1:
        first = f"{beams} beams" if temperature == 0.0 else f"{beams} beams · temperature {temperature:g}"
    else:
        first = "greedy" if temperature == 0.0 else f"temperature {temperature:g}"
    hint = values.pop("hint", "")
    parts = [first, *(f"{name} {value:g}" for name, value in values.items())]
    return " · ".join([*parts, f"hint “{hint}”"] if hint else parts)


def format_signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, a true minus, and no sign on a zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")


def describe_row(name: str) -> str:
    """A row of the comparison for people; a learner keeps its own name."""
    return ROW_WORDS.get(name, name)


def select_note(name: str, note: str) -> str:
    """A row's note, unless the row's own words say it already."""
    return "" if note in describe_row(name) else note


def describe_objective(objective: str) -> str:
    """What is maximised, as the name of an axis."""
    return "mean reward" if objective == "reward" else objective
