"""`nestling inspect`: what is in a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestling.errors import BudgetError

if TYPE_CHECKING:
    from nestling.targets.cortex_m.fit import Fit
    from nestling_runtime.bundle import Bundle


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--device",
    metavar="PROFILE",
    help="Also tell what a Cortex-M bundle takes of this device (see `nestling devices`), and fail "
    "if it cannot fit, saying by how many bytes.",
)
@click.option("--stages", "all_stages", is_flag=True, help="List every stage, not a summary.")
def command(bundle: Path, as_json: bool, device: str | None, all_stages: bool) -> None:
    """Show the stages, blobs and paths of BUNDLE, what is shared, what paths cost and give."""
    from nestling_runtime.bundle import Bundle

    with Bundle.open(bundle) as opened:
        facts = describe(opened)
        fitting = None if device is None else _fit(opened, bundle, device)
    if fitting is not None:
        facts["fit"] = describe_fit(fitting)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        print_facts(facts, all_stages)
    if fitting is not None and fitting.problems():
        raise BudgetError(
            f"{bundle} does not fit {fitting.device}: {'; '.join(fitting.problems())}"
        )


def _fit(opened: Bundle, bundle: Path, device: str) -> Fit:
    from nestling.targets.cortex_m.fit import fit
    from nestling_devices import find_profile

    return fit(opened, bundle, find_profile(device))


def describe_fit(fit: Fit) -> dict[str, Any]:
    """Return what a bundle takes of a device, as plain values."""
    peak = fit.need.peak
    return {
        "device": fit.device,
        "flash_bytes": fit.need.flash_bytes,
        "flash_capacity": fit.flash_capacity,
        "arena_bytes": fit.need.arena_bytes,
        "arena_capacity": fit.arena_capacity,
        "arena_region": fit.arena_region,
        "largest_path_arena_bytes": fit.need.largest_path_arena_bytes,
        "peak": {
            "stage": peak.stage,
            "operator": peak.index,
            "kernel": peak.kernel,
            "bytes": peak.bytes,
        },
        "fits": not fit.problems(),
    }


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return everything that `inspect` shows, as plain values.

    Bytes: `weight_bytes` of a path is what its stages use, equal bytes once; `own_bytes` the part
    that no other path uses; `stored_bytes` all constants of the file; `unshared_bytes` the sum over
    the paths, which is what they would take as files of their own. Of a target: `program_bytes` its
    programs, `own_bytes` constants that only its stages use, `shared_bytes` those that stages of
    other targets use as well.
    """
    constants = bundle.constants
    sizes = _places(constants)
    used = {
        path.name: set(_places(constants[index] for index in _constants_of(bundle, path.chain)))
        for path in bundle.paths
    }
    users = [place for places in used.values() for place in places]
    single = {place for place in set(users) if users.count(place) == 1}

    def size(places: set[tuple[int, int]]) -> int:
        return sum(sizes[place] for place in places)

    paths = []
    for path in bundle.paths:
        paths.append(
            {
                "name": path.name,
                "stages": [bundle.stages[index].name for index in path.chain],
                "fused": None if path.fused is None else bundle.stages[path.fused].name,
                "parameters": path.parameters,
                "macs": path.macs,
                "weight_bytes": size(used[path.name]),
                "own_bytes": size(used[path.name] & single),
                "quality": dict(path.quality),
                "cost_us": dict(path.cost_us),
            }
        )
    stored = sum(sizes.values())
    unshared = sum(size(places) for places in used.values())
    return {
        "name": bundle.name,
        "family": bundle.family,
        "target": bundle.target,
        "scheme": bundle.scheme,
        "producer": bundle.producer,
        "signed": bundle.is_signed,
        "file_bytes": bundle.size_bytes,
        "manifest_bytes": bundle.manifest_bytes,
        "stored_bytes": stored,
        "unshared_bytes": unshared,
        "notes": dict(bundle.meta),
        "sections": [
            {
                "name": section.name,
                "kind": section.kind,
                "level": section.level,
                "bytes": section.size_bytes,
                "sha256": section.sha256.hex(),
            }
            for section in bundle.sections
        ],
        "slots": [
            {"name": s.name, "role": s.role, "dtype": s.dtype, "shape": list(s.shape)}
            for s in bundle.slots
        ],
        "stages": [_describe_stage(bundle, stage) for stage in bundle.stages],
        "paths": paths,
        "targets": _describe_targets(bundle),
        "experts": _describe_experts(bundle),
    }


def _describe_experts(bundle: Bundle) -> dict[str, Any] | None:
    """Return what is known of routed experts; None where there are none."""
    from nestling.experts.index import INDEX_SECTION, read_layers

    sections = {section.name: section for section in bundle.sections}
    if INDEX_SECTION not in sections:
        return None
    layers = read_layers(bytes(bundle.section_bytes(sections[INDEX_SECTION])))
    return {
        "layers": [
            {
                "experts": layer.experts,
                "top_k": layer.top_k,
                "dim": layer.dim,
                "hidden": layer.hidden,
                "format": "nibbles" if layer.group else "f32",
                "group": layer.group,
                "predicts_layer": layer.predicted_layer,
            }
            for layer in layers
        ],
        "index_bytes": sections[INDEX_SECTION].size_bytes,
        "slice_bytes": [
            section.size_bytes
            for name, section in sections.items()
            if name.startswith(f"{INDEX_SECTION}.")
        ],
    }


def _places(items: Any) -> dict[tuple[int, int], int]:
    """Return the sizes of constants or programs by where they lie: equal bytes lie in one place."""
    return {(item.section, item.offset_bytes): item.size_bytes for item in items}


def _describe_targets(bundle: Bundle) -> list[dict[str, Any]]:
    """Return what each target adds to the file; equal bytes count once."""
    stages: dict[str, list[int]] = {target: [] for target in bundle.targets}
    for index in range(len(bundle.stages)):
        stages[bundle.stage_target(index)].append(index)

    used = {
        target: _places(bundle.constants[number] for number in _constants_of(bundle, tuple(own)))
        for target, own in stages.items()
    }
    found = []
    for target, own in stages.items():
        programs = _places(bundle.programs[bundle.stages[index].program] for index in own)
        others = {place for other in used if other != target for place in used[other]}
        shared = sum(size for place, size in used[target].items() if place in others)
        found.append(
            {
                "name": target,
                "stages": len(own),
                "program_bytes": sum(programs.values()),
                "own_bytes": sum(used[target].values()) - shared,
                "shared_bytes": shared,
            }
        )
    return found


def _constants_of(bundle: Bundle, stages: tuple[int, ...]) -> set[int]:
    return {index for stage in stages for _, index in bundle.stages[stage].bindings}


def _describe_stage(bundle: Bundle, stage: Any) -> dict[str, Any]:
    constants = {index for _, index in stage.bindings}
    positions = bundle.positions[stage.first : stage.last + 1]
    return {
        "name": stage.name,
        "positions": [position.name for position in positions],
        "level": stage.level,
        "bits": stage.bits,
        "macs": stage.macs,
        "weight_bytes": sum(bundle.constants[index].size_bytes for index in constants),
        "target": bundle.programs[stage.program].target,
        "program_bytes": bundle.programs[stage.program].size_bytes,
        "arena_bytes": stage.arena_bytes,
    }


def print_facts(facts: dict[str, Any], all_stages: bool = False) -> None:
    """Print what `describe` gave as tables that keep every digit on a terminal of 80 columns."""
    from rich.console import Console

    console = Console()
    signed = "signed" if facts["signed"] else "not signed"
    console.print(
        f"[bold]{facts['name']}[/]  {facts['family']}, {facts['scheme']} for {_targets(facts)}, "
        f"{facts['file_bytes']:,} bytes, {signed}, by {facts['producer']}"
    )
    for table in (_path_table(facts), _section_table(facts), _stage_table(facts, all_stages)):
        console.print(table)
    if len(facts["targets"]) > 1:
        console.print(_target_table(facts))
    stored, unshared = facts["stored_bytes"], facts["unshared_bytes"]
    times = f", {unshared / stored:.2f} x" if stored else ""
    console.print(
        f"weights stored once: {stored:,} bytes; "
        f"the {len(facts['paths'])} paths apart: {unshared:,} bytes{times}"
    )
    if facts["experts"] is not None:
        console.print(_experts_line(facts["experts"]))
    if "fit" in facts:
        console.print(_fit_table(facts["fit"]))


def _experts_line(experts: dict[str, Any]) -> str:
    layers = experts["layers"]
    counts = ", ".join(sorted({str(layer["experts"]) for layer in layers}))
    top_k = ", ".join(sorted({str(layer["top_k"]) for layer in layers}))
    slices = experts["slice_bytes"]
    parts = " + ".join(f"{size:,}" for size in slices)
    halves = " (high and low nibbles)" if len(slices) == 2 else ""
    guessed = sum(layer["predicts_layer"] is not None for layer in layers)
    return (
        f"experts loaded as they are needed: {counts} in each of {len(layers)} layers, {top_k} a "
        f"token, {layers[0]['format']}, {parts} bytes{halves}; {guessed} with a predictor"
    )


def _targets(facts: dict[str, Any]) -> str:
    return ", ".join(target["name"] for target in facts["targets"])


def _target_table(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="Targets", title_justify="left", header_style="bold")
    table.add_column("target")
    columns = {
        "stages": "stages",
        "program bytes": "program_bytes",
        "weights of its own": "own_bytes",
        "shared weights": "shared_bytes",
    }
    for name in columns:
        table.add_column(name, justify="right")
    for target in facts["targets"]:
        table.add_row(target["name"], *(f"{target[key]:,}" for key in columns.values()))
    return table


def _fit_table(fit: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"On {fit['device']}", title_justify="left", header_style="bold")
    table.add_column("")
    for name in ("bytes", "there are"):
        table.add_column(name, justify="right")
    peak = fit["peak"]
    capacities = {
        key: "no limit" if fit[key] is None else f"{fit[key]:,}"
        for key in ("flash_capacity", "arena_capacity")
    }
    region = f" ({fit['arena_region']})" if fit["arena_region"] else ""
    table.add_row("flash", f"{fit['flash_bytes']:,}", capacities["flash_capacity"])
    table.add_row(f"arena{region}", f"{fit['arena_bytes']:,}", capacities["arena_capacity"])
    table.add_row("  of the largest path alone", f"{fit['largest_path_arena_bytes']:,}", "")
    name = f"  peak: {peak['stage']}, operator {peak['operator']} ({peak['kernel']})"
    table.add_row(name, f"{peak['bytes']:,}", "")
    return table


def _path_table(facts: dict[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Paths", title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    columns: dict[str, list[str]] = {
        "path": [path["name"] for path in facts["paths"]],
        "stages": [
            f"{len(path['stages'])}{' or 1' if path['fused'] is not None else ''}"
            for path in facts["paths"]
        ],
        "parameters": [f"{path['parameters']:,}" for path in facts["paths"]],
        "MACs": [f"{path['macs']:,}" for path in facts["paths"]],
        "weight bytes": [f"{path['weight_bytes']:,}" for path in facts["paths"]],
        "own bytes": [f"{path['own_bytes']:,}" for path in facts["paths"]],
        "quality": [_figures(path["quality"], "{:.4f}") for path in facts["paths"]],
        "cost": [_figures(path["cost_us"], "{:.0f} us") for path in facts["paths"]],
    }
    # Figures that no path has yet would only take the room of those that are there.
    shown = {name: cells for name, cells in columns.items() if any(cell != "-" for cell in cells)}
    for name in shown:
        table.add_column(name, justify="left" if name == "path" else "right", overflow="fold")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def _figures(figures: dict[str, float], form: str) -> str:
    return "\n".join(f"{name} {form.format(value)}" for name, value in figures.items()) or "-"


def _section_table(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="Sections", title_justify="left", header_style="bold")
    table.add_column("section")
    table.add_column("kind")
    table.add_column("level", justify="right")
    table.add_column("bytes", justify="right")
    for section in facts["sections"]:
        level = "-" if section["level"] is None else str(section["level"])
        table.add_row(section["name"], section["kind"], level, f"{section['bytes']:,}")
    return table


def _stage_table(facts: dict[str, Any], all_stages: bool) -> Any:
    """Return one row a stage, or one row a span of the chain with its levels side by side."""
    from rich.table import Table

    stages = facts["stages"]
    table = Table(title=f"Stages ({len(stages)})", title_justify="left", header_style="bold")
    if all_stages:
        table.add_column("stage")
        for name in ("level", "bits", "MACs", "weight bytes", "program bytes"):
            table.add_column(name, justify="right")
        for stage in stages:
            table.add_row(
                stage["name"],
                str(stage["level"]),
                str(stage["bits"]),
                f"{stage['macs']:,}",
                f"{stage['weight_bytes']:,}",
                f"{stage['program_bytes']:,}",
            )
        return table
    table.add_column("position")
    table.add_column("levels", justify="right")
    table.add_column("weight bytes of each level")
    spans: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        if stage["target"] != facts["target"]:
            continue  # does what one of the bundle's own target does
        names = stage["positions"]
        key = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} (fused)"
        spans.setdefault(key, []).append(stage)
    for key, members in spans.items():
        sizes = "  ".join(f"{stage['weight_bytes']:,}" for stage in members)
        table.add_row(key, str(len(members)), sizes)
    return table
