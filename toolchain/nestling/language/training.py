"""Trains every exit, every width and every mix of paths of a decoder together.

One step shares what can be shared. The core (the first layers, the same in all subnets) runs once;
behind it the full net runs on all windows, with the norm and head that all exits share applied
after the core, after one drawn exit and at the end (the sum of losses of Sorted LLaMA, arXiv
2309.08968); and a *mix* runs on part of the windows, in which every token draws a path of its own
and hands its stream through the layers that it skips, so that later tokens learn to live with the
keys and values that it leaves there. All but the full net also learn from the full net's output,
which makes the exits agree with it and not merely be good: agreement is what early exits and
drafts live on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic import SubnetSpace, Supernet
from nestling.elastic.supernet import split_stem
from nestling.errors import TrainError
from nestling.language.corpus import KINDS, Kind
from nestling.language.muon import Muon
from nestling.language.scoring import decoder_layers, run_each
from nestling.training.checkpoint import read_checkpoint, seed_everything, write_checkpoint
from nestling.training.data import mix_seed
from nestling.training.distillation import blend, distillation_loss
from nestling.training.journal import Journal
from nestling.training.threads import torch_threads

CHECKPOINT_NAME = "checkpoint.pt"
LOG_NAME = "train.jsonl"

MoreLosses = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Weighted losses by name, of tokens and targets, both int64 (windows, length)."""


@dataclass(frozen=True)
class LanguageTraining:
    """Everything that decides the outcome of a run, apart from the model and the text.

    Attributes:
        steps: Optimiser updates in all.
        windows: Windows of text in a step.
        length: Tokens of a window.
        prose_share: Share of windows that are prose.
        mixed_share: Share of windows that also run as a mix of paths.
        matrix_lr: Muon's rate, for the matrices of blocks.
        lr: AdamW's rate, for embedding and norms.
        warmup: Steps of linear rise.
        decay_share: Share of the steps, the last ones, over which the rates fall to zero. A run
            that is resumed may have another number of steps: until then the rates are constant.
        core_weight: Weight of the loss of the exit behind the core; the full net's is 1.
        exit_weight: Weight of the drawn exit's.
        mixed_weight: Weight of the mix's.
        distill: Share of the full net's output, against the text, in what all others learn.
        clip_norm: Largest norm of a gradient.
        seed: Of weights, windows and paths.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of the log.
        threads: Of torch.
    """

    steps: int = 1000
    windows: int = 8
    length: int = 256
    prose_share: float = 0.3
    mixed_share: float = 0.5
    matrix_lr: float = 0.02
    lr: float = 4e-3
    warmup: int = 30
    decay_share: float = 0.4
    core_weight: float = 0.7
    exit_weight: float = 0.3
    mixed_weight: float = 0.5
    distill: float = 0.5
    clip_norm: float = 1.0
    seed: int = 0
    checkpoint_every: int = 50
    log_every: int = 10
    threads: int = 1


@dataclass(frozen=True)
class LanguageFit:
    """How a run ended.

    Attributes:
        step: Updates done, resumed parts included.
        tokens: Tokens of text seen.
        seconds: Wall time of this call.
    """

    step: int
    tokens: int
    seconds: float


def train_language(
    supernet: Supernet,
    texts: Mapping[Kind, Tensor],
    config: LanguageTraining,
    out_dir: Path | None = None,
    *,
    resume: bool = False,
    evaluate: Callable[[Supernet], Mapping[str, float]] | None = None,
    evaluate_every: int = 0,
    more_losses: MoreLosses | None = None,
) -> LanguageFit:
    """Train a decoder in place.

    Args:
        supernet: See `nestling.language.scoring.decoder_layers`.
        texts: Tokens of each kind, int64, one document after the other.
        config: See there.
        out_dir: Takes checkpoints and the log; None keeps neither.
        resume: Go on from the checkpoint in `out_dir`, if there is one.
        evaluate: Gives figures for the log.
        evaluate_every: Steps between two of its calls; 0 calls it after the last step alone.
        more_losses: Gives losses that are added to the others; their names must be new.

    Raises:
        TrainError: A text is shorter than a window, or the loss is no longer a number.
        ModelError: The supernet is not a decoder.
    """
    with torch_threads(config.threads):
        run = _Run(supernet, texts, config, out_dir, more_losses)
        return run.go(resume, evaluate, evaluate_every)


class _Run:
    """One call of `train_language`."""

    def __init__(
        self,
        supernet: Supernet,
        texts: Mapping[Kind, Tensor],
        config: LanguageTraining,
        out_dir: Path | None,
        more_losses: MoreLosses | None,
    ) -> None:
        for kind in KINDS:
            if len(texts[kind]) <= config.length:
                raise TrainError(
                    f"the {kind} is shorter than a window",
                    expected=config.length + 1,
                    actual=len(texts[kind]),
                )
        self.supernet = supernet
        self.texts = texts
        self.config = config
        self.out_dir = out_dir
        self.more_losses = more_losses
        layers = decoder_layers(supernet)
        self.core = sum(not block.skippable for pair in layers for block in pair)
        matrices = [p for p in supernet.blocks.parameters() if p.dim() == 2]
        known = {id(parameter) for parameter in matrices}
        others = [p for p in supernet.parameters() if id(p) not in known]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (Muon(matrices, lr=config.matrix_lr), config.matrix_lr),
            (
                torch.optim.AdamW(
                    others, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
                ),
                config.lr,
            ),
        ]
        self.step = 0

    def go(
        self,
        resume: bool,
        evaluate: Callable[[Supernet], Mapping[str, float]] | None,
        evaluate_every: int,
    ) -> LanguageFit:
        config, began = self.config, time.monotonic()
        seed_everything(config.seed)
        path = self.out_dir / CHECKPOINT_NAME if self.out_dir else None
        if resume and path is not None and path.exists():
            self._restore(path)
        journal = Journal(self.out_dir / LOG_NAME if self.out_dir else None, first_step=self.step)
        journal.write(step=self.step, config=dataclasses.asdict(config))
        mark, marked = time.monotonic(), self.step
        while self.step < config.steps:
            losses = self._update()
            self.step += 1
            last = self.step == config.steps
            if self.step % config.log_every == 0 or last or self.step == 1:
                values = {name: round(float(loss), 4) for name, loss in losses.items()}
                if not all(map(math.isfinite, values.values())):
                    raise TrainError(f"the loss is no longer a number at step {self.step}")
                now = time.monotonic()
                seconds = round((now - mark) / (self.step - marked), 3)
                journal.write(step=self.step, losses=values, step_seconds=seconds)
                mark, marked = now, self.step
            if evaluate is not None and (
                last or (evaluate_every and self.step % evaluate_every == 0)
            ):
                figures = {name: round(value, 4) for name, value in evaluate(self.supernet).items()}
                journal.write(step=self.step, validation=figures)
                mark, marked = time.monotonic(), self.step
            if path is not None and (self.step % config.checkpoint_every == 0 or last):
                self._save(path)
        self.supernet.eval()
        return LanguageFit(
            self.step,
            self.step * config.windows * config.length,
            time.monotonic() - began,
        )

    def _update(self) -> dict[str, Tensor]:
        config = self.config
        generator = torch.Generator().manual_seed(mix_seed(config.seed, self.step))
        batch = draw_windows(self.texts, config, generator)
        self.supernet.train()
        losses = self._losses(batch[:, :-1], batch[:, 1:], generator)
        if self.more_losses is not None:
            losses |= self.more_losses(batch[:, :-1], batch[:, 1:])
        weights = {
            "full": 1.0,
            "core": config.core_weight,
            "exit": config.exit_weight,
            "mixed": config.mixed_weight,
        }
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        for optimizer, rate in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_share(config, self.step)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.supernet.parameters(), config.clip_norm)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(
        self, tokens: Tensor, targets: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        config, supernet = self.config, self.supernet
        chain, space = supernet.chain, supernet.space
        supernet.select(space.full())
        x, context = split_stem(supernet.stem(tokens))
        for block in chain[: self.core]:
            x = block(x, *context)
        core = x
        inner = range(self.core + 2, len(chain), 2)
        exit_at = inner[int(torch.randint(len(inner), (), generator=generator))] if inner else 0
        early = core
        for index in range(self.core, len(chain)):
            if index == exit_at:
                early = x
            x = chain[index](x, *context)
        full = supernet.head(x)
        teacher = full.detach()
        losses = {"full": _cross_entropy(full, targets)}
        losses["core"] = self._taught(supernet.head(core), targets, teacher)
        if inner:
            losses["exit"] = self._taught(supernet.head(early), targets, teacher)
        rows = round(config.mixed_share * len(tokens))
        if rows:
            levels = draw_paths(space, (rows, tokens.shape[1]), generator)[..., self.core :]
            mixed = run_each(chain[self.core :], core[:rows], context, levels)
            losses["mixed"] = self._taught(supernet.head(mixed), targets[:rows], teacher[:rows])
        return losses

    def _taught(self, logits: Tensor, targets: Tensor, teacher: Tensor) -> Tensor:
        hard, share = _cross_entropy(logits, targets), self.config.distill
        return blend(hard, distillation_loss(logits, teacher), share) if share > 0.0 else hard

    def _save(self, path: Path) -> None:
        write_checkpoint(
            path,
            {
                "step": self.step,
                "config": json.dumps(dataclasses.asdict(self.config)),
                "model": self.supernet.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            },
        )

    def _restore(self, path: Path) -> None:
        state = read_checkpoint(path)
        try:
            self.supernet.load_state_dict(state["model"])
            for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainError(
                f"{path} is of another model", hint="train into another folder"
            ) from error
        self.step = int(state["step"])


def rate_share(config: LanguageTraining, step: int) -> float:
    """Return the share of the peak rates at a step: a rise, a plateau, a linear fall."""
    falling = max(1.0, config.steps * config.decay_share)
    return min(1.0, (step + 1) / (config.warmup + 1), (config.steps - step) / falling)


def draw_windows(
    texts: Mapping[Kind, Tensor], config: LanguageTraining, generator: torch.Generator
) -> Tensor:
    """Return windows at random places: int64, (windows, length + 1); the last token is a target."""
    rows = []
    prose = round(config.prose_share * config.windows)
    for row in range(config.windows):
        text = texts["prose" if row % config.windows < prose else "code"]
        start = int(torch.randint(len(text) - config.length, (), generator=generator))
        rows.append(text[start : start + config.length + 1])
    order = torch.randperm(config.windows, generator=generator)
    return torch.stack(rows)[order]


def draw_paths(space: SubnetSpace, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a path for every token, of the kinds that policies mix.

    Two fifths exit behind the core, a fifth at any depth, a fifth are full, and a fifth take any
    feed-forward level, or none, at each layer.

    Returns:
        int64, (rows, positions, blocks).
    """
    full = torch.tensor(space.full().levels)
    blocks = space.blocks
    must = torch.tensor([not block.skippable for block in blocks])
    layer = torch.tensor([block.layer for block in blocks])
    kind = torch.randint(5, (*shape, 1), generator=generator)
    depths = torch.tensor([max(kept) for kept in space.depths])
    exit_at = depths[torch.randint(len(depths), (*shape, 1), generator=generator)]
    exit_at = torch.where(kind < 2, depths[0], torch.where(kind == 2, exit_at, depths[-1]))
    levels = torch.where(layer <= exit_at, full, 0)
    drawn = torch.rand((*shape, len(blocks)), generator=generator)
    any_level = (drawn * (full + 1)).long()
    # A layer is left out whole, where its feed-forward block drew 0; attention has one level.
    feed_forward = any_level[..., 1::2]
    any_level = torch.stack(((feed_forward > 0).long(), feed_forward), dim=-1).flatten(-2)
    any_level = torch.where(must, full, any_level)
    return torch.where(kind == 4, any_level, levels)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
