"""Which subnets one optimiser step trains: the strategies, behind one protocol.

A strategy is a pure function of the space, the step and a random generator. It keeps no state of
its own, and the generator of a step is made from (seed, step) alone: every rank of a distributed
run draws the same subnets without talking, and a resumed run draws what the interrupted one would
have drawn.

================  =================================================================================
`SortedNet`       random subnets, gradients accumulated, no teacher
`Sandwich`        largest, smallest and random ones; the largest teaches the others in place
`Progressive`     mostly the full net at first, mostly subnets at last; the full net teaches
`Alone`           one subnet in every step: pretraining of the full net, and the separate baseline
================  =================================================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nestling.errors import TrainError

if TYPE_CHECKING:
    from nestling.elastic import Subnet, SubnetSpace


@dataclass(frozen=True)
class Draw:
    """One forward and backward pass of a step.

    Attributes:
        subnet: What runs.
        weight: Factor of its loss in the step's sum; the weights of a step sum to 1.
        teaches: Whether its output, detached, becomes the target of the distilled draws after it.
        distill: Share of the distillation loss in this draw's loss, in [0, 1]; 0 means labels only.
            A draw that distils must come after one that teaches.
    """

    subnet: Subnet
    weight: float
    teaches: bool = False
    distill: float = 0.0


@runtime_checkable
class Strategy(Protocol):
    """What the trainer asks: the draws of a step, and what part of the batch each gets."""

    @property
    def split_batch(self) -> bool:
        """Whether draw i sees the i-th part of the batch instead of the whole one."""
        ...

    def draw(
        self, space: SubnetSpace, step: int, steps: int, rng: random.Random
    ) -> tuple[Draw, ...]:
        """Return the passes of `step` (0-based, of `steps`), at least one, in order."""
        ...


def step_rng(seed: int, step: int) -> random.Random:
    """Return the generator of one step: the same on every rank, and after every resume."""
    return random.Random(f"nestling/{seed}/{step}")


@dataclass(frozen=True)
class SortedNet:
    """Random subnets, gradients accumulated (SortedNet, Valipour et al., arXiv 2309.00255).

    Each step draws `subnets_per_step` subnets from the space, independently and with no bias to any
    size, runs each on a micro-batch of its own, and updates once with the mean of the gradients.
    Shared prefixes are trained by all of them; no teacher and no search is needed.

    Attributes:
        subnets_per_step: Draws per update (the paper's number of accumulation steps).
        split_batch: True: each draw takes its part of the batch, as in the paper, and a step costs
            about as much as one plain step. False: each draw sees the whole batch, at as many times
            the cost.
    """

    subnets_per_step: int = 4
    split_batch: bool = True

    def __post_init__(self) -> None:
        _at_least(1, subnets_per_step=self.subnets_per_step)

    def draw(
        self, space: SubnetSpace, step: int, steps: int, rng: random.Random
    ) -> tuple[Draw, ...]:
        """Draw from the whole space, every time anew."""
        weight = 1.0 / self.subnets_per_step
        return tuple(Draw(space.sample(rng), weight) for _ in range(self.subnets_per_step))


@dataclass(frozen=True)
class Sandwich:
    """The sandwich rule with in-place distillation (US-Net, Yu and Huang, arXiv 1903.05134).

    Each step runs the largest net on the labels, then the smallest, then `subnets_per_step - 2`
    random ones; all but the largest learn from the largest net's output of this very step. Training
    both ends pulls up everything between them.

    Attributes:
        subnets_per_step: Draws per update, at least 2 (the paper's n, 4 there).
        distill: Share of the teacher in the loss of the smaller nets (1.0 in the paper: no labels
            at all).
        full_weight: Weight of the largest net's loss against 1 for each other one (1.0 in the
            paper); larger values guard the full net's accuracy.
    """

    subnets_per_step: int = 4
    distill: float = 1.0
    full_weight: float = 1.0

    def __post_init__(self) -> None:
        _at_least(2, subnets_per_step=self.subnets_per_step)
        _share(distill=self.distill)
        if not self.full_weight > 0.0:
            raise TrainError("full_weight must be positive", actual=self.full_weight)

    @property
    def split_batch(self) -> bool:
        """Teacher and pupils must see the same inputs."""
        return False

    def draw(
        self, space: SubnetSpace, step: int, steps: int, rng: random.Random
    ) -> tuple[Draw, ...]:
        """Both ends, then the random ones between."""
        total = self.full_weight + self.subnets_per_step - 1
        largest = Draw(space.full(), self.full_weight / total, teaches=True)
        others = [space.smallest()]
        others += [space.sample(rng) for _ in range(self.subnets_per_step - 2)]
        return (largest, *(Draw(subnet, 1.0 / total, distill=self.distill) for subnet in others))


@dataclass(frozen=True)
class Progressive:
    """The share of subnet updates grows over time, in three phases (VARiant, arXiv 2511.16546).

    A fixed ratio trades the full net against the subnets. So the first phase gives subnets a small,
    fixed share of the updates, the second raises it linearly, and the third keeps the last share.
    Each draw is a random subnet with the share's probability, else the full net. Draws of the full
    net are merged into one pass which carries their weight and, where there is one, teaches the
    others.

    Attributes:
        subnets_per_step: Draws per update.
        first_share: Share of subnet draws in phase one (0.2 in the paper: subnets to full net 2:8).
        last_share: Share in phase three (1.0 in the paper: 10:0); below 1 the full net stays in
            training.
        first_end: Where phase one ends, as a share of all steps (0.2: 5 of 25 epochs).
        second_end: Where phase two ends (0.8: 20 of 25 epochs).
        distill: Share of the teacher in the loss of the subnets of a step which also drew the full
            net.
    """

    subnets_per_step: int = 4
    first_share: float = 0.2
    last_share: float = 1.0
    first_end: float = 0.2
    second_end: float = 0.8
    distill: float = 0.0

    def __post_init__(self) -> None:
        _at_least(1, subnets_per_step=self.subnets_per_step)
        _share(
            first_share=self.first_share,
            last_share=self.last_share,
            first_end=self.first_end,
            second_end=self.second_end,
            distill=self.distill,
        )
        if self.second_end < self.first_end:
            raise TrainError(
                "phase two must not end before phase one",
                expected=f"second_end of at least {self.first_end}",
                actual=self.second_end,
            )

    @property
    def split_batch(self) -> bool:
        """Teacher and pupils must see the same inputs."""
        return False

    def share(self, step: int, steps: int) -> float:
        """Return the probability that one draw of `step` is a subnet, not the full net."""
        done = step / steps
        if done < self.first_end:
            return self.first_share
        if done >= self.second_end:
            return self.last_share
        risen = (done - self.first_end) / (self.second_end - self.first_end)
        return self.first_share + risen * (self.last_share - self.first_share)

    def draw(
        self, space: SubnetSpace, step: int, steps: int, rng: random.Random
    ) -> tuple[Draw, ...]:
        """Toss the phase's coin for each draw."""
        share = self.share(step, steps)
        subnets = []
        for _ in range(self.subnets_per_step):
            if rng.random() < share:
                subnets.append(space.sample(rng))
        weight = 1.0 / self.subnets_per_step
        full_draws = self.subnets_per_step - len(subnets)
        if not full_draws:
            return tuple(Draw(subnet, weight) for subnet in subnets)
        full = Draw(space.full(), full_draws * weight, teaches=True)
        return (full, *(Draw(subnet, weight, distill=self.distill) for subnet in subnets))


@dataclass(frozen=True)
class Alone:
    """One subnet in every step, the plain training of one net.

    Attributes:
        subnet: What to train; None means the full net.
    """

    subnet: Subnet | None = None

    @property
    def split_batch(self) -> bool:
        """One draw takes the whole batch."""
        return False

    def draw(
        self, space: SubnetSpace, step: int, steps: int, rng: random.Random
    ) -> tuple[Draw, ...]:
        """Return the one draw there is."""
        return (Draw(space.full() if self.subnet is None else self.subnet, 1.0),)


STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "sorted": SortedNet,
    "sandwich": Sandwich,
    "progressive": Progressive,
    "full": Alone,
}


def make_strategy(name: str, **options: Any) -> Strategy:
    """Return the strategy called `name`, with its own parameters set from `options`.

    Raises:
        TrainError: No strategy has that name, or it has no such parameter, or a value is out of
            range.
    """
    if name not in STRATEGIES:
        raise TrainError(
            f"no training strategy is called {name!r}", expected=", ".join(STRATEGIES), actual=name
        )
    kind = STRATEGIES[name]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(options) - known)
    if unknown:
        raise TrainError(
            f"strategy {name!r} has no parameter {unknown[0]!r}",
            expected=", ".join(sorted(known)) or "none",
        )
    return kind(**options)


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise TrainError(f"{name} is too small", expected=f"at least {least}", actual=value)


def _share(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise TrainError(f"{name} is not a share", expected="0 to 1", actual=value)
