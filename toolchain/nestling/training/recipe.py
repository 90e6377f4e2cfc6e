"""A recipe is a model, its data and a way to train it; running one leaves a supernet on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from nestling.elastic import Supernet, save, sort_units
from nestling.elastic.block import Method
from nestling.errors import TrainError
from nestling.training.config import TrainConfig
from nestling.training.data import Augment, BatchOrder, as_batch, make_loader
from nestling.training.distributed import join_team
from nestling.training.evaluation import Metric, predict, top1
from nestling.training.sampling import Alone
from nestling.training.threads import torch_threads
from nestling.training.trainer import FitResult, Loss, Trainer

SUPERNET_NAME = "supernet.pt"
REPORT_NAME = "report.json"


@dataclass(frozen=True)
class RecipeData:
    """What to learn from, and what to be judged by.

    Attributes:
        train: Map-style data set of `(*inputs, target)`.
        inputs: The held-out inputs, one tensor for each input of the model; never trained on.
        target: The held-out targets.
    """

    train: Dataset[Any]
    inputs: tuple[Tensor, ...]
    target: Tensor


@dataclass(frozen=True)
class Recipe:
    """What `nestling train` runs.

    Attributes:
        name: Short, as the command line takes it.
        summary: One line for listings.
        build: Makes the untrained (or pretrained) supernet; must be repeatable, so it seeds itself.
        data: Loads the data.
        loss: Mean loss of output against target.
        config: How the subnets are trained together.
        pretrain: How the full net is trained before its units are sorted; None if `build` gives a
            trained one. Units of an untrained net have no importance yet to be sorted by.
        sort_method: "magnitude", "activation" or "taylor": by what the units are ranked.
        augment: Changes training batches.
        metric: Quality on held-out data, larger is better.
        metric_name: What the reports call it.
    """

    name: str
    summary: str
    build: Callable[[], Supernet]
    data: Callable[[], RecipeData]
    loss: Loss
    config: TrainConfig
    pretrain: TrainConfig | None = None
    sort_method: Method = "magnitude"
    augment: Augment | None = None
    metric: Metric = top1
    metric_name: str = "accuracy"


@dataclass(frozen=True)
class RecipeResult:
    """What a run left.

    Attributes:
        supernet: Trained, in eval mode, on the CPU.
        quality: Metric of every named path on the held-out data.
        fits: How each phase ended.
        path: Where the supernet was saved; None if nowhere.
    """

    supernet: Supernet
    quality: dict[str, float]
    fits: tuple[FitResult, ...]
    path: Path | None = field(default=None)


def run_recipe(
    recipe: Recipe | str,
    config: TrainConfig | None = None,
    out_dir: Path | str | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> RecipeResult:
    """Pretrain the full net, sort its units, train the subnets together, measure the named ones.

    Writes into `out_dir`: `full/` and `nested/` (checkpoint and log of each phase), `supernet.pt`
    (for `nestling.elastic.load`) and `report.json`. Under `torchrun` only the first process writes.

    Args:
        recipe: A recipe, or what `nestling.recipes.find_recipe` takes: a name or a Python file.
        config: Instead of the recipe's own; its `seed`, `device`, `amp` and `workers` also hold for
            the pretraining.
        out_dir: None keeps nothing.
        resume: Go on where an interrupted run into `out_dir` stopped, exactly.
        progress: Whether to show progress bars.

    Raises:
        TrainError: See `Trainer.fit`; or there is no such recipe.
    """
    if isinstance(recipe, str):
        from nestling.recipes import (
            find_recipe,
        )  # Recipes know this module; it knows them by name only.

        recipe = find_recipe(recipe)
    config = config or recipe.config
    folder = Path(out_dir) if out_dir is not None else None
    with join_team(config.device) as team, torch_threads(config.threads):
        data = recipe.data()
        supernet = recipe.build()
        fits = []
        if recipe.pretrain is not None:
            fits.append(_pretrain(recipe, config, supernet, data, folder, resume, progress))
        _sort(recipe, config, supernet, data)
        fits.append(
            Trainer(
                supernet,
                config,
                recipe.loss,
                data.train,
                augment=recipe.augment,
                out_dir=folder / "nested" if folder else None,
                progress=progress,
                title=f"{recipe.name}: subnets",
            ).fit(resume=resume)
        )
        supernet.to("cpu").eval()
        quality = {
            name: recipe.metric(predict(supernet, subnet, data.inputs), data.target)
            for name, subnet in supernet.space.named.items()
        }
        path = None if folder is None else folder / SUPERNET_NAME
        if folder is not None and path is not None and team.leads:
            save(supernet, path)
            _report(recipe, config, quality, fits, folder / REPORT_NAME)
        team.barrier()
    return RecipeResult(supernet, quality, tuple(fits), path)


def _pretrain(
    recipe: Recipe,
    config: TrainConfig,
    supernet: Supernet,
    data: RecipeData,
    folder: Path | None,
    resume: bool,
    progress: bool,
) -> FitResult:
    assert recipe.pretrain is not None
    pretrain = recipe.pretrain.replace(
        seed=config.seed,
        device=config.device,
        amp=config.amp,
        workers=config.workers,
        threads=config.threads,
    )
    return Trainer(
        supernet,
        pretrain,
        recipe.loss,
        data.train,
        augment=recipe.augment,
        out_dir=folder / "full" if folder else None,
        strategy=Alone(),
        progress=progress,
        title=f"{recipe.name}: full net",
    ).fit(resume=resume)


def _sort(recipe: Recipe, config: TrainConfig, supernet: Supernet, data: RecipeData) -> None:
    """Sort the units by importance, over one pass of the data where the method looks at data."""
    inputs = len(supernet.input_names)

    def loss(output: Tensor, batch: object) -> Tensor:
        target = as_batch(batch, inputs)[-1]
        return recipe.loss(output, target.to(output.device))

    samples = len(data.train)  # type: ignore[arg-type]
    order = BatchOrder(
        samples, config.batch_size, max(1, samples // config.batch_size), seed=config.seed
    )
    batches = (as_batch(sample, inputs) for sample in make_loader(data.train, order))
    sort_units(supernet, recipe.sort_method, batches, loss)


def _report(
    recipe: Recipe,
    config: TrainConfig,
    quality: dict[str, float],
    fits: list[FitResult],
    path: Path,
) -> None:
    report = {
        "recipe": recipe.name,
        "metric": recipe.metric_name,
        "quality": quality,
        "seconds": round(sum(fit.seconds for fit in fits), 3),
        "config": config.to_dict(),
    }
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainError(f"cannot write {path}: {error.strerror}") from error
