"""Whole exports, run by the native runtime, against the same subnets in eager torch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from export.supernets import CACHE, make_cnn, make_llama, make_short_cnn, make_vit
from torch import Tensor

import nestling_runtime
from nestling.elastic import Subnet, Supernet
from nestling.errors import ExportError, ModelError, PathError
from nestling.export import export_bundle, lower_dense
from nestling.partition.cut import cut
from nestling.partition.modules import FusedPath
from nestling.quantize.schemes import get_scheme
from nestling_runtime.bundle import Bundle

EXAMPLES = 8


MAKERS = {
    "vit": make_vit,
    "shallow-vit": lambda: make_vit(depth=1),
    "cnn": make_cnn,
    "short-cnn": make_short_cnn,
    "llama": make_llama,
}
# Each network and each scheme at least once, the schemes on one or two layers: every stage lowers
# for seconds.
# What a scheme may differ from eager torch running the same arithmetic, in units of the output's
# spread. A rounding that falls on the other side moves one int8 activation by one step.
CASES = [
    ("vit", "fp32", 1e-5),
    ("shallow-vit", "int4-group32", 0.05),
    ("shallow-vit", "int8-nibble", 0.05),
    ("cnn", "fp32", 1e-5),
    ("short-cnn", "int8-static", 0.25),
    ("llama", "int8-dynamic", 0.05),
]


# Fused paths take longest to lower; one scheme of each kind of arithmetic is enough.
FUSED = ("fp32", "int8-dynamic", "int8-static")


def examples(supernet: Supernet) -> list[tuple[Tensor, ...]]:
    torch.manual_seed(7)
    (example,) = supernet.example_inputs()
    if example.dtype == torch.float32:
        return [(torch.randn_like(example),) for _ in range(EXAMPLES)]
    return [(torch.randint(0, 64, example.shape, dtype=example.dtype),) for _ in range(EXAMPLES)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    made: dict[tuple[str, str], tuple[Supernet, Path]] = {}

    def export(model: str, scheme: str) -> tuple[Supernet, Path]:
        if (model, scheme) not in made:
            supernet = MAKERS[model]()
            path = tmp_path_factory.mktemp("bundles") / f"{model}-{scheme}.nest"
            inputs = examples(supernet)
            export_bundle(
                supernet,
                path,
                scheme=scheme,
                calibration=inputs,
                jobs=1,
                cache_dir=CACHE,
                fused=scheme in FUSED,
            )
            made[model, scheme] = supernet, path
        return made[model, scheme]

    return export


def reference(supernet: Supernet, scheme_name: str, subnet: Subnet, bits: int) -> torch.nn.Module:
    """The subnet in eager torch, in the scheme's own arithmetic where that needs no data."""
    scheme = get_scheme(scheme_name)
    if scheme.activations != "dynamic":
        return supernet.dense(subnet)
    pieces = cut(supernet, scheme)
    stem, *blocks, head = (pieces.stages[k].module for k in pieces.chain(subnet, bits))
    return FusedPath(stem, blocks, head)


def random_subnets(supernet: Supernet, count: int) -> list[Subnet]:
    rng = random.Random(3)
    return [supernet.space.sample(rng) for _ in range(count)]


def stage_names(supernet: Supernet, subnet: Subnet) -> list[str]:
    blocks = zip(supernet.space.blocks, subnet.levels, strict=True)
    return ["stem", *(f"{b.name}.w{level}" for b, level in blocks if level), "head"]


@pytest.mark.parametrize(("model", "scheme", "tolerance"), CASES)
def test_every_path_computes_its_subnet(exported, model, scheme, tolerance):
    supernet, path = exported(model, scheme)
    full_bits = get_scheme(scheme).full_bits
    (name,) = supernet.input_names
    with nestling_runtime.open(path) as opened, opened.session() as session:
        for path_name in opened.path_names:
            bits = 4 if path_name.endswith(".q4") else full_bits
            subnet = supernet.space.named[path_name.removesuffix(".q4")]
            network = reference(supernet, scheme, subnet, bits)
            for inputs in examples(supernet)[:3]:
                with torch.no_grad():
                    expected = network(*inputs).numpy()
                session.select(path_name, mode="fused" if scheme in FUSED else "chain")
                fused = session.run(**{name: inputs[0].numpy()})["logits"].copy()
                session.select(path_name, mode="chain")
                chained = session.run(**{name: inputs[0].numpy()})["logits"].copy()
                spread = float(np.ptp(expected)) or 1.0
                assert np.abs(fused - expected).max() <= tolerance * spread + 1e-6, path_name
                assert np.abs(chained - fused).max() <= 1e-5 * spread + 1e-6, path_name


@pytest.mark.parametrize(("model", "scheme"), [("vit", "fp32"), ("cnn", "fp32")])
def test_any_mix_of_stages_computes_its_subnet(exported, model, scheme):
    supernet, path = exported(model, scheme)
    (name,) = supernet.input_names
    with nestling_runtime.open(path) as opened, opened.session() as session:
        for subnet in random_subnets(supernet, 20):
            session.select_stages(stage_names(supernet, subnet))
            inputs = examples(supernet)[0]
            with torch.no_grad():
                expected = supernet.dense(subnet)(*inputs).numpy()
            actual = session.run(**{name: inputs[0].numpy()})["logits"]
            np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_skipping_a_stage_that_is_needed_is_one_clear_error(exported):
    supernet, path = exported("cnn", "fp32")
    names = stage_names(supernet, supernet.space.full())
    with nestling_runtime.open(path) as opened, opened.session() as session:
        with pytest.raises(PathError):
            session.select_stages([*names[:-2], "head"])
        session.select("tiny")
        assert np.isfinite(
            session.run(**{session.input_names[0]: np.zeros((1, 1, 8, 8), np.float32)})["logits"]
        ).all()


@pytest.mark.parametrize(("model", "scheme", "tolerance"), CASES)
def test_every_weight_is_stored_once_by_level(exported, model, scheme, tolerance):
    _, path = exported(model, scheme)
    with Bundle.open(path) as bundle:
        sections = {section.name: section for section in bundle.sections}
        assert "fused" not in sections, "a fused path has constants of its own"
        levels = {name for name in sections if name != "programs"}
        nested = {"core.low", "level2.low"} if get_scheme(scheme).bit_levels else set()
        assert levels == {"core", "level2"} | nested
        by_index = list(bundle.sections)
        for entry in bundle.paths:
            used = {
                by_index[bundle.constants[constant].section].name
                for stage in entry.chain
                for _, constant in bundle.stages[stage].bindings
            }
            if entry.name.startswith("tiny"):
                assert used <= {"core", "core.low"}, "level 1 needs a blob of a higher level"
            if entry.name.endswith(".q4"):
                assert not any(name.endswith(".low") for name in used)
        full = next(entry for entry in bundle.paths if entry.name == "full")
        blobs = sum(sections[name].size_bytes for name in levels)
        padding = 64 * len(bundle.constants)
        # Equal bytes under two keys (biases of zeros) are stored once, so it may be a little less.
        assert 0.99 * full.weight_bytes <= blobs <= full.weight_bytes + padding + 4096


def test_equal_layers_are_one_program(exported):
    _, path = exported("vit", "fp32")
    with Bundle.open(path) as bundle:
        by_name = {stage.name: stage.program for stage in bundle.stages}
        assert by_name["layer0.ffn.w1"] == by_name["layer1.ffn.w1"]
        assert by_name["layer0.ffn.w1"] != by_name["layer0.ffn.w2"]


def test_two_models_of_equal_structure_do_not_mix_up_their_weights(exported, tmp_path):
    """XNNPACK's cache goes by name in the whole process; the names must be the model's own."""
    supernet, path = exported("vit", "fp32")
    torch.manual_seed(5)
    other = make_vit()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    second = tmp_path / "other.nest"
    export_bundle(other, second, jobs=1, cache_dir=CACHE)
    (inputs,) = examples(supernet)[0]
    with (
        nestling_runtime.open(path) as a,
        nestling_runtime.open(second) as b,
        a.session() as first,
        b.session() as last,
    ):
        for network, session in ((supernet, first), (other, last), (supernet, first)):
            session.select("full")
            with torch.no_grad():
                expected = network(inputs, subnet=network.space.full()).numpy()
            actual = session.run(**{session.input_names[0]: inputs.numpy()})["logits"]
            np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_export_is_reproducible(exported, tmp_path):
    supernet, path = exported("vit", "fp32")
    again = tmp_path / path.name
    export_bundle(supernet, again, jobs=1, cache_dir=CACHE)
    assert again.read_bytes() == path.read_bytes()


def test_dense_baseline_is_plain_executorch(exported):
    from executorch.runtime import Runtime

    supernet, _ = exported("vit", "fp32")
    named = {"tiny": supernet.space.named["tiny"]}
    (inputs,) = examples(supernet)[0]
    program = Runtime.get().load_program(lower_dense(supernet, named, jobs=1)["tiny"])
    method = program.load_method("forward")
    assert method is not None
    with torch.no_grad():
        expected = supernet.dense(named["tiny"])(inputs)
    torch.testing.assert_close(method.execute([inputs])[0], expected, atol=1e-4, rtol=0)


def test_wrong_requests_are_refused_before_any_lowering(tmp_path):
    with pytest.raises(ExportError, match="calibration"):
        export_bundle(make_cnn(), tmp_path / "a.nest", scheme="int8-static", jobs=1)
    with pytest.raises(ModelError, match="int8-static"):
        export_bundle(make_cnn(), tmp_path / "b.nest", scheme="int8-dynamic", jobs=1)
    with pytest.raises(ExportError, match="unknown"):
        export_bundle(make_vit(), tmp_path / "c.nest", scheme="int5", jobs=1)
    with pytest.raises(PathError):
        export_bundle(make_vit(), tmp_path / "d.nest", paths={"odd": Subnet((9,) * 4)}, jobs=1)
    assert not list(tmp_path.iterdir())
