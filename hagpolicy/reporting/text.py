"""Configs, objectives and differences in plain words, the same in report, command line and demo."""

from __future__ import annotations

from hagpolicy.config.config import DecodingConfig
from hagpolicy.results import Estimate


def describe_config(config: DecodingConfig) -> str:
    """A config for people: the strategy first, then what differs from neutral; `greedy · repetition_penalty 1.1`."""
    values = config.to_dict()
    unset = values.pop("unset", False)
    temperature = values.pop("temperature", 1.0)
    beams = values.pop("num_beams", 1)
    if unset:
        first = "unset"
    elif beams > 1:
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


def format_interval(estimate: Estimate, *, signed: bool) -> str:
    """The ends of an estimate's interval, such as `0.512 to 0.547`; with signs for a difference, and with its
    mark where it is unreliable."""
    if signed:
        return f"{format_signed(estimate.low)} to {format_signed(estimate.high)}{estimate.mark}"
    return f"{estimate.low:.3f} to {estimate.high:.3f}{estimate.mark}"


def describe_objective(objective: str) -> str:
    """What is maximised, as the name of an axis."""
    return "mean reward" if objective == "reward" else objective
