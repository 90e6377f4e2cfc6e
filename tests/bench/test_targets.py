"""What the targets demo makes of a measurement."""

from __future__ import annotations

from nestling.bench.targets import TargetResult, target_records


def test_a_measurement_becomes_records() -> None:
    result = TargetResult(
        network="net",
        target="npu",
        scheme="int8-static",
        grain="block",
        delegated=0.95,
        portable=["aten::native_layer_norm.out"],
        bundle_bytes=1050,
        alone_bytes=1000,
        separate_bytes=2500,
        where="a simulator",
        agreement=0.99,
        largest_difference=0.01,
        figures={"cycles": 5000.0},
    )
    records = {record.metric: record for record in target_records(result)}
    assert {record.model for record in records.values()} == {"net npu int8-static"}
    assert records["stages_delegated"].value == 0.95
    assert "native_layer_norm" in records["stages_delegated"].where
    assert records["target_bytes_ratio"].value == 1.05
    assert records["target_bytes_ratio"].baseline == 1000
    assert records["target_bytes_ratio_plain"].value == 2.5
    assert records["parity_top1"].value == 0.99
    assert "a simulator" in records["parity_top1"].where
    assert (records["full_cycles"].value, records["full_cycles"].unit) == (5000.0, "cycles")


def test_what_could_not_be_measured_says_why() -> None:
    nothing = TargetResult("net", "npu", "fp32", missing="target npu needs acme-compiler")
    records = target_records(nothing)
    assert {record.metric for record in records} == {
        "stages_delegated",
        "target_bytes_ratio",
        "parity_top1",
    }
    assert all(record.value is None and "acme-compiler" in record.where for record in records)

    unrun = TargetResult(
        "net", "npu", "fp32", "layer", 1.0, [], 10, 10, 20, missing="nothing executes them here"
    )
    last = target_records(unrun)[-1]
    assert (last.metric, last.value) == ("parity_top1", None)
    assert "nothing executes them here" in last.where
