"""The networks of the experts' demo: cut into stages they compute the same, and they learn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nestling.experts.operator import resident_experts
from nestling.partition.chain import Chain
from nestling.recipes.experts import noise, vision
from nestling.recipes.experts.diffusion import DiffusionTraining, DigitDiffusion, train_diffusion
from nestling.recipes.experts.digit_tasks import TASKS, held_out
from nestling.recipes.experts.stages import (
    REUSE,
    SHALLOW,
    WHOLE,
    diffusion_chain,
    task_chain,
)
from nestling.recipes.experts.vision import TaskTraining, TaskViT, train_tasks


@pytest.fixture(scope="module")
def tasks() -> TaskViT:
    return vision.build().eval()


@pytest.fixture(scope="module")
def diffusion() -> DigitDiffusion:
    torch.manual_seed(0)
    model = DigitDiffusion().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # what begins as zero says nothing
    return model


@torch.no_grad()
def run(chain: Chain, path: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run a path's stages in torch, one after the other."""
    with resident_experts(chain.banks()):
        for name in chain.paths[path].stages:
            stage = chain.stages[name]
            found = stage.module(*[values[slot] for slot in stage.inputs])
            given = found if isinstance(found, tuple) else (found,)
            values.update(zip(stage.outputs, given, strict=True))
    return values


@torch.no_grad()
def test_a_path_of_each_task_computes_that_task(tasks: TaskViT) -> None:
    chain = task_chain(tasks)
    assert tuple(chain.paths) == TASKS
    pixels = held_out("digit")[0][:1]
    for task in TASKS:
        found = run(chain, task, {"pixels": pixels})[task]
        torch.testing.assert_close(found, tasks(pixels, task), rtol=1e-5, atol=1e-5)


def test_tasks_part_only_in_routers_and_heads(tasks: TaskViT) -> None:
    paths = {task: path.stages for task, path in task_chain(tasks).paths.items()}
    for first, second in zip(*(paths[task] for task in ("digit", "repair")), strict=True):
        assert first == second or first.rpartition(".")[2] == "digit"


@torch.no_grad()
def test_all_tasks_at_once_are_each_alone(tasks: TaskViT) -> None:
    batches = [held_out(task)[0][:3] for task in TASKS]
    together, losses = tasks.run_all(batches)
    for task, pixels, found in zip(TASKS, batches, together, strict=True):
        torch.testing.assert_close(found, tasks(pixels, task), rtol=1e-4, atol=1e-5)
    assert losses.shape == (2,) and losses[0] > 0


@torch.no_grad()
@pytest.mark.parametrize(("path", "shallow"), [(WHOLE, False), (SHALLOW, True)])
def test_paths_of_the_diffusion_model(diffusion: DigitDiffusion, path: str, shallow: bool) -> None:
    chain = diffusion_chain(diffusion)
    pixels, digit = torch.randn(1, 1, 8, 8), torch.tensor([3])
    for step in (torch.tensor([0]), torch.tensor([noise.STEPS - 1])):
        found = run(chain, path, {"pixels": pixels, "step": step, "digit": digit})["velocity"]
        wanted = diffusion(pixels, step, digit, shallow)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_reuse_adds_what_was_kept(diffusion: DigitDiffusion) -> None:
    chain = diffusion_chain(diffusion)
    inputs = {
        "pixels": torch.randn(1, 1, 8, 8),
        "step": torch.tensor([5]),
        "digit": torch.tensor([3]),
    }
    whole = run(chain, WHOLE, dict(inputs))
    # At the same step, what is kept is what would be computed.
    reused = run(chain, REUSE, {**inputs, "kept": whole["kept"]})
    torch.testing.assert_close(reused["velocity"], whole["velocity"], rtol=1e-4, atol=1e-4)


def test_the_step_alone_chooses_experts(diffusion: DigitDiffusion) -> None:
    experts = next(b.experts for b in diffusion.blocks if b.experts is not None)
    assert isinstance(experts, nn.Module)
    h = torch.randn(2, 16, 64)
    same = experts(h, torch.tensor([4, 4]))
    for row in range(2):
        alone = experts(h[row : row + 1], torch.tensor([4]))
        torch.testing.assert_close(alone, same[row : row + 1], rtol=1e-4, atol=1e-5)


def test_training_moves_the_networks() -> None:
    model = train_tasks(TaskTraining(updates=2, batch=2), ("digit", "repair"))
    assert any_differs(model, vision.build(("digit", "repair")))
    drawn = train_diffusion(True, DiffusionTraining(updates=2, batch=2))
    again = train_diffusion(True, DiffusionTraining(updates=2, batch=2))
    for one, other in zip(drawn.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def any_differs(first: nn.Module, second: nn.Module) -> bool:
    pairs: Iterator[tuple[Tensor, Tensor]] = zip(
        first.parameters(), second.parameters(), strict=True
    )
    return any(not torch.equal(one, other) for one, other in pairs)


def test_noise_ends_in_the_picture() -> None:
    shares = [noise.levels(step) for step in range(noise.STEPS)]
    assert all(abs(alpha**2 + sigma**2 - 1.0) < 1e-9 for alpha, sigma in shares)
    assert all(a[1] < b[1] for a, b in itertools.pairwise(shares))
    wanted = held_out("digit")[0][:1].numpy()

    def velocity(pixels: noise.Picture, step: int, digit: int, path: str) -> noise.Picture:
        alpha, sigma = noise.levels(step)
        # Of a network that knows the picture.
        result: noise.Picture = alpha * (pixels - alpha * wanted) / sigma - sigma * wanted
        return result

    start = torch.randn(1, 1, 8, 8).numpy()
    found = noise.draw_picture(velocity, noise.same_path("whole"), 3, start)
    assert abs(found - wanted).max() < 1e-4


def test_policies_name_a_path_for_every_step() -> None:
    depth = noise.by_noise("depth", "shallow", "whole", 0.25)
    assert depth.paths.count("shallow") == noise.STEPS // 4
    assert depth.paths[-1] == "shallow" and depth.paths[0] == "whole"
    reuse = noise.every("reuse", "whole", "reuse", 3)
    # Something is kept before it is reused.
    assert reuse.paths[-1] == "whole"
    assert reuse.paths.count("whole") == noise.STEPS // 3
