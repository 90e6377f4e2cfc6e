"""The trainer: one loop for every strategy, on one process or many, that resumes exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from nestling.elastic import Subnet, SubnetSpace, Supernet, recalibrate
from nestling.elastic.batch_norm import NestedBatchNorm2d
from nestling.elastic.recalibrate import has_batch_norm
from nestling.errors import TrainError
from nestling.training.checkpoint import (
    read_checkpoint,
    rng_state,
    seed_everything,
    set_rng_state,
    write_checkpoint,
)
from nestling.training.config import TrainConfig
from nestling.training.data import (
    Augment,
    Batch,
    BatchOrder,
    as_batch,
    make_loader,
    mix_seed,
    split_share,
)
from nestling.training.distillation import blend, distillation_loss
from nestling.training.distributed import Team, join_team, pick_device
from nestling.training.journal import Journal
from nestling.training.optimize import learning_rate, make_optimizer
from nestling.training.sampling import Alone, Strategy, step_rng
from nestling.training.threads import torch_threads

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output, target) -> scalar: the mean over the samples."""

CHECKPOINT_NAME = "checkpoint.pt"
LOG_NAME = "train.jsonl"

# Fields which may change between a checkpoint and its resumption: they do not touch the weights.
_FREE_FIELDS = frozenset({"checkpoint_every", "log_every", "workers", "device"})


@dataclass(frozen=True)
class FitResult:
    """How a call of `fit` ended.

    Attributes:
        step: Updates done since the beginning of the run, resumed parts included.
        losses: The last step's loss by subnet.
        seconds: Wall time of this call.
        finished: Whether all of the run's steps are done.
    """

    step: int
    losses: dict[str, float]
    seconds: float
    finished: bool


class Trainer:
    """Trains the subnets of a supernet together.

    Under `torchrun` every process builds the same trainer; they share each batch, and the result is
    that of one process with the whole batch (up to the order of sums, and to batch norm, whose
    statistics are of each process's share).

    Args:
        supernet: Trained in place.
        config: See `TrainConfig`.
        loss: Mean loss of the model's output against the target.
        dataset: Yields `(*inputs, target)`.
        augment: Applied to every batch.
        out_dir: Where checkpoint and log go; None keeps neither.
        strategy: Instead of the one that `config` names, for one of your own.
        progress: Whether to show a progress bar.
        title: Stands before the bar.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: TrainConfig,
        loss: Loss,
        dataset: Dataset[Any],
        *,
        augment: Augment | None = None,
        out_dir: Path | None = None,
        strategy: Strategy | None = None,
        progress: bool = False,
        title: str = "training",
    ) -> None:
        self.supernet = supernet
        self.config = config
        self.strategy = strategy or config.make_strategy()
        self._loss = loss
        self._dataset = dataset
        self._augment = augment
        self._out_dir = out_dir
        self._progress = progress
        self._title = title

    def fit(self, *, resume: bool = False, stop_at: int | None = None) -> FitResult:
        """Train to the last step, recalibrate batch norm, write the checkpoint.

        Args:
            resume: Go on from the checkpoint in `out_dir` if there is one. The result is bit for
                bit that of a run which was never interrupted, on the same machine, threads and
                number of processes.
            stop_at: Stop after this many steps in all and write a checkpoint, for jobs with a time
                limit.

        Raises:
            TrainError: The configuration does not fit the data, the model, the device or the
                checkpoint, or the loss is no longer a number.
        """
        with join_team(self.config.device) as team, torch_threads(self.config.threads):
            return _Run(self, team).go(resume, stop_at)


class _Run:
    """One call of `fit`: what exists only while it lasts."""

    def __init__(self, trainer: Trainer, team: Team) -> None:
        config = trainer.config
        self.trainer = trainer
        self.config = config
        self.team = team
        self.device = pick_device(config.device, team)
        if config.amp == "fp16" and self.device.type != "cuda":
            raise TrainError(
                "fp16 training needs a CUDA device",
                actual=str(self.device),
                hint="use amp bf16 on a CPU",
            )
        self.supernet = trainer.supernet.to(self.device)
        self.optimizer = make_optimizer(self.supernet, config, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.step = 0
        self.path = trainer._out_dir / CHECKPOINT_NAME if trainer._out_dir else None

    def go(self, resume: bool, stop_at: int | None) -> FitResult:
        config, began = self.config, time.monotonic()
        seed_everything(mix_seed(config.seed, self.team.rank))
        finished_before = False
        if resume and self.path and self.path.exists():
            finished_before = self._restore(self.path)
        last = min(config.steps, config.steps if stop_at is None else stop_at)
        losses: dict[str, float] = {}
        if not finished_before:
            losses = self._train(last)
            self._save()
        return FitResult(
            step=self.step,
            losses=losses,
            seconds=time.monotonic() - began,
            finished=self.step == config.steps,
        )

    def _train(self, last: int) -> dict[str, float]:
        trainer, config, team = self.trainer, self.config, self.team
        log = None
        if team.leads and trainer._out_dir:
            log = trainer._out_dir / LOG_NAME
        journal = Journal(log, first_step=self.step)
        order = BatchOrder(
            _length(trainer._dataset),
            config.batch_size,
            last,
            seed=config.seed,
            start=self.step,
            rank=team.rank,
            world=team.world,
        )
        loader = make_loader(trainer._dataset, order, config.workers)
        # Every rank draws the same subnets, but with several a step, some weights see no gradient
        # in the last pass, the one that DDP watches; some see none at all.
        model: nn.Module = self.supernet
        if team.world > 1:
            on = [self.device.index] if self.device.type == "cuda" else None
            model = DistributedDataParallel(
                model, device_ids=on, find_unused_parameters=trainer.strategy != Alone()
            )
        freeze_step = round(config.steps * config.freeze_norms_at)
        model.train()
        if self.step == 0 and freeze_step == 0:
            self._recalibrate()
        if self.step >= freeze_step:
            freeze_norms(self.supernet)
        losses: dict[str, float] = {}
        inputs = len(self.supernet.input_names)
        with self._bar() as advance:
            mark, marked_step = time.monotonic(), self.step
            for sample in loader:
                batch = tuple(part.to(self.device) for part in as_batch(sample, inputs))
                if trainer._augment is not None:
                    generator = torch.Generator().manual_seed(
                        mix_seed(config.seed, self.step, team.rank, 1)
                    )
                    batch = trainer._augment(batch, generator)
                rate = learning_rate(config, self.step)
                passes, norm = self._update(model, batch, rate)
                self.step += 1
                if self.step == freeze_step:
                    # Before this step's checkpoint, so that no resumed run repeats it: measured
                    # anew, the statistics would differ in the last bit.
                    self._recalibrate()
                    freeze_norms(self.supernet)
                due = self.step % config.log_every == 0 or self.step in (1, last)
                if due:
                    losses = self._mean_losses(passes)
                    now = time.monotonic()
                    journal.write(
                        step=self.step,
                        epoch=round(order.epoch(self.step), 4),
                        lr=rate,
                        loss=losses["mean"],
                        losses={name: loss for name, loss in losses.items() if name != "mean"},
                        grad_norm=None if norm is None else float(norm),
                        step_seconds=round((now - mark) / (self.step - marked_step), 6),
                    )
                    mark, marked_step = now, self.step
                advance(losses.get("mean"))
                every = config.checkpoint_every
                if every and self.step % every == 0 and self.step < last:
                    self._save()
        return losses

    def _update(
        self, model: nn.Module, batch: Batch, rate: float
    ) -> tuple[list[tuple[str, float, Tensor]], Tensor | None]:
        """Run one step; return (label, weight, loss) of its passes, and the gradient's norm."""
        config, space = self.config, self.supernet.space
        strategy = self.trainer.strategy
        rng = step_rng(config.seed, self.step)
        draws = strategy.draw(space, self.step, config.steps, rng)
        self.optimizer.zero_grad(set_to_none=True)
        teacher: Tensor | None = None
        passes: list[tuple[str, float, Tensor]] = []
        for index, draw in enumerate(draws):
            share = split_share(batch, index, len(draws)) if strategy.split_batch else batch
            *inputs, target = share
            self.supernet.select(draw.subnet)
            # Gradients travel once, with the last pass; until then each rank accumulates its own.
            with _hold_back(model, index + 1 < len(draws)):
                with self._autocast():
                    output = model(*inputs)
                    soft = None
                    if draw.distill > 0.0:
                        if teacher is None:
                            raise TrainError(
                                "the strategy distils, but no draw before this one teaches"
                            )
                        soft = distillation_loss(output, teacher, config.temperature)
                    # With the labels out of the loss there is no need to compute theirs.
                    if soft is not None and draw.distill >= 1.0:
                        loss = soft
                    else:
                        loss = self.trainer._loss(output, target)
                        if soft is not None:
                            loss = blend(loss, soft, draw.distill)
                self.scaler.scale(loss * draw.weight).backward()  # type: ignore[no-untyped-call]
            if draw.teaches:
                teacher = output.detach()
            passes.append((subnet_label(space, draw.subnet), draw.weight, loss.detach()))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = None
        if config.clip_norm > 0.0:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.supernet.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return passes, norm

    def _mean_losses(self, passes: list[tuple[str, float, Tensor]]) -> dict[str, float]:
        """Return the loss by subnet, and "mean", the step's weighted sum; both over all ranks."""
        values = self.team.mean([float(loss) for _, _, loss in passes])
        losses = {"mean": 0.0}
        for (label, weight, _), value in zip(passes, values, strict=True):
            if not math.isfinite(value):
                raise TrainError(
                    f"the loss is no longer a number at step {self.step}",
                    actual=f"{value} for subnet {label}",
                    hint="lower the learning rate, or clip_norm, or train without fp16",
                )
            losses[label] = value
            losses["mean"] += weight * value
        return losses

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.amp == "none":
            return nullcontext()
        kind = torch.bfloat16 if self.config.amp == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=kind)

    def _recalibrate(self) -> None:
        """Give batch norm the statistics that the weights have now, over a mixture of subnets.

        Every rank reads the same, whole batches, so all end with the same statistics.
        """
        count = self.config.recalibrate_batches
        if not count or not has_batch_norm(self.supernet):
            return
        config, dataset = self.config, self.trainer._dataset
        order = BatchOrder(_length(dataset), config.batch_size, count, seed=config.seed)
        inputs = len(self.supernet.input_names)
        batches = [
            tuple(part.to(self.device) for part in as_batch(sample, inputs)[:-1])
            for sample in make_loader(dataset, order)
        ]
        recalibrate(self.supernet, batches, self._mixture())

    def _mixture(self, steps: int = 8) -> list[Subnet]:
        """Return the subnets that the last steps of the run draw: what training optimises for."""
        subnets: dict[Subnet, None] = {}
        last = self.config.steps
        for step in range(max(0, last - steps), last):
            rng = step_rng(self.config.seed, step)
            for draw in self.trainer.strategy.draw(self.supernet.space, step, last, rng):
                subnets[draw.subnet] = None
        return list(subnets)

    def _save(self) -> None:
        if self.path is None:
            return
        rngs = self.team.gather(rng_state())
        if self.team.leads:
            write_checkpoint(
                self.path,
                {
                    "config": self.config.to_dict(),
                    "step": self.step,
                    "world": self.team.world,
                    "model": self.supernet.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "rng": rngs,
                },
            )
        self.team.barrier()

    def _restore(self, path: Path) -> bool:
        """Load a checkpoint; return whether it is that of a finished run."""
        state = read_checkpoint(path)
        ours, theirs = self.config.to_dict(), state["config"]
        changed = [n for n in ours if n not in _FREE_FIELDS and ours[n] != theirs.get(n)]
        if changed:
            raise TrainError(
                f"{path} was made with another {changed[0]!r}",
                expected=theirs.get(changed[0]),
                actual=ours[changed[0]],
                hint="resume with the same options, or train into another folder",
            )
        finished = int(state["step"]) == self.config.steps
        # What a finished run left does not depend on who reads it.
        if not finished and state["world"] != self.team.world:
            raise TrainError(
                f"{path} was made by another number of processes",
                expected=state["world"],
                actual=self.team.world,
            )
        try:
            self.supernet.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainError(
                f"{path} is of another model", hint="train into another folder"
            ) from error
        self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        if not finished:
            set_rng_state(state["rng"][self.team.rank])
        return finished

    @contextmanager
    def _bar(self) -> Iterator[Callable[[float | None], None]]:
        """Show progress on the leading process; yield what to call after each step."""
        if not (self.trainer._progress and self.team.leads):
            yield lambda loss: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(
                self.trainer._title, total=self.config.steps, completed=self.step, loss="-"
            )

            def advance(loss: float | None) -> None:
                shown = "-" if loss is None else f"{loss:.4f}"
                progress.update(task, completed=self.step, loss=shown)

            yield advance


def subnet_label(space: SubnetSpace, subnet: Subnet) -> str:
    """Return a subnet's name, or its levels ("4420") when it has none."""
    for name, named in space.named.items():
        if named == subnet:
            return name
    return str(subnet)


def freeze_norms(model: nn.Module) -> None:
    """Let batch norm use its saved statistics while the rest of the model goes on training."""
    for module in model.modules():
        if isinstance(module, (NestedBatchNorm2d, nn.modules.batchnorm._BatchNorm)):
            module.eval()


def _hold_back(model: nn.Module, hold: bool) -> AbstractContextManager[Any]:
    """Return a context in which DDP does not exchange gradients, if `hold` and `model` is DDP."""
    if hold and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def _length(dataset: Dataset[Any]) -> int:
    try:
        return len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise TrainError(
            "the training data set has no length", hint="give a map-style data set"
        ) from error
