"""Costs of stages and paths: modelled from MACs and bytes, or measured; and reads from storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from devices.sim_samples import bundle, device

from nestling_devices import FlashGeometry, MemoryRegion
from nestling_devices.sim import CostModel, Residency, Work, read_measurements
from nestling_runtime.errors import BudgetError, NestlingError

STORAGE = FlashGeometry(None, 4096, 4096, 2, 1 << 20, bandwidth_bytes_per_s=1e6, pj_per_byte=100.0)
IN_PLACE = FlashGeometry("nor", 4096, 256, 2, 1 << 20, bandwidth_bytes_per_s=1e6, pj_per_byte=100.0)


def test_a_stage_costs_its_arithmetic() -> None:
    with bundle() as tables:
        costs = CostModel(device(), tables)
        full = costs.stage(tables.stage_index("block.w4"))
        assert full.compute_s == pytest.approx(1e5 / 1e9)
        assert full.compute_j == pytest.approx(1e5 * 1e-9)
        assert costs.path(3).compute_s == pytest.approx(full.compute_s)


def test_int8_is_cheaper_and_threads_share() -> None:
    with bundle(bits=8) as tables:
        one, two = (CostModel(device(), tables, threads=n).path(3) for n in (1, 2))
        assert one.compute_s == pytest.approx(1e5 / 4e9)
        assert two.compute_s == pytest.approx(one.compute_s / 2)
        assert two.compute_j == pytest.approx(one.compute_j)


def test_a_slow_memory_lets_the_cores_wait() -> None:
    """7000 bytes of weights in place at 1 MB/s: 7 ms, of which arithmetic hides 0.1 ms."""
    with bundle() as tables:
        work = CostModel(device(flash=IN_PLACE), tables).stage(tables.stage_index("block.w4"))
        assert work.seconds(1.0) == pytest.approx(7e-3)
        assert work.memory_j == pytest.approx(7_000 * 100e-12)
        # The clock slows arithmetic only.
        assert work.seconds(2.0) == pytest.approx(7e-3 + 1e-4)


def test_weights_of_other_devices_are_read_from_their_last_ram() -> None:
    with bundle() as tables:
        profile = device()
        ram = (MemoryRegion("sram", "ram", 1 << 20), MemoryRegion("dram", "ram", 1 << 30, 1e5))
        slow = type(profile)(**{**vars(profile), "memory": ram})
        work = CostModel(slow, tables).stage(tables.stage_index("block.w4"))
        assert work.seconds(1.0) == pytest.approx(0.07)


def test_a_measurement_wins() -> None:
    with bundle() as tables:
        costs = CostModel(device(), tables, measured_us={"block.w4": 500.0, "tiny": 80.0})
        assert costs.path(3).seconds(1.0) == pytest.approx(500e-6)
        assert costs.path(0).seconds(1.0) == pytest.approx(80e-6)
        # A busy core draws a watt.
        assert costs.path(0).compute_j == pytest.approx(80e-6)


def test_what_cannot_be_is_refused() -> None:
    with bundle() as tables:
        with pytest.raises(NestlingError, match="threads"):
            CostModel(device(), tables, threads=5)
        with pytest.raises(NestlingError, match="tiny is no time"):
            CostModel(device(), tables, measured_us={"tiny": 0.0})


def test_measurements_are_read_from_json(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text('{"tiny": 12, "full": 40.5}')
    assert read_measurements(file) == {"tiny": 12.0, "full": 40.5}
    for wrong in ("[1]", '{"tiny": "12"}', '{"tiny": true}', "{", ""):
        file.write_text(wrong)
        with pytest.raises(NestlingError):
            read_measurements(file)
    with pytest.raises(NestlingError, match="cannot read"):
        read_measurements(tmp_path / "none.json")


def test_only_missing_weights_are_read_from_storage() -> None:
    with bundle() as tables:
        residency = Residency(device(flash=STORAGE), tables)
        first = residency.select(tables.paths[0].chain)
        assert first.seconds(1.0) == pytest.approx(4e-3)
        assert first.joules(device().levels[0]) == pytest.approx(4_000 * 100e-12)
        assert residency.select(tables.paths[3].chain).seconds(1.0) == pytest.approx(3e-3)
        assert residency.resident_bytes == 7_000
        assert residency.select(tables.paths[1].chain) == Work()
        assert (residency.loads, residency.evictions) == (4, 0)


def test_a_budget_evicts_what_was_not_used_for_longest() -> None:
    with bundle() as tables:
        residency = Residency(device(flash=STORAGE), tables, budget_bytes=6_000)
        residency.select(tables.paths[0].chain)
        residency.select(tables.paths[2].chain)
        assert residency.resident_bytes == 6_000
        with pytest.raises(BudgetError) as caught:
            residency.select(tables.paths[3].chain)
        assert caught.value.missing_bytes == 1_000
        assert residency.resident_bytes == 6_000
        residency.select(tables.paths[0].chain)
        residency.set_budget(4_000)
        assert residency.resident_bytes == 4_000
        assert residency.evictions == 1
        assert residency.select(tables.paths[1].chain[:1]) == Work()
        with pytest.raises(BudgetError):
            residency.set_budget(3_999)


def test_weights_that_are_read_in_place_are_always_there() -> None:
    with bundle() as tables:
        residency = Residency(device(flash=IN_PLACE), tables)
        assert residency.select(tables.paths[3].chain) == Work()
        assert residency.resident_bytes == 7_000
        assert residency.stages_resident == len(tables.stages)
        assert residency.loads == 0
