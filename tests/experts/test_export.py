"""Bundles with experts: what is in them, and what the command line says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from experts.bundles import DIM, EXPERTS, NIBBLES, TOKENS, export_net, make_chain, make_net
from experts.reference import Sections
from experts.test_checkpoints import make_model
from torch.export import ExportedProgram

from nestling.cli import main
from nestling.elastic import ElasticLlama, save
from nestling.errors import ModelError
from nestling.experts.bank import ExpertShape, StackedExperts
from nestling.experts.index import IndexedLayer, Predictor, encode_experts
from nestling.experts.operator import resident_experts
from nestling.experts.predictor import agreement, fit_predictors
from nestling.experts.routing import record_routing
from nestling.experts.slices import F32, ExpertFormat, QuantizedExperts
from nestling.targets.layer_numbers import layer_numbers
from nestling.targets.lowered import LoweredProgram
from nestling.targets.structure import content_digest, make_template, structure_digest
from nestling.targets.xnnpack.lower import lower_program, trace
from nestling_runtime.bundle import Bundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("experts")
    torch.set_num_threads(1)
    return {
        "f32": export_net(make_net(), folder / "f32.nest", tokens=TOKENS),
        "nibbles": export_net(make_net(), folder / "nibbles.nest", tokens=TOKENS, experts=NIBBLES),
        "more": export_net(make_net(experts=4 * EXPERTS), folder / "more.nest", tokens=TOKENS),
    }


def read_sections(bundle: Bundle) -> dict[str, bytes]:
    return {s.name: bytes(bundle.section_bytes(s)) for s in bundle.sections}


def test_experts_lie_beside_the_stages(bundles: dict[str, Path]) -> None:
    net = make_net()
    with Bundle.open(bundles["nibbles"]) as bundle:
        sections = Sections(read_sections(bundle))
        stages = {stage.name for stage in bundle.stages}
        assert {path.name for path in bundle.paths} == {"even", "odd", "short"}
    assert {"first.even", "first.odd", "second.even", "second.odd"} <= stages
    assert [layer.experts for layer in sections.layers] == [EXPERTS, EXPERTS]
    for layer, block in zip(sections.layers, net.layers, strict=True):
        for number, expert in enumerate(block.bank.matrices().each()):
            weights, _ = sections.matrices(layer, number, 8)
            down = torch.tensor(weights[-1])
            assert float((down - expert.down).abs().max()) < 0.01 * float(expert.down.abs().max())


def test_more_experts_cost_their_weights_and_no_program(bundles: dict[str, Path]) -> None:
    """Equal programs but for the rows of the router, whatever the number of experts."""
    with Bundle.open(bundles["f32"]) as few, Bundle.open(bundles["more"]) as many:
        assert len(few.programs) == len(many.programs)
        assert len(few.stages) == len(many.stages)
        grown = many.size_bytes - few.size_bytes
    per_expert = 4 * DIM * 48 * 3 + 4 * (DIM * 48 * 2 + DIM + 48)
    routers = 4 * 4 * DIM
    assert abs(grown - 3 * EXPERTS * (per_expert + routers)) < 0.02 * grown + 4 * 16384


def test_the_sections_are_the_weights_and_little_else() -> None:
    bank = StackedExperts(ExpertShape(64, 128, 16, 2))
    weights = 16 * 3 * 64 * 128
    sizes = {
        form: sum(map(len, encode_experts([IndexedLayer("a", bank)], form).values()))
        for form in (F32, ExpertFormat(64))
    }
    assert 4 * weights <= sizes[F32] < 1.02 * 4 * weights
    # Two bytes of scale for each group beside a byte for each weight.
    assert weights < sizes[ExpertFormat(64)] < 1.02 * weights * (1 + 2 / 64)


def test_a_predictor_beats_the_router_as_it_is() -> None:
    """The correction is worth something where the layers see the stream differently."""
    net = make_net()
    net.second.norm.weight.normal_()  # type: ignore[operator, union-attr]
    chain = make_chain(net)
    with torch.no_grad(), record_routing(net) as calls:
        net(torch.randn(1, 2000, DIM))
    fitted, last = fit_predictors(chain.experts, calls)
    assert fitted is not None and last is None and fitted.layer == 1
    router = net.second.routers["even"].weight
    plain = Predictor(1, router, torch.zeros(EXPERTS))
    with torch.no_grad(), record_routing(net) as fresh:
        net(torch.randn(1, 500, DIM))
    first, second = fresh
    good = agreement(fitted, first.hidden, second.chosen)
    assert good > agreement(plain, first.hidden, second.chosen) + 0.1
    assert good > 0.6
    with pytest.raises(ModelError, match="same tokens"):
        fit_predictors(chain.experts, calls[:1])


def test_nibbles_compute_nearly_what_the_weights_do() -> None:
    net = make_net()
    chain = make_chain(net, 64)
    x = torch.randn(1, 64, DIM)
    expected = net(x)
    errors = {}
    for bits in (4, 8):
        layers = [QuantizedExperts(bank, NIBBLES, bits) for bank in chain.banks()]
        slots = {"hidden": x}
        with resident_experts(layers):
            for name in chain.paths["even"].stages:
                stage = chain.stages[name]
                slots[stage.outputs[0]] = stage.module(*(slots[s] for s in stage.inputs))
        # A token whose router was between two experts may go elsewhere; most do not.
        errors[bits] = float((slots["logits"] - expected).abs().quantile(0.9))
    spread = float(expected.std())
    assert errors[8] < 0.02 * spread < 0.3 * spread
    assert errors[8] < errors[4] < 0.3 * spread


def test_inspect_says_what_experts_there_are(bundles: dict[str, Path]) -> None:
    result = CliRunner().invoke(main, ["inspect", str(bundles["nibbles"]), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)["experts"]
    first, second = facts["layers"]
    assert (first["experts"], first["top_k"], first["format"], first["group"]) == (
        8,
        2,
        "nibbles",
        16,
    )
    assert (first["predicts_layer"], second["predicts_layer"]) == (1, None)
    assert len(facts["slice_bytes"]) == 2
    shown = CliRunner().invoke(main, ["inspect", str(bundles["f32"])])
    assert "8 in each of 2 layers" in " ".join(shown.output.split())


def test_a_checkpoint_with_experts_is_exported_by_a_command(tmp_path: Path) -> None:
    model = make_model("Qwen3Moe", num_hidden_layers=1)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "text").write_bytes(bytes(range(40)) * 8)
    bundle = tmp_path / "moe.nest"
    command = ["export-decoder", str(tmp_path / "model"), "-o", str(bundle), "--context", "16"]
    sizes = ["--verify", "2", "--chunk", "2", "--jobs", "1", "--quiet"]
    experts = [
        "--experts",
        "nibbles",
        "--expert-group",
        "8",
        "--calibration",
        str(tmp_path / "text"),
    ]
    result = CliRunner().invoke(main, [*command, *sizes, *experts])
    assert result.exit_code == 0, result.output
    with Bundle.open(bundle) as opened:
        sections = Sections(read_sections(opened))
    assert [(layer.group, layer.top_k, layer.flags) for layer in sections.layers] == [(8, 2, 3)]
    result = CliRunner().invoke(main, [*command, *sizes, *experts[:2], "--expert-group", "9"])
    assert result.exit_code != 0
    assert "group" in result.output
    (tmp_path / "text").write_bytes(b"abc" * 100)
    result = CliRunner().invoke(main, [*command, *experts])
    assert result.exit_code != 0
    assert "bytes that the model does not know" in " ".join(result.output.split())


def test_a_dense_decoder_is_carved_by_a_command(tmp_path: Path) -> None:
    """Refused before anything is lowered; the carving itself has tests of its own."""
    dense = ElasticLlama(
        vocabulary=256, dim=16, depth=1, heads=2, hidden=24, positions=16, widths=(1.0,)
    )
    save(dense, tmp_path / "dense.pt")
    (tmp_path / "text").write_bytes(b"some text " * 20)
    command = ["export-decoder", str(tmp_path / "dense.pt"), "--quiet", "--carve", "4", "2"]
    text = ["--calibration", str(tmp_path / "text")]
    for options, match in ((["4"], "--calibration"), (["5", *text], "divide")):
        result = CliRunner().invoke(main, [*command, *options])
        assert result.exit_code != 0
        assert match in result.output


def test_layers_of_one_shape_are_lowered_once() -> None:
    """The number of a layer is put in afterwards; eight bytes are all that differs."""
    net = make_net()
    lowered = []

    def lower(program: ExportedProgram) -> LoweredProgram:
        lowered.append(layer_numbers(program))
        return lower_program(program)

    h = torch.randn(1, 1, DIM)
    first, second = (trace(net.first.stage(number), (h,)) for number in (1, 6))
    assert structure_digest(first) == structure_digest(second)
    assert content_digest(first) != content_digest(second)
    template = make_template(first, lower)
    assert template is not None
    assert (layer_numbers(first), layer_numbers(second)) == ([1], [6])
    one, six = (template.fill(program).program for program in (first, second))
    places = [at for at in range(len(one)) if one[at] != six[at]]
    assert len(one) == len(six) and len(places) == 1
    at = places[0]
    assert (one[at : at + 8], six[at : at + 8]) == (
        (1).to_bytes(8, "little"),
        (6).to_bytes(8, "little"),
    )
    assert len(lowered) == 1 and lowered[0][0] > 2**32
