"""One bundle for several targets: exported, inspected, split, and run over two of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from export.supernets import CACHE, make_small_cnn
from torch import Tensor

import nestling_runtime
from nestling.bundle.signing import generate_keys, sign
from nestling.bundle.split import split
from nestling.cli import main
from nestling.elastic import Subnet, Supernet
from nestling.errors import ExportError, TargetError
from nestling.export import ExportReport, export_bundle
from nestling.targets.description import Grain
from nestling.targets.registry import describe_target
from nestling_runtime.bundle import Bundle

# OpenVINO's package is an extra; where it is installed, its stages join in.
OTHERS = ("portable", *(() if describe_target("openvino").missing("run") else ("openvino",)))
EXAMPLES = 4
# Outputs have a spread of about one.
TOLERANCE = {"portable": 1e-5, "openvino": 1e-4}


@pytest.fixture(scope="module")
def cnn() -> Supernet:
    """Of images: XNNPACK's stages want their channels innermost, those of others do not."""
    return make_small_cnn()


@pytest.fixture(scope="module")
def exported(cnn: Supernet, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    path = tmp_path_factory.mktemp("bundles") / "cnn.nest"
    return export_bundle(
        cnn, path, target=("xnnpack", *OTHERS), jobs=1, cache_dir=CACHE, fused=False
    )


@pytest.fixture
def images() -> list[Tensor]:
    torch.manual_seed(7)
    return [torch.randn(1, 1, 8, 8) for _ in range(EXAMPLES)]


def test_every_mix_of_targets_computes_its_subnet(
    cnn: Supernet, exported: ExportReport, images: list[Tensor]
) -> None:
    assert exported.targets == ("xnnpack", *OTHERS)
    with nestling_runtime.open(exported.path, threads=1) as model, model.session() as session:
        bundle = model.bundle
        assert [target.runs for target in model.targets()] == [True] * len(exported.targets)
        for path in bundle.paths:
            subnet: Subnet = cnn.space.named[path.name]
            for other, turn in itertools.product(OTHERS, (0, 1)):
                # xnnpack and the other one take turns, and each begins once
                mixed = [
                    bundle.stand_in(stage, ("xnnpack", other)[(step + turn) % 2])
                    for step, stage in enumerate(path.chain)
                ]
                session.select_stages([stage for stage in mixed if stage is not None])
                assert {bundle.stage_target(stage) for stage in session.stages} == {
                    "xnnpack",
                    other,
                }
                for image in images:
                    (logits,) = session.run(**{session.input_names[0]: image.numpy()}).values()
                    with torch.no_grad():
                        expected = cnn(image, subnet=subnet).numpy()
                    np.testing.assert_allclose(logits, expected, atol=TOLERANCE[other])


def test_constants_are_shared_by_their_bytes(exported: ExportReport) -> None:
    with Bundle.open(exported.path) as bundle:
        names = [section.name for section in bundle.sections]
        contents = [bytes(bundle.item_bytes(c)) for c in bundle.constants]
        places = {
            (constant.section, constant.offset_bytes): data
            for constant, data in zip(bundle.constants, contents, strict=True)
        }
        assert len(places) == len(set(contents))
        for constant in bundle.constants:
            section = names[constant.section]
            users = {
                bundle.stage_target(number)
                for number, stage in enumerate(bundle.stages)
                if any(bundle.constants[n].key == constant.key for _, n in stage.bindings)
            }
            if "@" in section:
                assert users == {section.partition("@")[2]}


def test_inspect_tells_what_each_target_adds(exported: ExportReport) -> None:
    result = CliRunner().invoke(main, ["inspect", str(exported.path), "--json"])
    facts = json.loads(result.output)
    own, *others = facts["targets"]
    assert [target["name"] for target in facts["targets"]] == list(exported.targets)
    # The other targets' weights are XNNPACK's, or lie inside their programs.
    assert own["own_bytes"] + own["shared_bytes"] > 0
    assert all(target["program_bytes"] > 0 for target in others)
    programs = sum(s["bytes"] for s in facts["sections"] if s["kind"] == "program")
    listed = sum(target["program_bytes"] for target in facts["targets"])
    assert listed <= programs < listed + 64 * len(facts["stages"])
    assert "portable" in CliRunner().invoke(main, ["inspect", str(exported.path)]).output


def test_a_split_bundle_gives_the_same_answers(
    exported: ExportReport, images: list[Tensor], tmp_path: Path
) -> None:
    def answers(path: Path, targets: list[str]) -> list[bytes]:
        found = []
        with nestling_runtime.open(path, threads=1, targets=targets) as model:
            for name in model.path_names:
                with model.session() as session:
                    session.select(name)
                    for image in images:
                        outputs = session.run(**{session.input_names[0]: image.numpy()})
                        found += [output.tobytes() for output in outputs.values()]
        return found

    for kept in (["portable"], ["portable", "xnnpack"], ["xnnpack"]):
        report = split(exported.path, kept, tmp_path / "part.nest")
        assert report.targets == tuple(kept)
        assert set(report.dropped) == set(exported.targets) - set(kept)
        assert report.bytes_after <= report.bytes_before
        with Bundle.open(report.path) as part:
            part.check_sections()
            assert part.targets == tuple(kept)
            assert part.target == kept[0]
        assert answers(report.path, kept) == answers(exported.path, kept)


def test_a_bundle_for_one_target_splits_into_itself(
    cnn: Supernet, exported: ExportReport, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.nest"
    export_bundle(
        cnn, alone, jobs=1, cache_dir=CACHE, fused=False, name="cnn", grain=grain_of(exported)
    )
    split(exported.path, ["xnnpack"], tmp_path / "part.nest")
    assert (tmp_path / "part.nest").read_bytes() == alone.read_bytes()


def grain_of(report: ExportReport) -> Grain:
    """How the stages of an export were cut."""
    with Bundle.open(report.path) as bundle:
        return "layer" if any(".w1" in stage.name for stage in bundle.stages) else "block"


def test_split_says_that_a_signature_is_gone(exported: ExportReport, tmp_path: Path) -> None:
    signed = tmp_path / "signed.nest"
    signed.write_bytes(exported.path.read_bytes())
    generate_keys(tmp_path / "my.key", tmp_path / "my.pub")
    sign(signed, tmp_path / "my.key")
    output = tmp_path / "part.nest"
    result = CliRunner().invoke(
        main, ["split", str(signed), "--device", "phone-mid", "-o", str(output)]
    )
    assert result.exit_code == 0, result.output
    assert "The signature is gone" in result.output
    with Bundle.open(output) as part:
        assert not part.is_signed
        assert part.targets == ("xnnpack", "portable")


def test_what_a_device_does_not_run_is_named(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"nothing for this device.*xnnpack or portable"):
        split(exported.path, ["cortex-m55"], tmp_path / "part.nest")
    for arguments in (["--target", "qnn"], ["--device", "m55"], [], ["--device", "no such"]):
        result = CliRunner().invoke(
            main, ["split", str(exported.path), "-o", str(tmp_path / "part.nest"), *arguments]
        )
        assert result.exit_code != 0
        assert not (tmp_path / "part.nest").exists()


def test_targets_that_do_not_fit_together_are_refused(cnn: Supernet, tmp_path: Path) -> None:
    images = [(torch.randn(1, 1, 8, 8),) for _ in range(EXAMPLES)]
    with pytest.raises(ExportError, match="one target or for several different ones"):
        export_bundle(cnn, tmp_path / "a.nest", target=("xnnpack", "xnnpack"), jobs=1)
    with pytest.raises(ExportError, match="portable does not run scheme int8-static"):
        export_bundle(
            cnn,
            tmp_path / "a.nest",
            target=("xnnpack", "portable"),
            scheme="int8-static",
            calibration=images,
            jobs=1,
        )
