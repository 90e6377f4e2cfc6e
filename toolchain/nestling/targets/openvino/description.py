"""Intel's processors, as `nestling targets` shows them."""

from nestling.targets.description import Option, Requirement, TargetDescription

TARGETS = (
    TargetDescription(
        name="openvino",
        family="openvino",
        processor="CPU, GPU or NPU of Intel PCs",
        grain="block",
        schemes=("fp32", "int8-static"),
        implementation="nestling.targets.openvino.stages:OpenvinoTarget",
        executed="directly, on this CPU",
        requirements=(Requirement("openvino==2025.4.1"), Requirement("nncf==3.1.0")),
        extra="openvino",
        options=(
            Option(
                "device",
                "which of a PC's processors runs the model",
                "CPU",
                ("CPU", "GPU", "NPU"),
            ),
        ),
    ),
)
