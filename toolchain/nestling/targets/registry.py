"""Which targets there are: ours, and those that other packages bring.

A target is announced by an entry point of the group `nestling.targets`, whose value is a tuple of
:class:`~nestling.targets.description.TargetDescription`. In another package's `pyproject.toml`::

    [project.entry-points."nestling.targets"]
    acme-npu = "acme_nestling.description:TARGETS"

Ours are announced the same way, by the list below.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from nestling.errors import ExportError, TargetError
from nestling.targets.description import TargetDescription

if TYPE_CHECKING:
    from nestling.targets.target import Target

GROUP = "nestling.targets"
"""Entry points that announce targets."""

BUILT_IN = (
    "nestling.targets.xnnpack.description:TARGETS",
    "nestling.targets.portable.description:TARGETS",
    "nestling.targets.cortex_m.description:TARGETS",
    "nestling.targets.qnn.description:TARGETS",
    "nestling.targets.openvino.description:TARGETS",
    "nestling.targets.onnx.description:TARGETS",
    "nestling.targets.vulkan.description:TARGETS",
    "nestling.targets.coreml.description:TARGETS",
    "nestling.targets.cadence.description:TARGETS",
    "nestling.targets.arm.description:TARGETS",
)
"""Ours, in the order that lists show them; one line a family."""


@cache
def list_targets() -> dict[str, TargetDescription]:
    """Return the descriptions of all targets by name, ours first.

    Raises:
        TargetError: a package announces a target that cannot be read, or takes a name that is in
            use; names the package.
    """
    found: dict[str, TargetDescription] = {}
    for value in BUILT_IN:
        _add(found, EntryPoint("nestling", value, GROUP))
    for point in entry_points(group=GROUP):
        _add(found, point)
    return found


def describe_target(name: str) -> TargetDescription:
    """Look a target up by name.

    Raises:
        ExportError: there is none; where the family exists, names the chips that it knows.
    """
    targets = list_targets()
    if name in targets:
        return targets[name]
    families = {d.family for d in targets.values() if d.family != d.name}
    family = max((f for f in families if name.startswith(f)), key=len, default=None)
    if family is not None:
        relatives = [n for n, description in targets.items() if description.family == family]
        raise ExportError(
            f"{family} does not know this chip", expected=" or ".join(relatives), actual=name
        )
    raise ExportError("unknown target", expected=" or ".join(targets), actual=name)


def get_target(name: str) -> Target:
    """Import a target's compiler.

    Raises:
        ExportError: there is no target of that name.
        TargetError: a package that it needs is not installed; names it.
    """
    description = describe_target(name)
    description.require("export")
    target: Target = EntryPoint(name, description.implementation, GROUP).load()(description)
    return target


def prepare_process(names: Iterable[str]) -> None:
    """Bring in what backends of these targets must find, before programs for them are loaded.

    What is not installed here is left out: the runtime then takes other stages, and says why.

    Args:
        names: targets of a bundle; those that nobody here knows are passed over.
    """
    wanted = (list_targets().get(name) for name in names)
    for prepare in dict.fromkeys(target.prepare for target in wanted if target is not None):
        if prepare is not None:
            with contextlib.suppress(TargetError):
                EntryPoint("prepare", prepare, GROUP).load()()


def _add(found: dict[str, TargetDescription], point: EntryPoint) -> None:
    package = point.dist.name if point.dist is not None else point.name
    try:
        descriptions: tuple[TargetDescription, ...] = tuple(point.load())
        clash = next((d.name for d in descriptions if d.name in found), None)
    except Exception as error:
        raise TargetError(
            f"the targets of package {package} cannot be read: {error}",
            hint=f"update or remove {package}",
        ) from error
    if clash is not None:
        raise TargetError(f"package {package} brings target {clash}, which exists already")
    found.update((description.name, description) for description in descriptions)
