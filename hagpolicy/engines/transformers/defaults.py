"""What a model or a pipeline of transformers does when nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.dialects import TRANSFORMERS

__all__ = ["GENERATION_SETTINGS", "read_generation_settings", "read_pipeline_default"]

_OWN_NAMES = {name for name, setting in TRANSFORMERS.settings.items() if setting.key == name and not setting.beside}
GENERATION_SETTINGS = _OWN_NAMES | {"do_sample"}
"""Names of a generation_config that are fields of ours, and the one that says whether to sample."""
# What a pipeline's own default says of sampling applies only where the caller or the model lets it sample.
_OF_SAMPLING = frozenset({"temperature", "top_k", "top_p", "min_p", "typical_p"})
TOP_K = 50
"""transformers' own, where nobody names one."""


def read_generation_settings(values: Mapping[str, Any]) -> DecodingConfig:
    """The config of settings under transformers' names, as `generate` understands them; None: not set.

    Greedy unless `do_sample` is true, and then with transformers' own top_k of 50 where none is named.

    Raises:
        InvalidInput: a value out of range.
    """
    kept = {name: value for name, value in values.items() if name in GENERATION_SETTINGS and value is not None}
    if not kept.pop("do_sample", False):
        kept["temperature"] = 0.0
    kept.setdefault("top_k", TOP_K)
    return DecodingConfig.from_dict(kept).canonical()


def read_pipeline_default(pipeline: Any) -> DecodingConfig | None:
    """What a text-generation pipeline does when its call names no setting; None where it is no such pipeline.

    The caller's settings from when it was built, over the model's generation_config, over the pipeline's own
    (which transformers keeps under private names).

    Raises:
        InvalidInput: a value out of range.
    """
    if not hasattr(pipeline, "_generation_defaults"):
        return None
    built: dict[str, Any] = {}
    for name in ("_generate_kwargs", "_forward_params"):
        built |= getattr(pipeline, name, None) or {}
    inside = built.pop("generation_config", None)
    given = {**pipeline.model.generation_config.to_diff_dict()}
    given |= {} if inside is None else inside.to_diff_dict()
    given |= built
    own = {name: value for name, value in pipeline._generation_defaults.items() if name not in given}
    if not {**own, **given}.get("do_sample"):
        own = {name: value for name, value in own.items() if name not in _OF_SAMPLING}
    return read_generation_settings({**own, **given})
