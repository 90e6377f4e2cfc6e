"""How a model's experts are held in a measurement: room, storage, policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nestling.errors import NestlingError
from nestling_runtime import Model
from nestling_runtime.experts import Eviction, ExpertOrder, ExpertPredictor, ModelExperts, OnMiss

STORAGES = {"1500MBps": 1_500_000_000, "200MBps": 200_000_000}
"""Emulated storage, in bytes a second: a good phone's flash, and a card's."""

POLICIES: tuple[Eviction, ...] = ("foresight", "lru", "lfu", "least-stale", "activation")
OURS: Eviction = "foresight"


@dataclass(frozen=True)
class Setting:
    """How experts are held; see `nestling_runtime`'s `model.experts.configure`.

    Attributes:
        room: For how many experts there is memory; None: all.
        storage: Bytes a second that storage gives; 0: as fast as it is.
        eviction: Which resident expert gives way.
        predictor: What is read ahead.
        on_miss: What is done about an expert that is not there.
        order: In which order tokens meet experts.
        bits: That experts answer with.
    """

    room: int | None = None
    storage: int = 0
    eviction: Eviction = OURS
    predictor: ExpertPredictor = "router"
    on_miss: OnMiss = "wait"
    order: ExpertOrder = "auto"
    bits: Literal[4, 8] = 8

    def apply(self, model: Model) -> None:
        """Begin anew with this setting; without a limit of room, load all."""
        experts = experts_of(model)
        each = experts.slot_bytes * experts.slices
        experts.configure(
            budget_bytes=0 if self.room is None else self.room * each,
            storage_bytes_per_s=self.storage,
            eviction=self.eviction,
            predictor=self.predictor,
            on_miss=self.on_miss,
            order=self.order,
            bits=self.bits,
        )
        if self.room is None:
            experts.load()


def experts_of(model: Model) -> ModelExperts:
    """Return a model's experts.

    Raises:
        NestlingError: The bundle has none.
    """
    if model.experts is None:
        raise NestlingError("the bundle has no experts", hint="export a network that has some")
    return model.experts


def expert_bytes(dim: int, hidden: int, group: int, matrices: int = 2) -> int:
    """Return the bytes of an expert of 8 bits: weights, and a scale of 16 bits a group."""
    weights = matrices * dim * hidden
    return weights + 2 * weights // group
