"""Every figure of a real bundle, measured as briefly as can be; no value decides anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli.calls import call
from cli.mini import Mini

from nestling.bench import native
from nestling.bench.sidecar import read_sidecar, sidecar_folder
from nestling.errors import NestlingError

METRICS = {
    "bundle_bytes_ratio",
    "resident_bytes_ratio",
    "switch_overhead_p50_us",
    "switch_overhead_p99_us",
    "reload_ratio",
    "chain_ratio",
    "nest_ratio_worst",
    "nest_ratio_geomean",
    "alternating_ratio",
    "runtime_rss_bytes",
    "retention_min",
    "retention_separate",
    "parity_max",
    "peer_ratio",
}
# Needs a trained network, or an environment of its own.
MAY_BE_MISSING = {"retention_min", "retention_separate", "peer_ratio"}


def bench(bundle: Path, out: Path, *words: str) -> list[dict[str, object]]:
    result = call("bench", bundle, "--json", out, "--seconds", "0", *words)
    assert result.exit_code == 0, result.stderr
    records: list[dict[str, object]] = json.loads(out.read_text())
    return records


def test_every_metric_has_a_record_of_sane_types(mini: Mini, tmp_path: Path) -> None:
    records = bench(mini.bundle, tmp_path / "bench.json")
    assert {record["metric"] for record in records} >= METRICS
    for record in records:
        if record["value"] is None:
            assert record["metric"] in MAY_BE_MISSING
            assert str(record["where"]).startswith("not measured: ")
            continue
        assert isinstance(record["value"], float)
        for name in ("baseline", "ratio", "spread"):
            assert record[name] is None or isinstance(record[name], float)
        for name in ("unit", "model", "where"):
            assert isinstance(record[name], str) and record[name]
        if record["unit"] in ("1", "bytes") and record["metric"] != "parity_max":
            assert record["value"] > 0


def test_records_of_the_runtime_and_of_peers_name_them(mini: Mini, tmp_path: Path) -> None:
    records = bench(mini.bundle, tmp_path / "bench.json")
    models = {(record["metric"], record["model"]) for record in records}
    assert {("runtime_rss_bytes", "c"), ("runtime_rss_bytes", "python")} <= models
    for peer in ("onnxruntime", "litert", "executorch"):
        assert ("peer_ratio", peer) in models


def test_fp32_parity_holds(mini: Mini, tmp_path: Path) -> None:
    records = bench(mini.bundle, tmp_path / "bench.json", "--no-peers")
    (parity,) = [record for record in records if record["metric"] == "parity_max"]
    assert isinstance(parity["value"], float)
    assert parity["value"] <= 1e-4


def test_a_bundle_alone_says_what_it_lacks(mini: Mini, tmp_path: Path) -> None:
    bundle = Path(shutil.copy(mini.bundle, tmp_path / "alone.nest"))
    by_metric = {r["metric"]: r for r in bench(bundle, tmp_path / "bench.json")}
    assert by_metric["nest_ratio_worst"]["value"] is None
    assert by_metric["chain_ratio"]["value"] is not None


def test_the_sidecar_is_kept_and_read_again(mini: Mini) -> None:
    sidecar = read_sidecar(mini.bundle)
    assert sidecar is not None
    assert sidecar.paths == {n: s.levels for n, s in mini.supernet.space.named.items()}
    assert all(file.stat().st_size for file in sidecar.plain.values())
    assert len(sidecar.inputs) == 1


def test_a_damaged_sidecar_is_one_error(mini: Mini, tmp_path: Path) -> None:
    bundle = tmp_path / "x.nest"
    folder = sidecar_folder(bundle)
    folder.mkdir()
    (folder / "sidecar.json").write_text("[1, 2")
    with pytest.raises(NestlingError, match="damaged"):
        read_sidecar(bundle)


def test_both_sides_compute_the_same(mini: Mini) -> None:
    sidecar = read_sidecar(mini.bundle)
    assert sidecar is not None
    samples = native.measure_speed(
        mini.bundle,
        tuple(sidecar.paths),
        plain=sidecar.plain,
        inputs=sidecar.inputs,
        threads=1,
        effort=native.Effort(0, 1),
    )
    for entry in samples["steady"]:
        assert entry["largest_difference"]["plain"] < 1e-4
        assert entry["largest_difference"]["chain"] < 1e-4


def test_programs_that_were_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NESTLING_BENCH_BIN", str(tmp_path))
    with pytest.raises(NestlingError, match="make build"):
        native.measure_open_memory(tmp_path / "x.nest")


def test_what_the_program_says_reaches_the_user(mini: Mini) -> None:
    with pytest.raises(NestlingError, match="no path nothing"):
        native.measure_nested_memory(mini.bundle, fused=("nothing",))
