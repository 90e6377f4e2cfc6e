"""Cadence's DSPs, as `nestling targets` shows them."""

from nestling.targets.description import TargetDescription

TARGETS = (
    TargetDescription(
        name="cadence-hifi",
        family="cadence",
        processor="Cadence HiFi DSP",
        grain="layer",
        schemes=("int8-static",),
        implementation="nestling.targets.cadence.stages:CadenceTarget",
        executed="the backend's reference operators in Python",
    ),
)
