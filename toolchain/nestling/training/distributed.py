"""One process or several: what `torchrun` says, and the few collective calls there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from nestling.errors import TrainError


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: This one's number.
        world: How many there are.
        local_rank: This one's number on its machine, which picks its GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in order of rank, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def mean(self, values: list[float]) -> list[float]:
        """Return the mean over the ranks of each number."""
        gathered = self.gather(values)
        return [sum(column) / self.world for column in zip(*gathered, strict=True)]


@contextmanager
def join_team(device: str = "auto") -> Iterator[Team]:
    """Join the processes that `torchrun` started, for the length of a `with` block.

    Reads RANK, WORLD_SIZE and LOCAL_RANK. Uses NCCL for GPUs and gloo otherwise. A process group
    that exists already is used and left standing.

    Raises:
        TrainError: The environment names a world but no rank, or the processes do not find each
            other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_available() and dist.is_initialized():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        yield Team(dist.get_rank(), dist.get_world_size(), local)
        return
    if world == 1:
        yield Team()
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        rank = int(os.environ["RANK"])
        team = Team(rank, world, int(os.environ.get("LOCAL_RANK", rank)))
        if on_gpu:
            torch.cuda.set_device(team.local_rank)
        dist.init_process_group("nccl" if on_gpu else "gloo")
    except (KeyError, ValueError, RuntimeError) as error:
        raise TrainError(
            f"cannot join {world} training processes: {error}", hint="start them with torchrun"
        ) from error
    try:
        yield team
    finally:
        dist.destroy_process_group()


def pick_device(wanted: str, team: Team) -> torch.device:
    """Return the device of this process.

    Raises:
        TrainError: The device does not exist here.
    """
    name = wanted
    if wanted == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{team.local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainError(f"there is no device {wanted!r}", expected="cpu, cuda, cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainError(
            f"there is no device {wanted!r}",
            expected=f"one of {torch.cuda.device_count()} GPUs, or cpu",
        )
    return device
