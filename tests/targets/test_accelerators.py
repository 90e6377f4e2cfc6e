"""Stages for GPUs, DSPs and NPUs: what they compute, what is delegated, what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from export.supernets import CACHE, make_cnn, make_vit
from torch import Tensor, nn

import nestling_runtime
from nestling.elastic import Supernet
from nestling.errors import EngineError, ExportError, TargetError
from nestling.export import export_bundle
from nestling.partition.blocks import cut_blocks
from nestling.partition.calibrate import record_stage_inputs
from nestling.partition.cut import StageCut, cut
from nestling.quantize.schemes import SCHEMES, get_scheme
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.registry import describe_target, get_target
from nestling.targets.target import Work

SAMPLES = 8
DELEGATED = 0.9
"""Share of the multiply-accumulates that must be inside the delegate."""

# Error allowed, in units of the largest output. Integers may round to the other side of a step.
CASES = [
    ("vulkan", "int8-static", "cnn", 0.1),
    ("vulkan", "int4-group32", "vit", 0.05),
    ("coreml", "fp16", "vit", 1e-2),
    ("cadence-hifi", "int8-static", "vit", 0.05),
    ("ethos-u55", "int8-static", "vit", 0.2),
    ("vgf", "fp32", "vit", 1e-4),
]
OURS = ("vulkan", "coreml", "cadence-hifi", "ethos-u55", "ethos-u65", "ethos-u85", "vgf")


def make_headless_cnn() -> Supernet:
    return make_cnn(blocks=((8, 2, 1),), head=None)


@dataclass(frozen=True)
class Compiled:
    """One layer's stages of a small network, compiled for a target."""

    target: DelegateTarget
    stages: list[StageCut]
    inputs: list[list[tuple[Tensor, ...]]]
    compiled: list[CompiledStage]


@pytest.fixture(scope="module")
def compile_layer():
    """Compile the last layer of a small network at both widths, each case once."""
    made: dict[tuple[str, str, str], Compiled] = {}

    def get(name: str, scheme_name: str, network: str) -> Compiled:
        key = (name, scheme_name, network)
        if key not in made:
            made[key] = _compile_layer(*key)
        return made[key]

    return get


def _compile_layer(name: str, scheme_name: str, network: str) -> Compiled:
    supernet = make_vit(depth=1) if network == "vit" else make_headless_cnn()
    scheme = get_scheme(scheme_name)
    target = get_target(name)
    assert isinstance(target, DelegateTarget)
    target.check(scheme)
    blocks = target.description.grain == "block"
    pieces = cut_blocks(supernet, scheme) if blocks else cut(supernet, scheme)
    images = torch.randn(SAMPLES, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    floats = get_scheme("fp32")
    recorded = record_stage_inputs(
        supernet, cut_blocks(supernet, floats) if blocks else pieces, [(images,)]
    )
    layer = "layer0.ffn." if network == "vit" else supernet.chain[-1].name + "."
    keys = [key for key, stage in pieces.stages.items() if stage.name.startswith(layer)]
    stages = [pieces.stages[key] for key in keys]
    some = replace(pieces, stages=dict(zip(keys, stages, strict=True)))
    work = Work(supernet, some, scheme, [(images,)], {}, False, 1, CACHE, None)
    modules = target.quantized_modules(work)
    inputs = [list(recorded[key.position]) for key in keys]
    compiled = [
        target.compile(
            StageJob(
                stage.name,
                modules[stage.key],
                stage.example_inputs,
                tuple(samples) if scheme.needs_calibration else (),
                name,
                scheme_name,
                target.description.resolve_options(()),
                True,
            )
        )
        for stage, samples in zip(stages, inputs, strict=True)
    ]
    return Compiled(target, stages, inputs, compiled)


@contextmanager
def missing_is_said(name: str) -> Iterator[bool]:
    """Where a target's packages are not installed, nothing but the error that names them is due."""
    missing = describe_target(name).missing()
    if not missing:
        yield True
        return
    with pytest.raises(TargetError, match=missing[0].what.partition("=")[0].partition(">")[0]):
        get_target(name)
    yield False


@pytest.mark.parametrize(("name", "scheme", "network", "tolerance"), CASES)
def test_a_stage_computes_what_eager_torch_computes(
    name: str, scheme: str, network: str, tolerance: float, compile_layer, tmp_path: Path
) -> None:
    with missing_is_said(name) as here:
        if not here:
            return
        made: Compiled = compile_layer(name, scheme, network)
    for stage, compiled in zip(made.stages, made.compiled, strict=True):
        path = tmp_path / f"{stage.name}{made.target.reference_suffix}"
        path.write_bytes(compiled.reference)
    if describe_target(name).missing("run"):
        with pytest.raises(TargetError, match="not installed"), made.target.open(tmp_path):
            pass
        return
    with made.target.open(tmp_path) as runner:
        for stage, inputs in zip(made.stages, made.inputs, strict=True):
            arrays = [tuple(tensor.numpy() for tensor in sample) for sample in inputs]
            outputs = runner.run(stage.name, arrays).outputs
            for sample, given in zip(inputs, outputs, strict=True):
                assert _error(stage.module, sample, given) <= tolerance, stage.name
        with pytest.raises(EngineError, match="nowhere"):
            runner.run("nowhere", [])


def _error(module: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[np.ndarray, ...]) -> float:
    """Largest difference from eager torch, over the largest output."""
    with torch.no_grad():
        wanted = module(*inputs)
    wanted = (wanted,) if isinstance(wanted, Tensor) else wanted
    errors = [
        float((torch.from_numpy(got) - want).abs().max() / want.abs().max())
        for got, want in zip(outputs, wanted, strict=True)
    ]
    return max(errors)


@pytest.mark.parametrize(("name", "scheme", "network", "tolerance"), CASES)
def test_heavy_operators_are_delegated(
    name: str, scheme: str, network: str, tolerance: float, compile_layer
) -> None:
    with missing_is_said(name) as here:
        if not here:
            return
        made: Compiled = compile_layer(name, scheme, network)
    for stage, compiled in zip(made.stages, made.compiled, strict=True):
        assert compiled.lowered.host_macs <= (1 - DELEGATED) * stage.macs, compiled.lowered.portable


@pytest.mark.parametrize(
    ("name", "scheme", "network"),
    [
        ("vulkan", "int8-static", "cnn"),
        ("vulkan", "int4-group32", "vit"),
        ("cadence-hifi", "int8-static", "vit"),
    ],
)
def test_a_wide_stage_shares_the_weights_of_a_narrow_one(
    name: str, scheme: str, network: str, compile_layer
) -> None:
    made: Compiled = compile_layer(name, scheme, network)
    narrow, wide = (
        {constant.data for constant in compiled.lowered.constants.values()}
        for compiled in made.compiled
    )
    # What depends on the sum over levels is small in real layers, a few channels wide here: batch
    # norm behind it, and ranges of activations.
    own = sum(len(data) for data in narrow - wide)
    assert own <= 0.25 * sum(len(data) for data in narrow)
    for compiled in made.compiled:
        program = compiled.lowered.program
        large = [c.data for c in compiled.lowered.constants.values() if len(c.data) >= 64]
        assert large and not any(data in program for data in large)


def test_core_ml_holds_half_precision_weights_in_its_own_operators(compile_layer) -> None:
    with missing_is_said("coreml") as here:
        if not here:
            return
        made: Compiled = compile_layer("coreml", "fp16", "vit")
    from nestling.targets.coreml.package import read_package

    stage, compiled = made.stages[0], made.compiled[0]
    program = deserialize_pte_binary(compiled.lowered.program).program
    (delegate,) = program.backend_delegate_data
    package = read_package(bytes(delegate.data))
    linears = [m for m in stage.module.modules() if isinstance(m, nn.Linear)]
    assert package.operators["linear"] + package.operators["matmul"] >= len(linears) > 0
    assert package.operators["layer_norm"] == 1
    assert "FLOAT32" not in package.precisions
    for linear in linears:
        assert linear.weight.detach().half().numpy().tobytes() in package.weights
    with pytest.raises(ExportError, match="not a Core ML package"):
        read_package(b"no package")


def test_ethos_u_keeps_what_vela_says(compile_layer) -> None:
    with missing_is_said("ethos-u55") as here:
        if not here:
            return
        made: Compiled = compile_layer("ethos-u55", "int8-static", "vit")
    for compiled in made.compiled:
        assert compiled.figures["cycles"] > 0
        assert compiled.figures["sram_bytes"] > 0
        assert compiled.figures["flash_bytes"] > 0


@pytest.mark.parametrize("name", OURS)
def test_a_scheme_that_a_target_cannot_run_is_refused(name: str) -> None:
    description = describe_target(name)
    for scheme in SCHEMES.values():
        if scheme.name not in description.schemes:
            with pytest.raises(ExportError, match=description.schemes[0]) as caught:
                description.check_scheme(scheme)
            assert scheme.name in str(caught.value)


def test_a_chip_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ExportError, match="ethos-u55 or ethos-u65 or ethos-u85"):
        describe_target("ethos-u99")


def test_an_export_in_half_precision_runs_on_the_processor(tmp_path: Path) -> None:
    supernet = make_headless_cnn()
    path = tmp_path / "half.nest"
    export_bundle(supernet, path, scheme="fp16", jobs=1, cache_dir=CACHE, fused=False)
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with nestling_runtime.open(path) as model, model.session() as session:
        for name, subnet in supernet.space.named.items():
            supernet.select(subnet)
            wanted = supernet(image).detach().numpy()
            session.select(name)
            logits = session.run(pixels=image.numpy())["logits"]
            assert logits.dtype == np.float32
            assert np.abs(logits - wanted).max() <= 1e-2
