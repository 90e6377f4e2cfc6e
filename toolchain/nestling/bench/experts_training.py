"""Trains the networks of the experts' demo, two at a time, and keeps them beside its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from nestling.recipes.experts import diffusion, vision
from nestling.recipes.experts.diffusion import DiffusionTraining, DigitDiffusion, train_diffusion
from nestling.recipes.experts.digit_tasks import TASKS, Task
from nestling.recipes.experts.vision import TaskTraining, TaskViT, train_tasks
from nestling.training.checkpoint import read_checkpoint, write_checkpoint

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class DigitTraining:
    """How the demo trains; smaller numbers make a quick and worse demo.

    Attributes:
        tasks: Of the network of tasks, and of each network of one task.
        diffusion: Of both diffusion models.
    """

    tasks: TaskTraining = field(default_factory=TaskTraining)
    diffusion: DiffusionTraining = field(default_factory=DiffusionTraining)


@dataclass(frozen=True)
class DigitNetworks:
    """What was trained.

    Attributes:
        tasks: All tasks in one, with experts.
        singles: A dense network of each task alone.
        diffusion: With experts that the step chooses.
        dense_diffusion: Without experts.
    """

    tasks: TaskViT
    singles: Mapping[Task, TaskViT]
    diffusion: DigitDiffusion
    dense_diffusion: DigitDiffusion


def train_networks(
    folder: Path,
    config: DigitTraining,
    *,
    jobs: int = 2,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> DigitNetworks:
    """Train everything that `folder` does not hold yet, made with the same settings.

    Args:
        folder: Takes a file a network.
        config: See there.
        jobs: Processes, each of the settings' number of threads.
        progress: Told about each finished network.

    Raises:
        TrainError: A file is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The longest first.
    names = ["tasks", "diffusion", "diffusion-dense", *(f"task-{task}" for task in TASKS)]
    wanted = [name for name in names if _settings(folder / f"{name}.pt") != _describe(name, config)]
    if wanted:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            started = {pool.submit(_train, name, config, folder): name for name in wanted}
            for count, future in enumerate(as_completed(started), 1):
                future.result()
                progress(count, len(wanted), started[future])
    return DigitNetworks(
        _restore(vision.build(), folder / "tasks.pt"),
        {
            task: _restore(vision.build((task,), experts=False), folder / f"task-{task}.pt")
            for task in TASKS
        },
        _restore(diffusion.DigitDiffusion(), folder / "diffusion.pt"),
        _restore(diffusion.DigitDiffusion(experts=False), folder / "diffusion-dense.pt"),
    )


def _train(name: str, config: DigitTraining, folder: Path) -> None:
    model: nn.Module
    if name.startswith("diffusion"):
        model = train_diffusion(name == "diffusion", config.diffusion)
    elif name == "tasks":
        model = train_tasks(config.tasks)
    else:
        model = train_tasks(config.tasks, (_task(name),), experts=False)
    content = {"settings": _describe(name, config), "model": model.state_dict()}
    write_checkpoint(folder / f"{name}.pt", content)


def _task(name: str) -> Task:
    return next(task for task in TASKS if name == f"task-{task}")


def _describe(name: str, config: DigitTraining) -> str:
    part: Any = config.diffusion if name.startswith("diffusion") else config.tasks
    return json.dumps(asdict(part))


def _settings(file: Path) -> str | None:
    return str(read_checkpoint(file)["settings"]) if file.exists() else None


def _restore(model: _Network, file: Path) -> _Network:
    model.load_state_dict(read_checkpoint(file)["model"])
    return model.eval()
