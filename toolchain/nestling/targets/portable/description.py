"""The fallback without a delegate, as `nestling targets` shows it."""

from nestling.targets.description import TargetDescription

TARGETS = (
    TargetDescription(
        name="portable",
        family="portable",
        processor="any CPU, ExecuTorch's own kernels: slow, but always there",
        grain="layer",
        schemes=("fp32",),
        implementation="nestling.targets.portable.stages:PortableTarget",
        executed="by the runtime, here and for arm64 under qemu-user",
    ),
)
