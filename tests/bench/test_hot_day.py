"""The judgement of a hot day: who is compared, what the records say, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from devices.sim_samples import QUALITY, bundle_bytes, device

from nestling.bench.hot_day import DEADLINES, POLICY, HotDay, always, judge_hot_day
from nestling.cli import main
from nestling.errors import NestlingError

METRICS = (
    "policy_miss_rate",
    "policy_energy_j",
    "policy_throttled_s",
    "policy_useful",
    "policy_quality",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "sim.nest"
    path.write_bytes(bundle_bytes())
    return path


@pytest.fixture(scope="module")
def plot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plots") / "hot_day.png"


@pytest.fixture(scope="module")
def found(bundle: Path, plot: Path) -> HotDay:
    return judge_hot_day(bundle, seeds=(3,), plot=plot)


def test_everybody_lives_through_the_same_days(found: HotDay) -> None:
    names = [one.name for one in found.contestants]
    assert names == [*(always(name) for name in QUALITY), DEADLINES, POLICY]
    assert len({one.days[0].requests for one in found.contestants}) == 1


def test_the_records_compare_with_both_ends(found: HotDay) -> None:
    records = {record.metric: record for record in found.records}
    assert tuple(records) == METRICS
    ours, full = found.contestant(POLICY).days[0], found.contestant("always full").days[0]
    missed = records["policy_miss_rate"]
    assert missed.value == ours.miss_rate
    assert missed.baseline == full.miss_rate
    assert missed.ratio == pytest.approx(ours.miss_rate / full.miss_rate)
    assert "always full" in missed.model and "always tiny" in records["policy_quality"].model
    for record in records.values():
        assert "simulated" in record.where
        assert record.spread == 0.0


def test_the_policy_wins_where_it_should(found: HotDay) -> None:
    records = {record.metric: record for record in found.records}
    for metric in ("policy_miss_rate", "policy_energy_j", "policy_throttled_s"):
        ratio = records[metric].ratio
        assert ratio is not None and ratio < 1.0
    for metric in ("policy_useful", "policy_quality"):
        ratio = records[metric].ratio
        assert ratio is not None and ratio > 1.0


def test_the_picture_is_drawn(found: HotDay, plot: Path) -> None:
    data = plot.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert width > 1200 and height > 800


def test_on_the_mains_there_is_nothing_to_ration(bundle: Path, tmp_path: Path) -> None:
    found = judge_hot_day(bundle, device=device(), seeds=(0,), plot=tmp_path / "mains.png")
    assert DEADLINES not in {one.name for one in found.contestants}
    assert found.contestant(POLICY).days[0].battery is None
    assert (tmp_path / "mains.png").exists()


def test_the_command_prints_a_table_and_writes_what_it_is_told(
    bundle: Path, tmp_path: Path
) -> None:
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({"full": 400.0}))
    arguments = ["simulate", str(bundle), "--days", "1", "--quiet", "--costs", str(costs)]
    files = ["--plot", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    result = CliRunner().invoke(main, [*arguments, *files])
    assert result.exit_code == 0, result.output
    assert "nestling, no ration" in result.output
    assert [record["metric"] for record in json.loads((tmp_path / "a.json").read_text())] == [
        *METRICS
    ]
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--device", "toaster"], "no device profile"),
        (["--device", "arm64"], "cannot be simulated"),
        (["--threads", "9"], "threads"),
        (["--costs", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_simulated_is_one_sentence(
    bundle: Path, options: list[str], text: str
) -> None:
    result = CliRunner().invoke(main, ["simulate", str(bundle), "--quiet", *options])
    assert result.exit_code == 1
    assert result.output.startswith("error: ") and text in result.output
    assert result.output.count("\n") == 1


def test_a_bundle_without_quality_cannot_be_judged(tmp_path: Path) -> None:
    path = tmp_path / "plain.nest"
    path.write_bytes(bundle_bytes(quality=False))
    with pytest.raises(NestlingError, match="quality"):
        judge_hot_day(path, seeds=(0,))
