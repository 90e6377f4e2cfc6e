"""Mobile GPUs, as `nestling targets` shows them."""

from nestling.targets.description import Option, TargetDescription

TARGETS = (
    TargetDescription(
        name="vulkan",
        family="vulkan",
        processor="GPU of phones and PCs with Vulkan (Adreno, Mali, ...)",
        grain="layer",
        schemes=("fp32", "fp16", "int8-static", "int4-group32"),
        implementation="nestling.targets.vulkan.stages:VulkanTarget",
        executed="the delegate's graph in eager torch; no wheel has its runtime",
        options=(
            Option(
                "textures",
                "largest side of a 3D texture: 16384 on mobile GPUs, 2048 on many desktop ones",
                "16384",
                ("16384", "2048"),
            ),
        ),
    ),
)
