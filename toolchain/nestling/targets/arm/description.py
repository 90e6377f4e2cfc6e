"""Arm's neural processors, as `nestling targets` shows them."""

from nestling.targets.description import Requirement, TargetDescription

CHIPS = {
    "ethos-u55": "ethos-u55-128",
    "ethos-u65": "ethos-u65-256",
    "ethos-u85": "ethos-u85-256",
}
"""Name of a target -> configuration of the accelerator that Vela compiles for, the usual size of
each: 128 or 256 multiply-accumulates a cycle."""

_TOSA_TOOLS = Requirement("tosa-tools==2026.5.0")

TARGETS = (
    *(
        TargetDescription(
            name=name,
            family="ethos-u",
            processor=f"Arm {name.replace('ethos-u', 'Ethos-U')} NPU beside a Cortex-M or -A",
            grain="block",
            schemes=("int8-static",),
            implementation="nestling.targets.arm.ethos_u:EthosUTarget",
            executed="the TOSA reference model for numbers, Vela's report for cycles and memory",
            requirements=(_TOSA_TOOLS, Requirement("ethos-u-vela==5.1.0")),
            extra="ethos-u",
        )
        for name in CHIPS
    ),
    TargetDescription(
        name="vgf",
        family="vgf",
        processor="neural accelerators in Arm GPUs, through the ML extensions of Vulkan",
        grain="block",
        schemes=("int8-static", "fp32"),
        implementation="nestling.targets.arm.vgf:VgfTarget",
        executed="ExecuTorch 1.4.1 on a software Vulkan with Arm's emulation layers",
        requirements=(
            _TOSA_TOOLS,
            Requirement("ai_ml_sdk_model_converter>=0.9,<0.11"),
            Requirement(
                "executorch==1.4.1",
                purpose="run",
                environment="vgf",
                remedy="scripts/setup_vgf.sh",
            ),
        ),
        extra="vgf",
    ),
)
