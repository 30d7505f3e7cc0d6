"""Per-prompt decoding policies for a frozen LLM.

Names are imported on first use, so that `import hagpolicy` costs next to nothing and loading a
bundle needs no more than numpy, tokenizers and an onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; the same names as in _HOMES, which a test holds
    from hagpolicy.analysis.effects import Effect as Effect
    from hagpolicy.analysis.effects import Effects as Effects
    from hagpolicy.analysis.effects import effects as effects
    from hagpolicy.analysis.evaluation import evaluate as evaluate
    from hagpolicy.analysis.headroom import Headroom as Headroom
    from hagpolicy.analysis.headroom import headroom as headroom
    from hagpolicy.analysis.objectives import BestOf as BestOf
    from hagpolicy.analysis.objectives import Majority as Majority
    from hagpolicy.analysis.objectives import Objective as Objective
    from hagpolicy.analysis.objectives import PassAtK as PassAtK
    from hagpolicy.analysis.objectives import Priced as Priced
    from hagpolicy.analysis.objectives import Quantile as Quantile
    from hagpolicy.analysis.objectives import Reward as Reward
    from hagpolicy.analysis.paired import PairedComparison as PairedComparison
    from hagpolicy.analysis.paired import compare as compare
    from hagpolicy.analysis.portfolio import Portfolio as Portfolio
    from hagpolicy.analysis.portfolio import portfolio as portfolio
    from hagpolicy.config.config import DecodingConfig as DecodingConfig
    from hagpolicy.config.constraints import Constraint as Constraint
    from hagpolicy.config.render import Receipt as Receipt
    from hagpolicy.config.render import Rendering as Rendering
    from hagpolicy.config.space import DecodingSpace as DecodingSpace
    from hagpolicy.data.completion import Completion as Completion
    from hagpolicy.data.completion import Request as Request
    from hagpolicy.data.looks import Look as Look
    from hagpolicy.data.prompts import Prompt as Prompt
    from hagpolicy.data.prompts import read_prompts as read_prompts
    from hagpolicy.data.store.loading import load_table as load_table
    from hagpolicy.data.table import SweepTable as SweepTable
    from hagpolicy.engines.base import Engine as Engine
    from hagpolicy.engines.loading import load_engine as load_engine
    from hagpolicy.engines.ray.engine import RayEngine as RayEngine
    from hagpolicy.errors import BundleError as BundleError
    from hagpolicy.errors import EngineError as EngineError
    from hagpolicy.errors import ForeignSweep as ForeignSweep
    from hagpolicy.errors import HagError as HagError
    from hagpolicy.errors import InvalidInput as InvalidInput
    from hagpolicy.errors import MissingExtra as MissingExtra
    from hagpolicy.errors import ScorerError as ScorerError
    from hagpolicy.errors import StoreError as StoreError
    from hagpolicy.errors import SweepLocked as SweepLocked
    from hagpolicy.errors import UnsupportedSetting as UnsupportedSetting
    from hagpolicy.fitting.baselines.base import Baseline as Baseline
    from hagpolicy.fitting.baselines.base import BaselineChoices as BaselineChoices
    from hagpolicy.fitting.distill import DistilledRules as DistilledRules
    from hagpolicy.fitting.distill import RuleLine as RuleLine
    from hagpolicy.fitting.distill import distill_rules as distill_rules
    from hagpolicy.fitting.encoders.base import Encoder as Encoder
    from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder as PrecomputedEncoder
    from hagpolicy.fitting.encoders.precomputed import with_vectors as with_vectors
    from hagpolicy.fitting.encoders.transformer import TransformerEncoder as TransformerEncoder
    from hagpolicy.fitting.fit import fit as fit
    from hagpolicy.fitting.graphs.builder import GraphBuilder as GraphBuilder
    from hagpolicy.fitting.learners.base import FittedLearner as FittedLearner
    from hagpolicy.fitting.learners.base import Learner as Learner
    from hagpolicy.fitting.until import until_proven as until_proven
    from hagpolicy.policy.decision import Decision as Decision
    from hagpolicy.policy.explanation import Explanation as Explanation
    from hagpolicy.policy.policy import Policy as Policy
    from hagpolicy.policy.policy import load as load
    from hagpolicy.reporting.page import write_report as write_report
    from hagpolicy.results import Candidate as Candidate
    from hagpolicy.results import Estimate as Estimate
    from hagpolicy.results import Evaluation as Evaluation
    from hagpolicy.results import EvaluationRow as EvaluationRow
    from hagpolicy.results import PromptValues as PromptValues
    from hagpolicy.scorers.base import Score as Score
    from hagpolicy.scorers.base import Scorer as Scorer
    from hagpolicy.scorers.functions import FunctionScorer as FunctionScorer
    from hagpolicy.scorers.judge.agreement import Agreement as Agreement
    from hagpolicy.scorers.judge.agreement import judge_agreement as judge_agreement
    from hagpolicy.scorers.registry import get_scorer as get_scorer
    from hagpolicy.scorers.reward_model import reward_quantiles as reward_quantiles
    from hagpolicy.serving.llm import WrappedLLM as WrappedLLM
    from hagpolicy.serving.model import WrappedModel as WrappedModel
    from hagpolicy.serving.pipeline import WrappedPipeline as WrappedPipeline
    from hagpolicy.serving.rewrite import RequestReceipt as RequestReceipt
    from hagpolicy.serving.rewrite import RewriteRules as RewriteRules
    from hagpolicy.serving.wrap import wrap as wrap
    from hagpolicy.simulated import SimulatedEngine as SimulatedEngine
    from hagpolicy.sweeping.budget import Budget as Budget
    from hagpolicy.sweeping.forecast.estimate import Preview as Preview
    from hagpolicy.sweeping.forecast.preview import preview as preview
    from hagpolicy.sweeping.forecast.progress import Progress as Progress
    from hagpolicy.sweeping.run import rescore as rescore
    from hagpolicy.sweeping.run import sweep as sweep
    from hagpolicy.sweeping.strategies.base import Observation as Observation
    from hagpolicy.sweeping.strategies.base import StrategyResult as StrategyResult
    from hagpolicy.tuning.adapters import tune_adapter as tune_adapter
    from hagpolicy.tuning.drafts import build_draft_memory as build_draft_memory
    from hagpolicy.tuning.hints import TunedHints as TunedHints
    from hagpolicy.tuning.hints import tune_hints as tune_hints
    from hagpolicy.tuning.prefixes import tune_prefix as tune_prefix
    from hagpolicy.tuning.references import build_references as build_references
    from hagpolicy.tuning.space import SpaceSuggestion as SpaceSuggestion
    from hagpolicy.tuning.space import SuggestedConfig as SuggestedConfig
    from hagpolicy.tuning.space import suggest_space as suggest_space

_HOMES = {
    "Agreement": "hagpolicy.scorers.judge.agreement",
    "Baseline": "hagpolicy.fitting.baselines.base",
    "BaselineChoices": "hagpolicy.fitting.baselines.base",
    "BestOf": "hagpolicy.analysis.objectives",
    "Budget": "hagpolicy.sweeping.budget",
    "BundleError": "hagpolicy.errors",
    "Candidate": "hagpolicy.results",
    "Completion": "hagpolicy.data.completion",
    "Decision": "hagpolicy.policy.decision",
    "Constraint": "hagpolicy.config.constraints",
    "DecodingConfig": "hagpolicy.config.config",
    "DecodingSpace": "hagpolicy.config.space",
    "Effect": "hagpolicy.analysis.effects",
    "Effects": "hagpolicy.analysis.effects",
    "Encoder": "hagpolicy.fitting.encoders.base",
    "Engine": "hagpolicy.engines.base",
    "EngineError": "hagpolicy.errors",
    "ScorerError": "hagpolicy.errors",
    "Estimate": "hagpolicy.results",
    "Evaluation": "hagpolicy.results",
    "EvaluationRow": "hagpolicy.results",
    "Explanation": "hagpolicy.policy.explanation",
    "FittedLearner": "hagpolicy.fitting.learners.base",
    "ForeignSweep": "hagpolicy.errors",
    "FunctionScorer": "hagpolicy.scorers.functions",
    "GraphBuilder": "hagpolicy.fitting.graphs.builder",
    "HagError": "hagpolicy.errors",
    "Headroom": "hagpolicy.analysis.headroom",
    "InvalidInput": "hagpolicy.errors",
    "Learner": "hagpolicy.fitting.learners.base",
    "Look": "hagpolicy.data.looks",
    "Majority": "hagpolicy.analysis.objectives",
    "MissingExtra": "hagpolicy.errors",
    "Objective": "hagpolicy.analysis.objectives",
    "Observation": "hagpolicy.sweeping.strategies.base",
    "PairedComparison": "hagpolicy.analysis.paired",
    "PassAtK": "hagpolicy.analysis.objectives",
    "Policy": "hagpolicy.policy.policy",
    "Portfolio": "hagpolicy.analysis.portfolio",
    "PrecomputedEncoder": "hagpolicy.fitting.encoders.precomputed",
    "Preview": "hagpolicy.sweeping.forecast.estimate",
    "Priced": "hagpolicy.analysis.objectives",
    "Progress": "hagpolicy.sweeping.forecast.progress",
    "Prompt": "hagpolicy.data.prompts",
    "PromptValues": "hagpolicy.results",
    "Quantile": "hagpolicy.analysis.objectives",
    "RayEngine": "hagpolicy.engines.ray.engine",
    "Receipt": "hagpolicy.config.render",
    "Rendering": "hagpolicy.config.render",
    "Request": "hagpolicy.data.completion",
    "RequestReceipt": "hagpolicy.serving.rewrite",
    "Reward": "hagpolicy.analysis.objectives",
    "RewriteRules": "hagpolicy.serving.rewrite",
    "Score": "hagpolicy.scorers.base",
    "Scorer": "hagpolicy.scorers.base",
    "SimulatedEngine": "hagpolicy.simulated",
    "SpaceSuggestion": "hagpolicy.tuning.space",
    "StoreError": "hagpolicy.errors",
    "StrategyResult": "hagpolicy.sweeping.strategies.base",
    "SuggestedConfig": "hagpolicy.tuning.space",
    "SweepLocked": "hagpolicy.errors",
    "SweepTable": "hagpolicy.data.table",
    "TransformerEncoder": "hagpolicy.fitting.encoders.transformer",
    "TunedHints": "hagpolicy.tuning.hints",
    "UnsupportedSetting": "hagpolicy.errors",
    "WrappedLLM": "hagpolicy.serving.llm",
    "WrappedModel": "hagpolicy.serving.model",
    "WrappedPipeline": "hagpolicy.serving.pipeline",
    "build_draft_memory": "hagpolicy.tuning.drafts",
    "build_references": "hagpolicy.tuning.references",
    "compare": "hagpolicy.analysis.paired",
    "effects": "hagpolicy.analysis.effects",
    "evaluate": "hagpolicy.analysis.evaluation",
    "DistilledRules": "hagpolicy.fitting.distill",
    "RuleLine": "hagpolicy.fitting.distill",
    "distill_rules": "hagpolicy.fitting.distill",
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
    "suggest_space": "hagpolicy.tuning.space",
    "sweep": "hagpolicy.sweeping.run",
    "tune_adapter": "hagpolicy.tuning.adapters",
    "tune_hints": "hagpolicy.tuning.hints",
    "tune_prefix": "hagpolicy.tuning.prefixes",
    "until_proven": "hagpolicy.fitting.until",
    "with_vectors": "hagpolicy.fitting.encoders.precomputed",
    "wrap": "hagpolicy.serving.wrap",
    "write_report": "hagpolicy.reporting.page",
}

__version__ = "0.1.0"
__all__ = sorted([*_HOMES, "__version__"])


if not TYPE_CHECKING:  # to a type checker a module with __getattr__ has every name, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'hagpolicy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
