"""Training: all subnets of a supernet together.

`Trainer` is the loop; `sampling` says which subnets a step runs; `run_recipe` is what `nestling
train`
calls: pretrain, sort, train, measure, save.
"""

from __future__ import annotations

from nestling.training.config import TrainConfig, load_config
from nestling.training.data import Augment, Batch, BatchOrder
from nestling.training.distillation import blend, distillation_loss
from nestling.training.distributed import Team, join_team
from nestling.training.evaluation import (
    Metric,
    Retention,
    accuracy,
    measure_retention,
    predict,
    sample_subnets,
    top1,
)
from nestling.training.optimize import learning_rate
from nestling.training.recipe import (
    Recipe,
    RecipeData,
    RecipeResult,
    run_recipe,
)
from nestling.training.sampling import (
    STRATEGIES,
    Alone,
    Draw,
    Progressive,
    Sandwich,
    SortedNet,
    Strategy,
    make_strategy,
    step_rng,
)
from nestling.training.threads import torch_threads
from nestling.training.trainer import FitResult, Loss, Trainer

__all__ = [
    "STRATEGIES",
    "Alone",
    "Augment",
    "Batch",
    "BatchOrder",
    "Draw",
    "FitResult",
    "Loss",
    "Metric",
    "Progressive",
    "Recipe",
    "RecipeData",
    "RecipeResult",
    "Retention",
    "Sandwich",
    "SortedNet",
    "Strategy",
    "Team",
    "TrainConfig",
    "Trainer",
    "accuracy",
    "blend",
    "distillation_loss",
    "join_team",
    "learning_rate",
    "load_config",
    "make_strategy",
    "measure_retention",
    "predict",
    "run_recipe",
    "sample_subnets",
    "step_rng",
    "top1",
    "torch_threads",
]
