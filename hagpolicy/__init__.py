"""Per-prompt decoding policies for a frozen LLM.

Names are imported on first use, so that `import hagpolicy` costs next to nothing and loading a
bundle needs no more than numpy, tokenizers and an onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BestOf": "hagpolicy.analysis.objectives",
    "Budget": "hagpolicy.sweeping.budget",
    "Completion": "hagpolicy.data.completion",
    "Decision": "hagpolicy.policy.decision",
    "DecodingConfig": "hagpolicy.config.config",
    "DecodingSpace": "hagpolicy.config.space",
    "Encoder": "hagpolicy.fitting.encoders.base",
    "Engine": "hagpolicy.engines.base",
    "Estimate": "hagpolicy.results",
    "Evaluation": "hagpolicy.results",
    "Learner": "hagpolicy.fitting.learners.base",
    "Majority": "hagpolicy.analysis.objectives",
    "Objective": "hagpolicy.analysis.objectives",
    "PassAtK": "hagpolicy.analysis.objectives",
    "Policy": "hagpolicy.policy.policy",
    "Priced": "hagpolicy.analysis.objectives",
    "Prompt": "hagpolicy.data.prompts",
    "Quantile": "hagpolicy.analysis.objectives",
    "RayEngine": "hagpolicy.engines.ray.engine",
    "Request": "hagpolicy.data.completion",
    "Reward": "hagpolicy.analysis.objectives",
    "Score": "hagpolicy.scorers.base",
    "Scorer": "hagpolicy.scorers.base",
    "SimulatedEngine": "hagpolicy.simulated",
    "SweepTable": "hagpolicy.data.table",
    "evaluate": "hagpolicy.analysis.evaluation",
    "fit": "hagpolicy.fitting.fit",
    "get_scorer": "hagpolicy.scorers.registry",
    "headroom": "hagpolicy.analysis.headroom",
    "judge_agreement": "hagpolicy.scorers.judge.agreement",
    "load": "hagpolicy.policy.policy",
    "load_engine": "hagpolicy.engines.loading",
    "load_table": "hagpolicy.data.store.loading",
    "portfolio": "hagpolicy.analysis.portfolio",
    "preview": "hagpolicy.sweeping.forecast.preview",
    "read_prompts": "hagpolicy.data.prompts",
    "rescore": "hagpolicy.sweeping.run",
    "reward_quantiles": "hagpolicy.scorers.reward_model",
    "sweep": "hagpolicy.sweeping.run",
    "wrap": "hagpolicy.serving.pipeline",
    "write_report": "hagpolicy.reporting.page",
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
