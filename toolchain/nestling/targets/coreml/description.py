"""Apple's processors, as `nestling targets` shows them."""

from nestling.targets.description import Option, Requirement, TargetDescription

TARGETS = (
    TargetDescription(
        name="coreml",
        family="coreml",
        processor="Apple Neural Engine, GPU and CPU",
        grain="block",
        schemes=("fp16", "fp32", "int8-static"),
        implementation="nestling.targets.coreml.stages:CoreMLTarget",
        executed="the delegate's graph in eager torch; Core ML itself is on Apple's systems only",
        requirements=(Requirement("coremltools==9.0"),),
        options=(
            Option("ios", "oldest iOS that must run it", "17", ("17", "18")),
            Option(
                "units",
                "processors that Core ML may use",
                "all",
                ("all", "cpu_and_ne", "cpu_and_gpu", "cpu_only"),
            ),
        ),
    ),
)
