"""The trainer: gradients against autograd, exact resume, mixed precision, clear errors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from training.small import CONFIG, add_noise, build_cnn, build_vit, make_data

from nestling.elastic import Subnet, Supernet
from nestling.errors import TrainError
from nestling.training import (
    Alone,
    BatchOrder,
    TrainConfig,
    Trainer,
    distillation_loss,
    learning_rate,
    step_rng,
)

BUILDERS = {"vit": lambda: build_vit(dropout=0.1), "cnn": build_cnn}


def train(supernet: Supernet, config: TrainConfig = CONFIG, **options: Any) -> Trainer:
    return Trainer(supernet, config, F.cross_entropy, make_data(), **options)


def first_batch(config: TrainConfig = CONFIG) -> tuple[Tensor, ...]:
    images, labels = make_data().tensors
    (indices,) = BatchOrder(len(labels), config.batch_size, 1, seed=config.seed)
    return images[indices], labels[indices]


def gradients(supernet: Supernet) -> dict[str, Tensor]:
    return {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}


def assert_same_state(ours: Supernet, theirs: Supernet) -> None:
    expected = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


# -- what a step computes ------------------------------------------------------------------------


def test_accumulated_gradient_is_that_of_the_mean_over_micro_batches() -> None:
    config = CONFIG.replace(
        steps=1, clip_norm=0.0, strategy="sorted", strategy_options={"subnets_per_step": 3}
    )
    ours, oracle = build_vit(), build_vit()
    train(ours, config).fit()
    images, labels = first_batch(config)
    draws = config.make_strategy().draw(oracle.space, 0, 1, step_rng(config.seed, 0))
    total = torch.tensor(0.0)
    for draw, x, y in zip(draws, images.chunk(3), labels.chunk(3), strict=True):
        total = total + F.cross_entropy(oracle(x, subnet=draw.subnet), y)
    (total / 3).backward()
    torch.testing.assert_close(gradients(ours), gradients(oracle), rtol=1e-4, atol=1e-6)


def test_sandwich_gradient_is_that_of_labels_and_teacher() -> None:
    config = CONFIG.replace(
        steps=1,
        clip_norm=0.0,
        temperature=2.0,
        strategy="sandwich",
        strategy_options={"subnets_per_step": 3, "distill": 0.75, "full_weight": 2.0},
    )
    ours, oracle = build_vit(), build_vit()
    train(ours, config).fit()
    images, labels = first_batch(config)
    draws = config.make_strategy().draw(oracle.space, 0, 1, step_rng(config.seed, 0))
    teacher = oracle(images, subnet=oracle.space.full())
    total = 0.5 * F.cross_entropy(teacher, labels)
    for draw in draws[1:]:
        output = oracle(images, subnet=draw.subnet)
        hard = F.cross_entropy(output, labels)
        soft = distillation_loss(output, teacher.detach(), 2.0)
        total = total + 0.25 * (0.25 * hard + 0.75 * soft)
    total.backward()
    torch.testing.assert_close(gradients(ours), gradients(oracle), rtol=1e-4, atol=1e-6)


def test_alone_touches_only_what_its_subnet_uses() -> None:
    supernet = build_vit()
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    smallest = supernet.space.smallest()
    train(supernet, CONFIG.replace(weight_decay=0.0), strategy=Alone(smallest)).fit()
    for block, level in zip(supernet.chain, smallest.levels, strict=True):
        for name, value in block.state_dict().items():
            old = before[f"blocks.{supernet.chain.index(block)}.{name}"]
            if level == 0:
                assert torch.equal(value, old), (block.name, name)
        if level and block.name.endswith("ffn"):
            width = block.width(level)
            weight = block.state_dict()["up.weight"]
            old = before[f"blocks.{supernet.chain.index(block)}.up.weight"]
            assert torch.equal(weight[width:], old[width:])
            assert not torch.equal(weight[:width], old[:width])


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    supernet = build_vit()
    train(supernet, CONFIG.replace(steps=1, clip_norm=1e-3), out_dir=tmp_path).fit()
    norm = torch.stack([g.norm() for g in gradients(supernet).values()]).norm()
    assert float(norm) <= 1e-3 * 1.001
    record = json.loads((tmp_path / "train.jsonl").read_text())
    assert record["grad_norm"] > 1e-3, "the log has the norm before clipping"


def test_learning_rate_warms_up_and_ends_low() -> None:
    config = TrainConfig(steps=100, warmup=10, lr=1.0, final_lr_share=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert 0.1 < rates[99] < 0.102


def test_frozen_norms_keep_the_statistics_of_the_freezing_step() -> None:
    config = CONFIG.replace(steps=6, freeze_norms_at=0.5)
    supernet = build_cnn()
    seen = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        buffers = [b.clone() for n, b in supernet.named_buffers() if "running" in n]
        seen.append(torch.cat([b.flatten() for b in buffers]))
        return F.cross_entropy(output, target)

    Trainer(supernet, config, loss, make_data(), strategy=Alone()).fit()
    assert len(seen) == 6
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[3], seen[4]) and torch.equal(seen[4], seen[5])


# -- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "strategy", "stop_at"),
    [
        *(("vit", strategy, 3) for strategy in ("sorted", "sandwich", "progressive")),
        # Batch norm is recalibrated and frozen after step 4.
        *(("cnn", "sandwich", stop_at) for stop_at in (1, 3, 4, 5, 7)),
    ],
)
def test_resumed_run_is_bit_identical(
    tmp_path: Path, kind: str, strategy: str, stop_at: int
) -> None:
    config = CONFIG.replace(strategy=strategy, freeze_norms_at=0.5)
    options: dict[str, Any] = {"augment": add_noise}
    whole = BUILDERS[kind]()
    train(whole, config, out_dir=tmp_path / "whole", **options).fit()
    first, second = BUILDERS[kind](), BUILDERS[kind]()
    stopped = train(first, config, out_dir=tmp_path / "cut", **options).fit(stop_at=stop_at)
    assert (stopped.step, stopped.finished) == (stop_at, False)
    # Another process would have other random states.
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    end = train(second, config, out_dir=tmp_path / "cut", **options).fit(resume=True)
    assert (end.step, end.finished) == (config.steps, True)
    assert_same_state(second, whole)
    states = [
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        for folder in ("whole", "cut")
    ]
    torch.testing.assert_close(states[0]["optimizer"], states[1]["optimizer"], rtol=0, atol=0)
    assert torch.equal(states[0]["rng"][0]["torch"], states[1]["rng"][0]["torch"])
    assert states[0]["rng"][0]["python"] == states[1]["rng"][0]["python"]
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "step_seconds"}
            for line in (tmp_path / folder / "train.jsonl").read_text().splitlines()
        ]
        for folder in ("whole", "cut")
    ]
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0]] == list(range(1, config.steps + 1))


class NoisyData(Dataset[tuple[Tensor, Tensor]]):
    """A data set whose transform draws from all three global generators."""

    def __init__(self) -> None:
        self.images, self.labels = make_data().tensors

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002
        return self.images[index] + 0.1 * noise.float(), self.labels[index]


def test_run_that_crashed_between_checkpoints_resumes_exactly(tmp_path: Path) -> None:
    config = CONFIG.replace(checkpoint_every=3, strategy="full")
    calls = 0

    def crashing(output: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return F.cross_entropy(output, target)

    whole, cut = build_vit(0.1), build_vit(0.1)
    Trainer(whole, config, F.cross_entropy, NoisyData()).fit()
    with pytest.raises(KeyboardInterrupt):
        Trainer(cut, config, crashing, NoisyData(), out_dir=tmp_path).fit()
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 5
    resumed = build_vit(0.1)
    Trainer(resumed, config, F.cross_entropy, NoisyData(), out_dir=tmp_path).fit(resume=True)
    assert_same_state(resumed, whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "train.jsonl").open()]
    assert steps == list(range(1, config.steps + 1))


def test_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    first, second = build_cnn(), build_cnn()
    train(first, out_dir=tmp_path).fit()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    result = train(second, out_dir=tmp_path).fit(resume=True)
    assert result.finished
    assert_same_state(second, first)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_seed_decides() -> None:
    nets = [build_vit(0.1), build_vit(0.1), build_vit(0.1)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train(net, CONFIG.replace(seed=seed, steps=3)).fit()
    assert_same_state(nets[0], nets[1])
    assert not torch.equal(nets[0].chain[0].q.weight, nets[2].chain[0].q.weight)  # type: ignore[union-attr,arg-type]


# -- mixed precision, log ------------------------------------------------------------------------


def test_bf16_stays_close_to_float32() -> None:
    losses = []
    for amp in ("none", "bf16"):
        config = CONFIG.replace(amp=amp, strategy="full", steps=4)
        losses.append(train(build_vit(), config).fit().losses["full"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_trains_on_a_gpu_and_resumes(tmp_path: Path, amp: str) -> None:
    config = CONFIG.replace(amp=amp, device="cuda")
    nets = [build_vit(), build_vit()]
    train(nets[0], config, out_dir=tmp_path).fit(stop_at=4)
    result = train(nets[1], config, out_dir=tmp_path).fit(resume=True)
    assert result.finished and result.losses["mean"] < 2.0


def test_log_has_a_line_for_each_step_with_losses_by_subnet(tmp_path: Path) -> None:
    supernet = build_vit()
    train(supernet, CONFIG.replace(log_every=3), out_dir=tmp_path).fit()
    records = [json.loads(line) for line in (tmp_path / "train.jsonl").open()]
    assert [record["step"] for record in records] == [1, 3, 6, 8]
    for record in records:
        assert {"full", "tiny"} <= set(record["losses"])
        assert record["lr"] > 0 and record["step_seconds"] > 0 and record["grad_norm"] > 0
    assert records[-1]["epoch"] == pytest.approx(8 * 12 / 30, abs=1e-3)


# -- what goes wrong -----------------------------------------------------------------------------


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(TrainError, match="needs a CUDA device"):
        train(build_vit(), CONFIG.replace(amp="fp16")).fit()


def test_unknown_device() -> None:
    for device in ("abacus", "cuda:99"):
        with pytest.raises(TrainError, match="no device"):
            train(build_vit(), CONFIG.replace(device=device)).fit()


def test_loss_that_is_no_number_stops_the_run() -> None:
    def broken(output: Tensor, target: Tensor) -> Tensor:
        return output.sum() * float("nan")

    with pytest.raises(TrainError, match="no longer a number at step 1"):
        Trainer(build_vit(), CONFIG, broken, make_data()).fit()


def test_checkpoint_of_other_options_model_or_bytes_is_refused(tmp_path: Path) -> None:
    train(build_vit(), out_dir=tmp_path).fit(stop_at=2)
    with pytest.raises(TrainError, match="another 'lr'"):
        train(build_vit(), CONFIG.replace(lr=1.0), out_dir=tmp_path).fit(resume=True)
    with pytest.raises(TrainError, match="another model"):
        train(build_cnn(), out_dir=tmp_path).fit(resume=True)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(TrainError, match="not a whole checkpoint"):
            train(build_vit(), out_dir=tmp_path).fit(resume=True)
    path.write_bytes(whole)
    assert train(build_vit(), out_dir=tmp_path).fit(resume=True).finished


def test_options_that_do_not_touch_the_weights_may_change(tmp_path: Path) -> None:
    train(build_vit(), out_dir=tmp_path).fit(stop_at=2)
    changed = CONFIG.replace(log_every=2, checkpoint_every=1)
    assert train(build_vit(), changed, out_dir=tmp_path).fit(resume=True).finished


def test_a_strategy_that_distils_without_a_teacher_is_named() -> None:
    class Orphans:
        split_batch = False

        def draw(self, space: Any, step: int, steps: int, rng: random.Random) -> tuple[Any, ...]:
            from nestling.training import Draw

            return (Draw(Subnet(space.full().levels), 1.0, distill=1.0),)

    with pytest.raises(TrainError, match="no draw before this one teaches"):
        train(build_vit(), strategy=Orphans()).fit()
