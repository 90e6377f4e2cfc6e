"""The expert layer: a residual feed-forward block of which each token takes a few experts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nestling.elastic.activation import activation_module
from nestling.elastic.block import ElasticBlock
from nestling.elastic.feed_forward import FeedForward
from nestling.errors import ModelError
from nestling.experts.bank import ExpertBank, ExpertShape, StackedExperts
from nestling.experts.operator import experts as experts_operator
from nestling.experts.routing import (
    RepresentativeRouter,
    Router,
    Routing,
    expert_layers,
    route,
)
from nestling.partition.modules import BlockStage

ONLY_TASK = "router"
"""Name of the router of a layer without tasks."""


class ExpertFeedForward(ElasticBlock):
    """`x + sum of weight * expert(norm(x)) over the chosen experts + shared(norm(x))`.

    It stands in a chain where an `ElasticFeedForward` does, with one level. Several routers, each
    by the name of a task (or of a step of a loop), share its experts; `task` says whose counts.

    Args:
        bank: The experts.
        shared: A feed-forward module `(..., dim) -> (..., dim)` that every token takes.
        shared_gate: Whether the shared result is weighted by a sigmoid of a product (Qwen2-MoE).
        tasks: Names of the tasks; none: one router for everything.
        router: Makes a router of width and number of experts; `Router` by default.
        norm: Applied before. Default: a LayerNorm.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.
        dropout: See `ElasticBlock`.

    Attributes:
        task: whose router `forward` uses; the first by default.
        listener: told what each call did; see `record_routing`.
    """

    def __init__(
        self,
        bank: ExpertBank,
        *,
        shared: nn.Module | None = None,
        shared_gate: bool = False,
        tasks: Sequence[str] = (),
        router: Callable[[int, int], nn.Module] = Router,
        norm: nn.Module | None = None,
        name: str = "",
        layer: int = -1,
        skippable: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            units=1,
            widths=(1,),
            name=name,
            layer=layer,
            skippable=skippable,
            norm=nn.LayerNorm(bank.dim) if norm is None else norm,
            dropout=dropout,
        )
        self.bank = bank
        names = tuple(tasks) or (ONLY_TASK,)
        self.routers = nn.ModuleDict({task: router(bank.dim, bank.experts) for task in names})
        self.shared = shared
        self.shared_gate = Router(bank.dim, 1) if shared_gate else None
        self.task = names[0]
        self.listener: Callable[[Routing], None] | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the routers."""
        return tuple(self.routers)

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run router, experts and shared expert. `h` and the result: (batch, ..., dim)."""
        scores = self._router(self.task)(h)
        hidden, scores = h.reshape(-1, h.shape[-1]), scores.reshape(-1, self.bank.experts)
        if self.listener is not None:
            chosen = route(scores, self.bank.top_k, self.bank.renormalise)[1]
            self.listener(Routing(self.name, self.task, hidden, scores, chosen))
        y: Tensor = self.bank(hidden, scores).reshape(h.shape)
        return add_shared(y, h, self.shared, self.shared_gate)

    def transform_each(self, h: Tensor, levels: Tensor) -> Tensor:
        """Run every position at a level of its own; level 0 gives zeros.

        Args:
            h: (batch, positions, dim).
            levels: Integers, (batch, positions).

        Returns:
            (batch, positions, dim).
        """
        return self.transform(h, 1) * (levels > 0)[..., None]

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return the layer as a plain module with weights of its own, for the active task."""
        return PlainExperts(
            copy.deepcopy(self._router(self.task)),
            copy.deepcopy(self.bank),
            copy.deepcopy(self.shared),
            copy.deepcopy(self.shared_gate),
        )

    def part(self, level: int) -> nn.Module:
        """Refuse: what is lowered is a `stage`, and the experts are data beside it."""
        raise NotImplementedError(
            "its experts are data of a bundle; export with `nestling export-decoder` or a chain of "
            "stages (nestling.partition.chain)"
        )

    def stage(self, number: int, task: str | None = None) -> BlockStage:
        """Return `x -> x` as it is exported: all but the routed experts, which are data.

        Args:
            number: Of the layer in the bundle's expert index.
            task: Whose router; the active one by default.

        Raises:
            ModelError: There is no such task.
        """
        part = StageExperts(
            copy.deepcopy(self._router(self.task if task is None else task)),
            number,
            copy.deepcopy(self.shared),
            copy.deepcopy(self.shared_gate),
        ).eval()
        post = copy.deepcopy(self.post).eval()
        return BlockStage(self.prepare(), [part], nn.Identity(), post, residual=True)

    def batch_stage(self, number: int, tasks: Sequence[str]) -> BlockStage:
        """Return `(x, task) -> x` as `stage` does, each row of the batch with its task's router.

        Args:
            number: Of the layer in the bundle's expert index.
            tasks: Whose routers; int64 (batch,) `task` counts in this order. A layer that has one
                router uses it for all.

        Raises:
            ModelError: There is no such task.
        """
        names = tasks if len(self.routers) > 1 else (self.task,) * len(tasks)
        routers = [copy.deepcopy(self._router(task)) for task in names]
        shared = copy.deepcopy(self.shared), copy.deepcopy(self.shared_gate)
        part = StageExperts(RouterOfEachRow(routers), number, *shared).eval()
        post = copy.deepcopy(self.post).eval()
        return BlockStage(self.prepare(), [part], nn.Identity(), post, residual=True)

    def magnitude(self) -> Tensor:
        """Return one: the layer has one unit."""
        return torch.ones(1)

    def permute(self, order: Tensor) -> None:
        """Do nothing: there is one unit."""

    def _router(self, task: str) -> nn.Module:
        if task not in self.routers:
            raise ModelError(
                "the layer has no router for the task",
                module=self.name,
                expected=", ".join(self.routers),
                actual=task,
            )
        return self.routers[task]


class PlainExperts(nn.Module):
    """`(h, *context) -> contribution` in torch alone."""

    def __init__(
        self,
        router: nn.Module,
        bank: ExpertBank,
        shared: nn.Module | None,
        shared_gate: nn.Module | None,
    ) -> None:
        super().__init__()
        self.router = router
        self.bank = bank
        self.shared = shared
        self.shared_gate = shared_gate

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the sum over the experts, (batch, ..., dim)."""
        scores = self.router(h).reshape(-1, self.bank.experts)
        y: Tensor = self.bank(h.reshape(-1, h.shape[-1]), scores).reshape(h.shape)
        return add_shared(y, h, self.shared, self.shared_gate)


class RouterOfEachRow(nn.Module):
    """`(h, task) -> scores`, each row of the batch by its task's router.

    All routers score all rows, which is little beside the experts, and a row keeps its own: exact,
    and made of operators that every target has.

    Args:
        routers: By number of the task, each `(..., dim) -> (..., experts)`.
    """

    def __init__(self, routers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.routers = nn.ModuleList(routers)
        self.register_buffer("rows", torch.eye(len(routers)))

    def forward(self, h: Tensor, task: Tensor) -> Tensor:
        """Take (batch, ..., dim) and int64 (batch,), return (batch, ..., experts)."""
        rows: Tensor = self.rows  # type: ignore[assignment]
        own = torch.nn.functional.embedding(task, rows)
        own = own.reshape(len(task), *(1,) * (h.dim() - 2), len(self.routers), 1)
        scores = torch.stack([router(h) for router in self.routers], dim=-2)
        return (scores * own).sum(dim=-2)


class StageExperts(nn.Module):
    """`(h, *context) -> contribution` with the operator in the experts' place."""

    def __init__(
        self,
        router: nn.Module,
        number: int,
        shared: nn.Module | None,
        shared_gate: nn.Module | None,
    ) -> None:
        super().__init__()
        self.router = router
        self.by_row = isinstance(router, RouterOfEachRow)
        self.number = number
        self.shared = shared
        self.shared_gate = shared_gate

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the sum over the experts, (batch, ..., dim)."""
        scores = self.router(h, *context) if self.by_row else self.router(h)
        scores = scores.reshape(-1, scores.shape[-1])
        y = experts_operator(h.reshape(-1, h.shape[-1]), scores, self.number).reshape(h.shape)
        return add_shared(y, h, self.shared, self.shared_gate)


def add_shared(y: Tensor, h: Tensor, shared: nn.Module | None, gate: nn.Module | None) -> Tensor:
    """Return `y` with the shared expert's result for `h` added, weighted if there is a gate."""
    if shared is None:
        return y
    extra: Tensor = shared(h)
    if gate is not None:
        extra = torch.sigmoid(gate(h)) * extra
    return y + extra


def make_expert_layer(
    dim: int,
    hidden: int,
    experts: int,
    top_k: int,
    *,
    shared_hidden: int = 0,
    shared_gate: bool = False,
    renormalise: bool = False,
    activation: str = "silu",
    gated: bool = True,
    bias: bool = False,
    representatives: bool = False,
    tasks: Sequence[str] = (),
    norm: nn.Module | None = None,
    name: str = "",
    layer: int = -1,
    skippable: bool = True,
    dropout: float = 0.0,
) -> ExpertFeedForward:
    """Make an expert layer with experts of their own.

    Args:
        dim: Width of the stream.
        hidden: Hidden neurons of one expert.
        experts: Number of routed experts.
        top_k: Experts that each token takes.
        shared_hidden: Hidden neurons of the shared expert; 0 for none.
        shared_gate: See `ExpertFeedForward`.
        renormalise: See `nestling.experts.routing.route`.
        activation: Name of the activation, of shared and routed experts.
        gated: Whether experts are gated.
        bias: Whether their projections have biases.
        representatives: Whether the router is a `RepresentativeRouter`.
        tasks: See `ExpertFeedForward`.
        norm: See `ExpertFeedForward`.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.
        dropout: See `ElasticBlock`.
    """
    shape = ExpertShape(
        dim,
        hidden,
        experts,
        top_k,
        renormalise=renormalise,
        activation=activation,
        gated=gated,
        bias=bias,
    )
    bank = StackedExperts(shape, name or "experts")
    shared = None
    if shared_hidden:
        shared = FeedForward(
            up=nn.Linear(dim, shared_hidden, bias=bias),
            down=nn.Linear(shared_hidden, dim, bias=bias),
            activation=activation_module(activation),
            gate=nn.Linear(dim, shared_hidden, bias=bias) if gated else None,
        )
    router: Callable[[int, int], nn.Module] = Router
    if representatives:
        router = partial(RepresentativeRouter, activation=activation, gated=gated, bias=bias)
    return ExpertFeedForward(
        bank,
        shared=shared,
        shared_gate=shared_gate,
        tasks=tasks,
        router=router,
        norm=norm,
        name=name,
        layer=layer,
        skippable=skippable,
        dropout=dropout,
    )


def select_task(model: nn.Module, task: str) -> None:
    """Make a task the active one of all expert layers of a model that know it.

    Raises:
        ModelError: no layer knows it.
    """
    layers = [layer for layer in expert_layers(model) if task in layer.routers]
    if not layers:
        raise ModelError("no expert layer has a router for the task", actual=task)
    for layer in layers:
        layer.task = task
