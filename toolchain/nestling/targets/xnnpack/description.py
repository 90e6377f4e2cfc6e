"""The mobile CPU, as `nestling targets` shows it."""

from nestling.targets.description import TargetDescription

TARGETS = (
    TargetDescription(
        name="xnnpack",
        family="xnnpack",
        processor="CPU of phones, boards and PCs (arm64, x86-64)",
        grain="layer",
        schemes=("fp32", "fp16", "int8-static", "int8-dynamic", "int4-group32", "int8-nibble"),
        implementation="nestling.targets.xnnpack.stages:XnnpackTarget",
        executed="by the runtime, here and for arm64 under qemu-user",
    ),
)
