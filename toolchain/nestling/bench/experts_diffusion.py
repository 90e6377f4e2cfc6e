"""Digits that a diffusion model draws natively, its step number choosing what is computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import nestling_runtime
from nestling.bench.digit_judge import DigitJudge, Judgement
from nestling.bench.records import Record, describe_machine, ratio_record, summarise
from nestling.chain_export import export_chain
from nestling.recipes.experts.diffusion import DigitDiffusion
from nestling.recipes.experts.noise import (
    STEPS,
    Picture,
    StepPolicy,
    by_noise,
    draw_picture,
    every,
    same_path,
)
from nestling.recipes.experts.stages import REUSE, SHALLOW, WHOLE, diffusion_chain
from nestling_runtime import Session

DIFFUSION_ACCURACY = "diffusion_accuracy"
DIFFUSION_DISTANCE = "diffusion_distance"
DIFFUSION_SPEEDUP = "diffusion_speedup"
DIFFUSION_PARITY = "diffusion_parity"

DENSE = "dense"
EXPERTS = "experts"
POLICIES = (
    StepPolicy(EXPERTS, same_path(WHOLE).paths),
    by_noise("depth", SHALLOW, WHOLE, 0.5),
    every("reuse", WHOLE, REUSE, 2),
)
"""Switch-DiT, VARiant and A-SDM; all of them on the network with experts."""

_SOURCES = {
    DENSE: "a separately trained network without experts, all steps the same",
    EXPERTS: "the step number chooses experts (Switch-DiT)",
    "depth": "and half of the inner blocks for the noisier half of the steps (VARiant)",
    "reuse": "and the inner blocks' result of the step before for every second step (A-SDM)",
}


@dataclass(frozen=True)
class Drawn:
    """What one policy drew.

    Attributes:
        policy: Its name.
        images: float32 (pictures, 8, 8); digits 0 to 9 in turn.
        judgement: Of all of them.
        milliseconds: Of a picture, by round.
    """

    policy: str
    images: NDArray[np.float32]
    judgement: Judgement
    milliseconds: Sequence[float]


class NativeVelocity:
    """The network on the runtime, as `draw_picture` asks for it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._step = np.zeros(1, np.int64)
        self._digit = np.zeros(1, np.int64)
        session.bind_input("step", self._step)
        session.bind_input("digit", self._digit)

    def __call__(self, pixels: Picture, step: int, digit: int, path: str) -> Picture:
        """Return velocities, (1, 1, 8, 8)."""
        self._step[0], self._digit[0] = step, digit
        self._session.select(path)
        velocity: Picture = self._session.run(pixels=pixels)["velocity"]
        return velocity


def measure_diffusion(
    model: DigitDiffusion,
    dense: DigitDiffusion,
    folder: Path,
    *,
    pictures: int = 500,
    rounds: int = 5,
    jobs: int = 2,
    cache_dir: Path | None = None,
) -> tuple[list[Record], list[Drawn]]:
    """Export both networks, draw with every policy, and judge what was drawn.

    Args:
        model: Trained, with experts.
        dense: Trained, without.
        folder: Takes diffusion.nest and diffusion-dense.nest.
        pictures: That each policy draws, a multiple of 10.
        rounds: Parts that these are drawn in, policies in turn.
        jobs: Processes that lower at once.
        cache_dir: Of lowered programs.
    """
    judge = DigitJudge()
    files = folder / "diffusion.nest", folder / "diffusion-dense.nest"
    for network, file in zip((model, dense), files, strict=True):
        export_chain(diffusion_chain(network), file, jobs=jobs, cache_dir=cache_dir)
    starts = np.random.default_rng(0).standard_normal((pictures, 1, 1, 8, 8)).astype(np.float32)
    digits = np.arange(pictures) % 10
    names = (DENSE, *(policy.name for policy in POLICIES))
    images: dict[str, list[Picture]] = {name: [] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    with (
        nestling_runtime.open(files[0], threads=1) as first,
        nestling_runtime.open(files[1], threads=1) as second,
        first.session() as session,
        second.session() as dense_session,
    ):
        native, dense_native = NativeVelocity(session), NativeVelocity(dense_session)
        sides = [(native, policy) for policy in POLICIES]
        sides.append((dense_native, StepPolicy(DENSE, same_path(WHOLE).paths)))
        for velocity, policy in sides:  # loads what it needs
            draw_picture(velocity, policy, 0, starts[0])
        for part in np.array_split(np.arange(pictures), rounds):
            for velocity, policy in sides:
                began = time.perf_counter()
                for index in part:
                    digit = int(digits[index])
                    images[policy.name].append(draw_picture(velocity, policy, digit, starts[index]))
                times[policy.name].append(1e3 * (time.perf_counter() - began) / len(part))
        parity = _parity(model, native, starts[:8])
    labels = torch.from_numpy(digits)
    drawn = []
    for name, made in images.items():
        stacked = np.concatenate(made)
        judgement = judge.judge(torch.from_numpy(stacked), labels)
        drawn.append(Drawn(name, stacked[:, 0], judgement, times[name]))
    return [*_records(drawn, judge, pictures), parity], drawn


def _parity(model: DigitDiffusion, native: NativeVelocity, starts: NDArray[np.float32]) -> Record:
    worst = 0.0
    for index, start in enumerate(starts):
        step, digit = index * STEPS // len(starts), index % 10
        with torch.inference_mode():
            eager = model(torch.from_numpy(start), torch.tensor([step]), torch.tensor([digit]))
        difference = torch.from_numpy(native(start, step, digit, WHOLE)) - eager
        worst = max(worst, float(difference.abs().max() / eager.abs().max()))
    where = f"largest difference from eager torch, of the largest output, {len(starts)} steps"
    return Record(DIFFUSION_PARITY, worst, "1", None, None, None, WHOLE, where)


def _records(drawn: Sequence[Drawn], judge: DigitJudge, pictures: int) -> list[Record]:
    base = next(one for one in drawn if one.policy == EXPERTS)
    records = []
    real = judge.held_out_accuracy()
    for one in drawn:
        said = _SOURCES[one.policy]
        accuracy, distance = one.judgement.accuracy, one.judgement.distance
        where = f"{pictures} digits of {STEPS} steps, judged by a classifier of real ones; {said}"
        records.append(
            Record(
                DIFFUSION_ACCURACY,
                accuracy,
                "1",
                real,
                accuracy / real,
                None,
                one.policy,
                f"{where}; baseline: real held-out digits",
            )
        )
        records.append(
            Record(
                DIFFUSION_DISTANCE,
                distance,
                "1",
                base.judgement.distance,
                distance / base.judgement.distance,
                None,
                one.policy,
                f"Frechet's, in the classifier's features; {where}; baseline: {EXPERTS}",
            )
        )
        ratios = [a / b for a, b in zip(base.milliseconds, one.milliseconds, strict=True)]
        records.append(
            ratio_record(
                DIFFUSION_SPEEDUP,
                ratios,
                baseline=summarise(base.milliseconds).median,
                model=one.policy,
                where=f"{describe_machine(1)}; time of a picture, {EXPERTS} over this; baseline: "
                f"its milliseconds; {said}",
            )
        )
    return records
