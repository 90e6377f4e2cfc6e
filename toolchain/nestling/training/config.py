"""How a training run is set up: one dataclass, one TOML table."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nestling.errors import TrainError
from nestling.training.sampling import Strategy, make_strategy

AMP_MODES = ("none", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, apart from the model, the data and the loss.

    Attributes:
        strategy: Which subnets a step trains: "sorted", "sandwich", "progressive" or "full".
        strategy_options: Parameters of that strategy, see `nestling.training.sampling`.
        steps: Optimiser updates in all.
        batch_size: Samples per step, over all processes together.
        lr: Peak learning rate of AdamW.
        final_lr_share: Share of `lr` that the cosine ends at.
        weight_decay: AdamW's, on tensors with two dimensions or more; norms and biases get none.
        betas: AdamW's.
        warmup: Steps of linear warm-up.
        clip_norm: Largest norm of the gradient of a step; 0 does not clip.
        temperature: Of the distillation.
        amp: "none", "bf16" (CPU and GPU) or "fp16" (CUDA only, with loss scaling).
        seed: Of the subnets, the order of the data and everything random in the model.
        checkpoint_every: Steps between checkpoints; 0 writes one at the end only.
        log_every: Steps between lines of the log.
        recalibrate_batches: Batches that batch-norm statistics are measured on anew; 0 leaves them.
        freeze_norms_at: Share of the steps after which batch norm is recalibrated and then uses
            these statistics, frozen, in training too. 1.0 recalibrates after the last step. Below
            1, the weights get to fit the statistics that all subnets share on a device, which a
            subnet in training, normalised by its own batch, does not see; small subnets gain most.
        workers: Processes that load data; 0 loads in the training process, and only then are random
            transforms *inside the data set* repeated exactly by a resumed run.
        device: "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one.
        threads: Of torch on the CPU while training; 0 leaves them as they are. Models with
            operators of some ten microseconds are as fast with one, and do not crawl on a machine
            that is busy.
    """

    strategy: str = "sandwich"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1000
    batch_size: int = 128
    lr: float = 1e-3
    final_lr_share: float = 0.01
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 50
    clip_norm: float = 1.0
    temperature: float = 1.0
    amp: str = "none"
    seed: int = 0
    checkpoint_every: int = 0
    log_every: int = 10
    recalibrate_batches: int = 16
    freeze_norms_at: float = 1.0
    workers: int = 0
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "warmup",
            "checkpoint_every",
            "recalibrate_batches",
            "workers",
            "threads",
            "clip_norm",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr", "temperature"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("final_lr_share", "freeze_norms_at"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._require("weight_decay", self.weight_decay >= 0, "at least 0")
        self._require("betas", len(self.betas) == 2, "two numbers")
        self._require("amp", self.amp in AMP_MODES, ", ".join(AMP_MODES))
        self.make_strategy()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise TrainError(
                f"training option {name!r} is out of range",
                expected=expected,
                actual=getattr(self, name),
            )

    def make_strategy(self) -> Strategy:
        """Return the strategy that `strategy` and `strategy_options` describe."""
        return make_strategy(self.strategy, **self.strategy_options)

    def replace(self, **changes: Any) -> TrainConfig:
        """Return a copy with some fields changed.

        Raises:
            TrainError: A field does not exist, or its value is out of range.
        """
        known = {entry.name: entry for entry in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise TrainError(
                    f"there is no training option {name!r}", expected=", ".join(sorted(known))
                )
            changes[name] = _coerce(name, value, getattr(self, name))
        if changes.get("strategy", self.strategy) != self.strategy:
            # Another strategy has other parameters; the old ones mean nothing to it.
            changes.setdefault("strategy_options", {})
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which `TrainConfig().replace(**values)` reads back."""
        values = dataclasses.asdict(self)
        values["strategy_options"] = dict(self.strategy_options)
        values["betas"] = list(self.betas)
        return values


def load_config(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a TOML file: `TrainConfig`'s fields at the top or in a `[train]` table.

    Args:
        path: The file; ``[train.strategy_options]`` holds the parameters of the strategy.
        base: What the fields that the file leaves out are taken from.

    Raises:
        TrainError: The file cannot be read, is not TOML, or has an option that does not exist or
            does not fit.
    """
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise TrainError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path} is not valid TOML: {error}") from error
    values = table.get("train", table)
    if not isinstance(values, dict):
        raise TrainError(f"{path}: 'train' must be a table")
    return (base or TrainConfig()).replace(**values)


def _coerce(name: str, value: Any, like: Any) -> Any:
    """Return `value` with the type of `like`, as far as TOML and JSON cannot express it."""
    if isinstance(like, tuple):
        numbers = isinstance(value, (list, tuple)) and all(type(v) in (int, float) for v in value)
        value, fits = (tuple(map(float, value)), True) if numbers else (value, False)
    elif isinstance(like, bool) or isinstance(value, bool):
        fits = type(value) is type(like)
    elif isinstance(like, float):
        fits = isinstance(value, (int, float))
        value = float(value) if fits else value
    elif isinstance(like, Mapping):
        fits = isinstance(value, Mapping)
    else:
        fits = isinstance(value, type(like))
    if not fits:
        raise TrainError(
            f"training option {name!r} has the wrong type",
            expected=type(like).__name__,
            actual=repr(value),
        )
    return value
