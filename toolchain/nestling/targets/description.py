"""What is known of a target before its compiler is imported.

`nestling targets`, completion and error messages read these; they import neither torch nor a
compiler, so a target whose packages are not installed can be described all the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement as PackageRequirement

from nestling.errors import ExportError, TargetError
from nestling.quantize.schemes import Scheme

Grain = Literal["layer", "block", "path"]
"""How stages are cut: a whole layer at one width, one level's block of a layer, or a whole path.

Layer grain is for compilers that leave constants outside their programs, where equal ones are
stored once. Block grain is for those that bury weights in an opaque binary: each weight is then in
one stage only. Path grain is what plain exports do, every named subnet for itself: a baseline.
"""

ENVIRONMENTS_VARIABLE = "NESTLING_TARGETS"
"""Folder of the side environments; `build/targets` below the current folder where it is not set."""


@dataclass(frozen=True)
class Requirement:
    """Something that a target needs from outside.

    Attributes:
        what: a Python package as pip spells it, version included (`nncf==3.1.0`), or the name of a
            program on the search path.
        kind: which of the two.
        purpose: `"export"`: nothing works without it; `"run"`: only executing here does not.
        environment: name of a side environment (a virtual environment of its own) that holds the
            package, for what does not fit beside the toolchain; `None`: the running interpreter's.
        remedy: what to do when it is missing; the default names the target's pip extra.
    """

    what: str
    kind: Literal["package", "program"] = "package"
    purpose: Literal["export", "run"] = "export"
    environment: str | None = None
    remedy: str | None = None

    def found(self) -> str | None:
        """Version of the package or path of the program; `None` where it is missing or unfit."""
        if self.kind == "program":
            return _find_program(self.what, self.environment)
        wanted = PackageRequirement(self.what)
        package = _find_package(wanted.name, self.environment)
        if package is None or not wanted.specifier.contains(package.version, prereleases=True):
            return None
        return package.version


@dataclass(frozen=True)
class Option:
    """A choice that a target leaves to whoever exports.

    Attributes:
        name: as the command line spells it, `--option name=value`.
        help: one phrase, for a list.
        default: what it is when nothing is said.
        choices: all values; empty: any text.
    """

    name: str
    help: str
    default: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetDescription:
    """A kind of processor, and what compiling for it takes.

    Attributes:
        name: as bundles and the command line spell it; `<family>` or `<family>-<variant>`.
        family: what it shares with other chips of its kind: compiler, requirements, grain.
        processor: what it is, for people.
        grain: how stages are cut for it unless the export says otherwise.
        schemes: quantisation schemes that it takes; the first is the default.
        implementation: `module:Class` of its :class:`~nestling.targets.target.Target`; imported
            when it is used, called with this description.
        executed: how its programs are executed or checked on this machine, one phrase.
        requirements: what it needs from outside.
        extra: the pip extra that brings the packages, `nestling[<extra>]`; `None`: nothing extra.
        options: choices it leaves open.
        prepare: `module:function`, called without arguments before a process of the toolchain loads
            its programs, to bring in libraries that the backend must find; `None`: nothing to do.
    """

    name: str
    family: str
    processor: str
    grain: Grain
    schemes: tuple[str, ...]
    implementation: str
    executed: str
    requirements: tuple[Requirement, ...] = ()
    extra: str | None = None
    options: tuple[Option, ...] = ()
    prepare: str | None = None

    def missing(self, purpose: Literal["export", "run"] = "export") -> list[Requirement]:
        """What is not here; for `"run"` also what exporting needs."""
        return [
            need
            for need in self.requirements
            if (need.purpose == "export" or purpose == "run") and need.found() is None
        ]

    def remedy(self, need: Requirement) -> str:
        """What to do about a requirement that is missing."""
        if need.remedy is not None:
            return need.remedy
        if self.extra is not None and need.environment is None and need.kind == "package":
            return f"pip install 'nestling[{self.extra}]'"
        return f"install {need.what}"

    def require(self, purpose: Literal["export", "run"] = "export") -> None:
        """Refuse to go on without what the target needs.

        Raises:
            TargetError: something is missing; names it and what to do.
        """
        missing = self.missing(purpose)
        if missing:
            names = ", ".join(need.what for need in missing)
            raise TargetError(
                f"target {self.name} needs {names}, which is not installed",
                hint="; ".join(dict.fromkeys(self.remedy(need) for need in missing)),
            )

    def check_scheme(self, scheme: Scheme) -> None:
        """Refuse a scheme that the target cannot run.

        Raises:
            ExportError: it cannot; names those that it can.
        """
        if scheme.name not in self.schemes:
            raise ExportError(
                f"{self.name} does not run scheme {scheme.name}",
                expected=" or ".join(self.schemes),
                actual=scheme.name,
            )

    def resolve_options(self, given: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return the value of every option, defaults filled in.

        Args:
            given: names and values, as the user wrote them.

        Raises:
            ExportError: no such option, or no such value.
        """
        known = {option.name: option for option in self.options}
        values = {option.name: option.default for option in self.options}
        for name, value in given:
            if name not in known:
                raise ExportError(
                    f"target {self.name} has no such option",
                    expected=" or ".join(known) or "no option at all",
                    actual=name,
                )
            if known[name].choices and value not in known[name].choices:
                raise ExportError(
                    f"option {name} of target {self.name} has no such value",
                    expected=" or ".join(known[name].choices),
                    actual=value,
                )
            values[name] = value
        return values


def environments_dir() -> Path:
    """Folder of the side environments."""
    return Path(os.environ.get(ENVIRONMENTS_VARIABLE, "build/targets")).absolute()


def environment_python(name: str) -> Path:
    """Interpreter of a side environment, whether it exists or not."""
    return environments_dir() / name / "bin" / "python"


def _find_program(name: str, environment: str | None) -> str | None:
    if environment is None:
        return shutil.which(name)
    return shutil.which(name, path=str(environment_python(environment).parent))


def _find_package(name: str, environment: str | None) -> Distribution | None:
    if environment is None:
        try:
            return distribution(name)
        except PackageNotFoundError:
            return None
    folders = (environments_dir() / environment / "lib").glob("python*/site-packages")
    found = distributions(name=name, path=[str(folder) for folder in folders])
    return next(iter(found), None)
