"""Per-prompt decoding policies for a frozen LLM.

Names are imported on first use, so that `import hagpolicy` costs next to nothing and loading a
bundle needs no more than numpy, tokenizers and an onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BestOf": "hagpolicy.objectives",
    "Budget": "hagpolicy.sweeping.budget",
    "Completion": "hagpolicy.engines.base",
    "Decision": "hagpolicy.policy",
    "DecodingConfig": "hagpolicy.config",
    "DecodingSpace": "hagpolicy.space",
    "Encoder": "hagpolicy.encoders.base",
    "Engine": "hagpolicy.engines.base",
    "Estimate": "hagpolicy.results",
    "Evaluation": "hagpolicy.results",
    "Learner": "hagpolicy.learners.base",
    "Majority": "hagpolicy.objectives",
    "Objective": "hagpolicy.objectives",
    "PassAtK": "hagpolicy.objectives",
    "Policy": "hagpolicy.policy",
    "Priced": "hagpolicy.objectives",
    "Prompt": "hagpolicy.prompts",
    "Quantile": "hagpolicy.objectives",
    "RayEngine": "hagpolicy.engines.ray_pool",
    "Request": "hagpolicy.engines.base",
    "Reward": "hagpolicy.objectives",
    "Score": "hagpolicy.scorers.base",
    "Scorer": "hagpolicy.scorers.base",
    "SimulatedEngine": "hagpolicy.engines.simulated",
    "SweepTable": "hagpolicy.table",
    "evaluate": "hagpolicy.evaluation",
    "fit": "hagpolicy.fitting",
    "get_scorer": "hagpolicy.scorers",
    "headroom": "hagpolicy.evaluation",
    "judge_agreement": "hagpolicy.scorers.judge_labels",
    "load": "hagpolicy.policy",
    "load_engine": "hagpolicy.engines",
    "load_table": "hagpolicy.store",
    "portfolio": "hagpolicy.portfolios",
    "preview": "hagpolicy.sweeping.preview",
    "read_prompts": "hagpolicy.prompts",
    "rescore": "hagpolicy.sweeping.run",
    "reward_quantiles": "hagpolicy.scorers.reward_model",
    "sweep": "hagpolicy.sweeping.run",
    "wrap": "hagpolicy.compose.pipelines",
    "write_report": "hagpolicy.reporting",
}

__version__ = "0.1.0"
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'hagpolicy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
