"""From a trained supernet to a bundle: cut, quantise, lower, pack.

Each step is one function that takes what the last one gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from nestling.bundle.manifest import TARGET_MARK
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet
from nestling.errors import ExportError
from nestling.packing import PackReport, PathPlan, pack
from nestling.partition.blocks import cut_blocks
from nestling.partition.calibrate import Samples, record_inputs
from nestling.partition.cut import Cut, StageCut, StageKey, cut
from nestling.partition.whole import cut_paths
from nestling.quantize.dynamic import quantize_linears
from nestling.quantize.schemes import Scheme, get_scheme
from nestling.targets.description import Grain
from nestling.targets.half_precision import whole_in_half_precision
from nestling.targets.pool import Job, Progress, StaticJob, lower_whole_all, quantize_all
from nestling.targets.registry import get_target
from nestling.targets.target import LoweredStages, Target, Work

Quality = Mapping[str, Mapping[str, float]]
"""Path name -> metric name -> value."""


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes:
        path: the bundle.
        scheme: the quantisation scheme of the bundle's own target.
        paths: names of the paths, small to large.
        stages: number of stages, fused ones included.
        pack: bytes by section and what sharing saved.
        portable: stage name -> operators that no delegate took.
        delegated: share of all stages' multiply-accumulates that is inside delegates, by target.
        targets: what the stages were lowered for, the bundle's own first.
    """

    path: Path
    scheme: str
    paths: tuple[str, ...]
    stages: int
    pack: PackReport
    portable: dict[str, tuple[str, ...]]
    delegated: dict[str, float]
    targets: tuple[str, ...]


def export_bundle(
    supernet: Supernet,
    out_path: Path,
    *,
    target: str | Sequence[str] = "xnnpack",
    scheme: str | Mapping[str, str] = "fp32",
    calibration: Sequence[tuple[Tensor, ...]] | None = None,
    paths: Mapping[str, Subnet] | None = None,
    jobs: int = 2,
    cache_dir: Path | None = None,
    fused: bool = True,
    quality: Quality | None = None,
    progress: Progress | None = None,
    name: str | None = None,
    reference_dir: Path | None = None,
    options: Mapping[str, str] | None = None,
    grain: Grain | None = None,
) -> ExportReport:
    """Export every stage of ``supernet`` and its named paths into one ``.nest`` file.

    Args:
        supernet: trained; left unchanged.
        out_path: written through a temporary file and a rename.
        target: a name in :func:`nestling.targets.registry.list_targets`, or several: the first is
            the bundle's own, and stages of the others stand in for its, ``<stage>@<target>``.
        scheme: a name in :data:`nestling.quantize.schemes.SCHEMES`; or one for each target, by its
            name, as where a processor in fp32 stands in for an accelerator in fp16.
        calibration: real inputs, each a tuple of tensors ``[batch, ...]``, for static schemes.
        paths: named paths, small to large; default ``supernet.space.named``. A scheme that nests
            bits adds ``<name>.q4`` for each.
        jobs: processes that lower at once.
        cache_dir: of lowered programs; default :func:`nestling.targets.cache.default_cache_dir`.
        fused: also lower each named path in one piece, where the target does that.
        quality: figures of each path to keep in the bundle.
        progress: told about each finished step.
        name: of the model in the bundle; default the file's stem.
        reference_dir: where to keep one program a stage that the target can execute alone; with
            several targets, in a folder each.
        options: of the target, see its description. With several targets a name counts for those
            that know it, and ``<target>:<name>`` for one.
        grain: how to cut; default the target's own, and blocks if one of several wants them.

    Raises:
        ModelError: the model cannot be cut as asked; names the module.
        PathError: a path in ``paths`` does not exist in the supernet.
        ExportError: unknown scheme, target or option, missing calibration, a stage that cannot be
            lowered, or targets that do not hand the same tensors from stage to stage.
        TargetError: a package that the target needs is not installed; names it.
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    if not names or len(set(names)) != len(names):
        raise ExportError("a bundle is for one target or for several different ones", actual=names)
    compilers = [get_target(each) for each in names]
    schemes = _schemes_of(names, scheme)
    for compiler in compilers:
        compiler.check(schemes[compiler.name])
    values = _share_options(compilers, options or {})
    for each in schemes.values():
        if each.needs_calibration and not calibration:
            raise ExportError(
                f"scheme {each.name} needs calibration data", hint="pass real inputs as calibration"
            )
    for subnet in (paths or {}).values():
        supernet.space.check(subnet)
    if grain is None:
        wanted = {compiler.description.grain for compiler in compilers}
        grain = "block" if "block" in wanted else "layer"
    cuts = {
        each.name: _cut(supernet, each, grain, paths or supernet.space.named)
        for each in schemes.values()
    }
    plans_by_scheme = {
        each.name: _plan_paths(supernet, cuts[each.name], each, paths) for each in schemes.values()
    }
    plans = plans_by_scheme[schemes[names[0]].name]
    lowered: dict[str, LoweredStages] = {}
    for compiler in compilers:
        folder = reference_dir
        if reference_dir is not None and len(compilers) > 1:
            folder = reference_dir / compiler.name
        own = schemes[compiler.name]
        lowered[compiler.name] = compiler.lower(
            Work(
                supernet=supernet,
                pieces=cuts[own.name],
                scheme=own,
                calibration=calibration or (),
                chains={plan.name: plan.chain for plan in plans_by_scheme[own.name]},
                fused=fused,
                jobs=jobs,
                cache_dir=cache_dir,
                progress=progress,
                reference_dir=folder,
                grain=grain,
                options=values[compiler.name],
            )
        )
    report = pack(
        supernet,
        lowered,
        plans,
        out_path,
        schemes=schemes,
        name=name or out_path.stem,
        quality=quality or {},
    )
    return ExportReport(
        path=out_path,
        scheme=schemes[names[0]].name,
        paths=tuple(plan.name for plan in plans),
        stages=sum(len(stages.programs) for stages in lowered.values()),
        pack=report,
        portable={
            _label(cuts[schemes[each].name], key)
            + ("" if each == names[0] else f"{TARGET_MARK}{each}"): p.portable
            for each, stages in lowered.items()
            for key, p in stages.programs.items()
            if p.portable
        },
        delegated={each: _delegated_share(stages) for each, stages in lowered.items()},
        targets=names,
    )


def lower_dense(
    supernet: Supernet,
    subnets: Mapping[str, Subnet],
    *,
    scheme: str = "fp32",
    calibration: Sequence[tuple[Tensor, ...]] | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """Lower each subnet alone and dense, as one would without nestling: the baseline.

    Returns:
        Name -> a plain ``.pte`` for XNNPACK with one method ``forward`` and its weights inside.

    Raises:
        ExportError: XNNPACK does not know the scheme.
    """
    chosen = get_scheme(scheme)
    get_target("xnnpack").check(chosen)
    dense: dict[str, nn.Module] = {n: supernet.dense(s).eval() for n, s in subnets.items()}
    inputs = tuple(supernet.example_inputs())
    if chosen.name == "fp16":
        dense = {n: whole_in_half_precision(m) for n, m in dense.items()}
    elif chosen.activations == "dynamic":
        dense = {n: quantize_linears(m, chosen, chosen.full_bits) for n, m in dense.items()}
    elif chosen.activations == "static":
        samples: Samples = record_inputs(supernet, calibration or ())[0]
        static = [StaticJob(n, m, samples) for n, m in dense.items()]
        dense = dict(zip(dense, quantize_all(static, processes=jobs), strict=True))
    lowered = lower_whole_all(
        [Job(n, m, inputs) for n, m in dense.items()], processes=jobs, progress=progress
    )
    return dict(zip(dense, lowered, strict=True))


def _plan_paths(
    supernet: Supernet, pieces: Cut, scheme: Scheme, paths: Mapping[str, Subnet] | None
) -> list[PathPlan]:
    plans = []
    for bits in scheme.levels:
        suffix = "" if bits == scheme.full_bits else f".q{bits}"
        for name, subnet in (paths or supernet.space.named).items():
            plans.append(PathPlan(f"{name}{suffix}", subnet, bits, pieces.chain(subnet, bits)))
    return plans


def _cut(supernet: Supernet, scheme: Scheme, grain: Grain, paths: Mapping[str, Subnet]) -> Cut:
    if grain == "path":
        return cut_paths(supernet, scheme, paths)
    return cut_blocks(supernet, scheme) if grain == "block" else cut(supernet, scheme)


def _schemes_of(targets: Sequence[str], given: str | Mapping[str, str]) -> dict[str, Scheme]:
    """Return the scheme of each target."""
    if isinstance(given, str):
        return {target: get_scheme(given) for target in targets}
    if set(given) != set(targets):
        raise ExportError(
            "every target needs a scheme", expected=", ".join(targets), actual=", ".join(given)
        )
    schemes = {target: get_scheme(given[target]) for target in targets}
    if len(set(given.values())) > 1 and any(len(s.levels) > 1 for s in schemes.values()):
        raise ExportError("a scheme that nests bits cannot be mixed with others", actual=given)
    return schemes


def _share_options(
    compilers: Sequence[Target], given: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the options of each target by its name."""
    mine: dict[str, dict[str, str]] = {compiler.name: {} for compiler in compilers}
    for name, value in given.items():
        whose, _, option = name.rpartition(":")
        takers = [
            compiler.name
            for compiler in compilers
            if whose == compiler.name
            or (not whose and any(o.name == option for o in compiler.description.options))
        ]
        # Nobody's: the first target says what it knows.
        for taker in takers or [compilers[0].name]:
            mine[taker][option if takers else name] = value
    return {c.name: c.description.resolve_options(mine[c.name].items()) for c in compilers}


def _delegated_share(lowered: LoweredStages) -> float:
    stages = lowered.pieces.stages
    host = sum(p.host_macs for key, p in lowered.programs.items() if isinstance(key, StageKey))
    return 1.0 - host / max(1, sum(stage.macs for stage in stages.values()))


def _label(pieces: Cut, key: StageKey | str) -> str:
    stage: StageCut | None = None if isinstance(key, str) else pieces.stages[key]
    return str(key) if stage is None else stage.name
