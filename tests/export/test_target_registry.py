"""Which targets there are, what they need, and what is said where something is missing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from nestling.cli import main
from nestling.errors import ExportError, TargetError
from nestling.quantize.schemes import SCHEMES, get_scheme
from nestling.targets import registry
from nestling.targets.description import Option, Requirement, TargetDescription

ACME = TargetDescription(
    name="acme-npu",
    family="acme",
    processor="a processor that is not there",
    grain="block",
    schemes=("int8-static",),
    implementation="acme_nestling:AcmeTarget",
    executed="nowhere",
    requirements=(
        Requirement("acme-compiler==1.0"),
        Requirement("acme-run", kind="program", purpose="run", remedy="buy one"),
    ),
    extra="acme",
    options=(Option("cores", "how many", "1", ("1", "2")),),
)
TARGETS = (ACME,)


@pytest.fixture
def with_acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that announces a target, as one that is installed would."""
    point = EntryPoint("acme", f"{__name__}:TARGETS", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(EntryPoint, "load", _load(EntryPoint.load))
    registry.list_targets.cache_clear()
    yield
    registry.list_targets.cache_clear()


def _load(original):  # tests are not importable by name
    return lambda point: TARGETS if point.name == "acme" else original(point)


def test_every_description_is_complete() -> None:
    for name, target in registry.list_targets().items():
        assert target.name == name
        assert name.startswith(target.family)
        assert target.schemes
        assert set(target.schemes) <= set(SCHEMES)
        for option in target.options:
            assert not option.choices or option.default in option.choices


def test_describing_targets_imports_no_compiler() -> None:
    code = (
        "import sys; from nestling.targets.registry import list_targets; list_targets(); "
        "print({'torch', 'executorch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_another_package_brings_a_target(with_acme: None) -> None:
    assert registry.describe_target("acme-npu") is ACME
    (shown,) = (
        target
        for target in json.loads(CliRunner().invoke(main, ["targets", "--json"]).output)
        if target["target"] == "acme-npu"
    )
    assert not shown["exports_here"]
    assert [need["found"] for need in shown["needs"]] == [None, None]
    assert "acme-compiler" in CliRunner().invoke(main, ["targets"]).output


def test_a_name_cannot_be_taken_twice(with_acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TARGETS", (dataclasses.replace(ACME, name="xnnpack"),))
    with pytest.raises(TargetError, match="xnnpack, which exists already"):
        registry.list_targets()


def test_a_missing_package_is_named(with_acme: None, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"acme-compiler==1.0.*pip install 'nestling\[acme\]'"):
        registry.get_target("acme-npu")
    result = CliRunner().invoke(main, ["export", str(tmp_path), "--target", "acme-npu"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: target acme-npu needs acme-compiler==1.0")
    assert "Traceback" not in result.stderr


def test_libraries_of_a_target_are_brought_in_once_and_may_be_missing(
    with_acme: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "acme_libraries.py").write_text(
        "from nestling.errors import TargetError\n"
        "brought = []\n"
        "def bring():\n"
        "    brought.append(1)\n"
        "    raise TargetError('not installed')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    first = dataclasses.replace(ACME, prepare="acme_libraries:bring")
    second = dataclasses.replace(first, name="acme-npu2")
    monkeypatch.setitem(globals(), "TARGETS", (first, second))
    registry.prepare_process(["xnnpack", "unheard-of"])
    assert "acme_libraries" not in sys.modules
    registry.prepare_process(["acme-npu", "acme-npu2", "xnnpack"])
    assert sys.modules["acme_libraries"].brought == [1]


def test_a_wrong_version_is_as_good_as_none() -> None:
    assert Requirement("numpy>=1").found() is not None
    assert Requirement("numpy==0.1").found() is None
    assert Requirement("numpy", environment="no-such-environment").found() is None


def test_a_program_is_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Requirement("sh", kind="program")
    assert need.found() is not None
    monkeypatch.setenv("PATH", "")
    assert need.found() is None


@pytest.mark.parametrize(
    ("name", "known"), [("cortex-m99", "cortex-m55"), ("qnn-sm1", "qnn-sm8650")]
)
def test_an_unknown_chip_is_answered_with_those_of_its_family(name: str, known: str) -> None:
    with pytest.raises(ExportError, match="does not know this chip") as caught:
        registry.describe_target(name)
    assert known in str(caught.value.expected)
    assert "xnnpack" not in str(caught.value.expected)


def test_an_unknown_target_is_answered_with_all() -> None:
    with pytest.raises(ExportError, match="unknown target") as caught:
        registry.describe_target("abacus")
    assert "xnnpack" in str(caught.value.expected)


def test_schemes_and_options_are_checked() -> None:
    ACME.check_scheme(get_scheme("int8-static"))
    with pytest.raises(ExportError, match="does not run scheme fp32"):
        ACME.check_scheme(get_scheme("fp32"))
    assert ACME.resolve_options([]) == {"cores": "1"}
    assert ACME.resolve_options([("cores", "2")]) == {"cores": "2"}
    with pytest.raises(ExportError, match="no such value"):
        ACME.resolve_options([("cores", "3")])
    with pytest.raises(ExportError, match="no such option"):
        ACME.resolve_options([("threads", "3")])
