"""The engine against ExecuTorch's reference operators, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from micro.engine.host import MicroEngine
from micro.engine.samples import (
    digits_bundle,
    digits_cnn,
    held_out,
    lower_whole,
    random_chains,
    references,
    small_bundle,
    small_cnn,
    small_images,
)
from torch import nn

from nestling.bench.reference import ReferenceChain
from nestling.targets.cortex_m.program import read_program
from nestling.targets.cortex_m.reference import run_reference
from nestling.targets.cortex_m.whole import bundle_program
from nestling_runtime.bundle import Bundle

IMAGES = 6
CORES = ("cortex-m55", "cortex-m7")


def test_named_and_random_paths_give_the_references_bytes() -> None:
    bundle = digits_bundle()
    reference = ReferenceChain(bundle, references(bundle))
    engine = MicroEngine(bundle)
    paths: list[str | list[int]] = [*engine.paths, *random_chains(bundle, digits_cnn(), 20)]
    outputs = set()
    for image in held_out()[:IMAGES].numpy():
        for path in paths:
            engine.select(path)
            output = engine.run(image)
            assert output == reference.run(path, image[None]).tobytes(), path
            outputs.add(output)
    assert len(outputs) > IMAGES, "the paths compute nothing of their own"
    engine.close()


@pytest.mark.parametrize("target", CORES)
def test_images_of_several_channels_come_as_numpy_lays_them_out(target: str) -> None:
    bundle = small_bundle(target)
    reference = ReferenceChain(bundle, references(bundle))
    engine = MicroEngine(bundle)
    for image in small_images(IMAGES).numpy():
        for path in [*engine.paths, *random_chains(bundle, small_cnn(), 4)]:
            engine.select(path)
            assert engine.run(image) == reference.run(path, image[None]).tobytes()
    engine.close()


def test_weights_of_a_level_are_one_constant_for_all_wider_stages() -> None:
    with Bundle.open(digits_bundle()) as bundle:
        stages = {stage.name: {index for _, index in stage.bindings} for stage in bundle.stages}
        levels = {i: bundle.sections[c.section].level for i, c in enumerate(bundle.constants)}
    for layer in range(3):
        for width in (2, 3):
            below, here = stages[f"layer{layer}.w{width - 1}"], stages[f"layer{layer}.w{width}"]
            own = below - here
            # what a narrower stage has for itself corrects its statistics: weights and channels
            assert len(own) <= 2 < len(below)
            assert all(levels[i] <= width for i in here)


class Small(nn.Module):
    """Convolutions, a pool that rounds up, a clamp that keeps its own grid, two additions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.out = nn.Linear(16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x + torch.relu(self.depthwise(x))
        x = torch.max_pool2d(x, 2) + self.point(torch.max_pool2d(x, 2))
        x = torch.sigmoid(x).mean((2, 3))
        return torch.softmax(self.out(x), -1)


class Mixer(nn.Module):
    """What a transformer has: norms, products, a table, rearrangements, a part of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.query = nn.Linear(32, 32)
        self.key = nn.Linear(32, 32)
        self.value = nn.Linear(32, 32)
        self.up = nn.Linear(32, 64)
        self.down = nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        q = self.query(h).reshape(1, 9, 2, 16).transpose(1, 2).reshape(2, 9, 16)
        k = self.key(h).reshape(1, 9, 2, 16).permute(0, 2, 3, 1).reshape(2, 16, 9)
        y = torch.softmax(torch.bmm(q, k), -1)
        v = self.value(h).reshape(1, 9, 2, 16).transpose(1, 2).reshape(2, 9, 16)
        y = torch.bmm(y, v).reshape(1, 2, 9, 16).transpose(1, 2).reshape(1, 9, 32)
        y = x + self.down(nn.functional.gelu(self.up(y)))
        return y[:, 0]


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize(
    ("model", "shape"), [(Small, (3, 12, 12)), (Mixer, (9, 32))], ids=["cnn", "mixer"]
)
def test_a_brought_program_gives_the_references_bytes(
    model: type[nn.Module], shape: tuple[int, ...], target: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    samples = torch.randn(16, *shape)
    program = tmp_path / "brought.pte"
    program.write_bytes(lower_whole(model(), samples, target))
    bundle = tmp_path / "brought.nest"
    bundle_program(program, bundle, target=target)
    read = read_program(program.read_bytes())
    engine = MicroEngine(bundle)
    for sample in samples:
        (expected,) = run_reference(read, [sample[None]])
        given = sample.permute(1, 2, 0) if sample.dim() == 3 else sample
        assert engine.run(given.numpy()) == expected.contiguous().numpy().tobytes()
    engine.close()


def test_answers_are_the_models_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = torch.randn(32, 3, 12, 12)
    model = Small().eval()
    program = tmp_path / "brought.pte"
    program.write_bytes(lower_whole(model, samples))
    bundle_program(program, tmp_path / "brought.nest")
    engine = MicroEngine(tmp_path / "brought.nest")
    with torch.no_grad():
        wanted = model(samples).numpy()
    found = [
        np.frombuffer(engine.run(sample.permute(1, 2, 0).numpy()), np.float32) for sample in samples
    ]
    assert np.abs(np.stack(found) - wanted).max() < 0.02
    engine.close()
