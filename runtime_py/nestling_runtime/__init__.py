"""nestling on the device: open a bundle, select a path, run, switch.

    import nestling_runtime

    with nestling_runtime.open("digits.nest") as model, model.session() as session:
        session.select("tiny")
        logits = session.run(image=image)["logits"]
        session.select("full")                       # a switch: nothing is copied or loaded twice

Needs numpy and the shared libraries of the executorch wheel; imports neither torch nor executorch.
"""

from __future__ import annotations

from nestling_runtime.bundle import Bundle
from nestling_runtime.decoder import Decoder, Generation, Sampling
from nestling_runtime.decoder_pool import DecoderPool
from nestling_runtime.engine import Model, open_model
from nestling_runtime.errors import (
    BudgetError,
    BundleError,
    CancelledError,
    ContextError,
    EngineError,
    NestlingError,
    PathError,
    SignatureError,
    TargetError,
)
from nestling_runtime.native import version
from nestling_runtime.placement import Fallback, Placement, TargetState
from nestling_runtime.policy import BudgetPolicy, Policy
from nestling_runtime.routing import LayerRouting, RouteChoice
from nestling_runtime.session import Session
from nestling_runtime.soft_thinking import SoftThinking
from nestling_runtime.steering import Steering, SteeringVector
from nestling_runtime.thinking_budget import ThinkingBudget
from nestling_runtime.token_policy import (
    Choice,
    ConfidenceExit,
    CustomPolicy,
    EntropySwitch,
    FixedPath,
    SelfSpeculation,
    TokenPolicy,
    TokenRate,
)

open = open_model

__all__ = [
    "BudgetError",
    "BudgetPolicy",
    "Bundle",
    "BundleError",
    "CancelledError",
    "Choice",
    "ConfidenceExit",
    "ContextError",
    "CustomPolicy",
    "Decoder",
    "DecoderPool",
    "EngineError",
    "EntropySwitch",
    "Fallback",
    "FixedPath",
    "Generation",
    "LayerRouting",
    "Model",
    "NestlingError",
    "PathError",
    "Placement",
    "Policy",
    "RouteChoice",
    "Sampling",
    "SelfSpeculation",
    "Session",
    "SignatureError",
    "SoftThinking",
    "Steering",
    "SteeringVector",
    "TargetError",
    "TargetState",
    "ThinkingBudget",
    "TokenPolicy",
    "TokenRate",
    "open",
    "version",
]
