"""Trains the language model of experts: text, even use, use that lasts, and weights of few bits.

Beside the text's loss there are three wishes. Experts are to be used evenly (Switch Transformers)
with scores of moderate size (ST-MoE). Neighbouring tokens are to take the same experts where that
costs little: what is in memory is then needed again. And the experts are to answer well at 4 bits
and at 8: towards the end their weights are rounded to one or the other in every step, while the
gradients go to the weights that are not (straight through).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic import Supernet
from nestling.errors import TrainError
from nestling.experts.routing import Routing, expert_layers, record_routing, routing_loss
from nestling.experts.slices import ExpertBits
from nestling.language.corpus import Kind
from nestling.language.muon import Muon
from nestling.language.training import (
    LOG_NAME,
    LanguageFit,
    LanguageTraining,
    draw_windows,
    rate_share,
)
from nestling.quantize.linear import NIBBLE_LIMIT
from nestling.training.checkpoint import seed_everything
from nestling.training.data import mix_seed
from nestling.training.journal import Journal
from nestling.training.threads import torch_threads


@dataclass(frozen=True)
class ExpertTraining:
    """Everything that decides the outcome of a run, apart from the model and the text.

    Attributes:
        schedule: Steps, windows, rates, seed and threads; what it says of exits does not count.
        balance: Weight of the loss that spreads tokens over experts.
        z: Weight of the loss on the size of scores.
        lasting: Weight of the loss on changes of the experts from one token to the next.
        rounded_share: Share of the steps, the last ones, with rounded experts.
        group: Weights of an expert that share a scale.
    """

    schedule: LanguageTraining
    balance: float = 0.01
    z: float = 1e-3
    lasting: float = 0.03
    rounded_share: float = 0.25
    group: int = 32


def train_experts(
    supernet: Supernet,
    texts: Mapping[Kind, Tensor],
    config: ExpertTraining,
    out_dir: Path | None = None,
    *,
    evaluate: Callable[[Supernet], Mapping[str, float]] | None = None,
    evaluate_every: int = 0,
    seconds: float = math.inf,
) -> LanguageFit:
    """Train a decoder with expert layers in place.

    Args:
        supernet: A decoder.
        texts: Tokens of each kind, int64, one document after the other.
        config: See there.
        out_dir: Takes the log; None keeps none.
        evaluate: Gives figures for the log.
        evaluate_every: Steps between two of its calls; 0 calls it after the last step alone.
        seconds: Of wall time, after which the rates begin to fall at once, for as large a share of
            all steps as the schedule says.

    Raises:
        TrainError: The loss is no longer a number.
    """
    schedule = config.schedule
    with torch_threads(schedule.threads):
        seed_everything(schedule.seed)
        optimizers = _optimizers(supernet, schedule)
        journal = Journal(out_dir / LOG_NAME if out_dir else None, first_step=0)
        journal.write(step=0, config=dataclasses.asdict(config))
        began = mark = time.monotonic()
        marked = step = 0
        while step < schedule.steps:
            falling = round(schedule.steps * schedule.decay_share)
            if time.monotonic() - began > seconds and step < schedule.steps - falling:
                steps = step + max(1, round(falling * step / (schedule.steps - falling)))
                schedule = dataclasses.replace(
                    schedule, steps=steps, decay_share=(steps - step) / steps
                )
                config = dataclasses.replace(config, schedule=schedule)
                journal.write(step=step, steps=steps)
            losses = _update(supernet, texts, config, optimizers, step)
            step += 1
            last = step == schedule.steps
            if step % schedule.log_every == 0 or last or step == 1:
                values = {name: round(float(loss), 4) for name, loss in losses.items()}
                if not all(map(math.isfinite, values.values())):
                    raise TrainError(f"the loss is no longer a number at step {step}")
                elapsed = (time.monotonic() - mark) / (step - marked)
                journal.write(step=step, losses=values, step_seconds=round(elapsed, 3))
                mark, marked = time.monotonic(), step
            if evaluate is not None and (last or (evaluate_every and step % evaluate_every == 0)):
                figures = {name: round(value, 4) for name, value in evaluate(supernet).items()}
                journal.write(step=step, validation=figures)
                mark, marked = time.monotonic(), step
        supernet.eval()
        return LanguageFit(
            step, step * schedule.windows * schedule.length, time.monotonic() - began
        )


def _optimizers(
    supernet: Supernet, schedule: LanguageTraining
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices of blocks, AdamW for routers, norms and the embedding."""
    routers = {
        id(p)
        for layer in expert_layers(supernet)
        for r in layer.routers.values()
        for p in r.parameters()
    }
    matrices = [p for p in supernet.blocks.parameters() if p.dim() >= 2 and id(p) not in routers]
    known = {id(parameter) for parameter in matrices}
    others = [p for p in supernet.parameters() if id(p) not in known]
    adam = torch.optim.AdamW(
        others, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return [(Muon(matrices, lr=schedule.matrix_lr), schedule.matrix_lr), (adam, schedule.lr)]


def _update(
    supernet: Supernet,
    texts: Mapping[Kind, Tensor],
    config: ExpertTraining,
    optimizers: list[tuple[torch.optim.Optimizer, float]],
    step: int,
) -> dict[str, Tensor]:
    schedule = config.schedule
    generator = torch.Generator().manual_seed(mix_seed(schedule.seed, step))
    batch = draw_windows(texts, schedule, generator)
    rounded = step >= schedule.steps * (1.0 - config.rounded_share)
    bits: ExpertBits | None = (4 if step % 2 else 8) if rounded else None
    supernet.train()
    with rounded_experts(supernet, bits, config.group), record_routing(supernet) as calls:
        logits = supernet(batch[:, :-1])
        text = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        changes = torch.stack([change(call, len(batch)) for call in calls]).mean()
        total = text + config.lasting * changes
        total = total + routing_loss(calls, balance=config.balance, z=config.z)
        for optimizer, rate in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_share(schedule, step)
        total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(supernet.parameters(), schedule.clip_norm)
    for optimizer, _ in optimizers:
        optimizer.step()
    return {
        "text": text.detach(),
        "change": changes.detach(),
        "kept": kept_share(calls, len(batch)),
    }


def change(call: Routing, windows: int) -> Tensor:
    """Return how unlikely a token's router finds the experts of the token before it, in nats.

    Of the chosen experts, not of all probabilities: those become alike when they all become equal,
    and what is chosen then changes as it likes.
    """
    log = F.log_softmax(call.scores, dim=-1).reshape(windows, -1, call.scores.shape[-1])
    chosen = call.chosen.reshape(windows, -1, call.chosen.shape[-1])
    return -torch.logsumexp(log[:, 1:].gather(-1, chosen[:, :-1]), dim=-1).mean()


@torch.no_grad()
def kept_share(calls: list[Routing], windows: int) -> Tensor:
    """Return the share of chosen experts that the token before had chosen, too."""
    shares = []
    for call in calls:
        chosen = F.one_hot(call.chosen, call.scores.shape[-1]).sum(1)
        chosen = chosen.reshape(windows, -1, chosen.shape[-1])
        both = (chosen[:, 1:] * chosen[:, :-1]).sum(-1).double().mean()
        shares.append(both / call.chosen.shape[-1])
    return torch.stack(shares).mean()


@contextmanager
def rounded_experts(model: nn.Module, bits: ExpertBits | None, group: int) -> Iterator[None]:
    """Let the experts of a model have rounded weights while the context lasts; None: as they are.

    Gradients are those of the rounded weights. The rounding is that of the slices, but for the
    scales, which are not rounded themselves.
    """
    stacks = [p for layer in expert_layers(model) for p in layer.bank.parameters() if p.dim() == 3]
    if bits is None:
        yield
        return
    whole = [parameter.data for parameter in stacks]
    for parameter in stacks:
        parameter.data = _rounded(parameter.data, bits, group)
    try:
        yield
    finally:
        for parameter, data in zip(stacks, whole, strict=True):
            parameter.data = data


def _rounded(weights: Tensor, bits: ExpertBits, group: int) -> Tensor:
    groups = weights.reshape(*weights.shape[:-1], -1, group)
    scale = groups.abs().amax(dim=-1, keepdim=True) / NIBBLE_LIMIT
    q = torch.round(groups / scale.clamp_min(1e-12))
    if bits == 4:
        q = 16.0 * torch.floor((q + 8.0) / 16.0)
    rounded: Tensor = (q * scale).reshape(weights.shape)
    return rounded
