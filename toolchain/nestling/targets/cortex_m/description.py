"""The Cortex-M cores, as `nestling targets` shows them."""

from nestling.targets.cortex_m.cores import CORES
from nestling.targets.description import Requirement, TargetDescription

TARGETS = tuple(
    TargetDescription(
        name=core.target,
        family="cortex-m",
        processor=f"Arm Cortex-{core.cpu}, bare metal",
        grain="layer",
        schemes=("int8-static",),
        implementation="nestling.targets.cortex_m.stages:CortexMTarget",
        executed="by the firmware, on an emulated board",
        requirements=(
            Requirement("tosa-tools==2026.5.0"),
            Requirement(
                "qemu-system-arm",
                kind="program",
                purpose="run",
                remedy="apt-get install qemu-system-arm",
            ),
        ),
    )
    for core in CORES.values()
)
