"""ONNX, as `nestling targets` shows it."""

from nestling.targets.description import Option, Requirement, TargetDescription

TARGETS = (
    TargetDescription(
        name="onnx",
        family="onnx",
        processor="whatever onnxruntime runs on",
        grain="layer",
        schemes=("fp32", "int8-static"),
        implementation="nestling.targets.onnx.stages:OnnxTarget",
        executed="by onnxruntime on this CPU",
        requirements=(
            Requirement("onnxscript>=0.5"),
            Requirement("onnxruntime>=1.20", purpose="run"),
        ),
        extra="onnx",
        options=(
            Option("stages", "whether to write a model for every stage too", "no", ("no", "yes")),
        ),
    ),
)
