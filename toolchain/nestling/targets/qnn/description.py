"""Qualcomm's Hexagon NPUs, as `nestling targets` shows them."""

from nestling.targets.description import Requirement, TargetDescription

CHIPS = {
    "sm8550": ("Snapdragon 8 Gen 2", "v73"),
    "sm8650": ("Snapdragon 8 Gen 3", "v75"),
    "sm8750": ("Snapdragon 8 Elite", "v79"),
}
"""Name of a chip -> what it is sold as, and the version of its Hexagon processor."""

TARGETS = tuple(
    TargetDescription(
        name=f"qnn-{chip}",
        family="qnn",
        processor=f"Hexagon {version} NPU of {chip.upper()} ({title})",
        grain="block",
        schemes=("fp16", "int8-static", "w8a16", "w4a16"),
        implementation="nestling.targets.qnn.stages:QnnTarget",
        executed="by the vendor's simulator of the processor, in a process of its own",
        requirements=(
            Requirement("onnxruntime-qnn==2.7.0"),
            Requirement("py-cpuinfo"),
            Requirement("cc", kind="program", remedy="apt-get install gcc"),
        ),
        extra="qnn",
        prepare="nestling.targets.qnn.host:load_libraries",
    )
    for chip, (title, version) in CHIPS.items()
)
