"""`nestling targets`: what can be compiled for, and what is missing for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.targets.description import TargetDescription


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(as_json: bool) -> None:
    """List the targets that bundles can be exported for, with what each takes and needs.

    Other packages may bring more: entry points of the group nestling.targets.
    """
    from nestling.targets.registry import list_targets

    targets = list(list_targets().values())
    if as_json:
        click.echo(json.dumps([_as_dict(target) for target in targets], indent=1))
    else:
        _print(targets)


def _as_dict(target: TargetDescription) -> dict[str, object]:
    return {
        "target": target.name,
        "family": target.family,
        "processor": target.processor,
        "grain": target.grain,
        "schemes": list(target.schemes),
        "exports_here": not target.missing("export"),
        "runs_here": not target.missing("run"),
        "executed": target.executed,
        "extra": target.extra,
        "needs": [
            {
                "what": need.what,
                "kind": need.kind,
                "purpose": need.purpose,
                "environment": need.environment,
                "found": need.found(),
                "remedy": target.remedy(need),
            }
            for need in target.requirements
        ],
        "options": [
            {
                "name": option.name,
                "help": option.help,
                "default": option.default,
                "choices": list(option.choices),
            }
            for option in target.options
        ],
    }


def _print(targets: Sequence[TargetDescription]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(header_style="bold", show_lines=True)
    for name in ("target", "processor", "grain", "schemes", "executed here"):
        table.add_column(name, overflow="fold", no_wrap=name in ("target", "grain", "schemes"))
    for target in targets:
        missing = target.missing("run")
        here = target.executed
        if missing:
            here = "needs packages" if target.missing("export") else "exports only"
        table.add_row(target.name, target.processor, target.grain, "\n".join(target.schemes), here)
    console.print(table)
    for target in targets:
        for option in target.options:
            values = "|".join(option.choices) or "TEXT"
            console.print(
                f"{target.name} takes --option {option.name}={values}: {option.help} "
                f"(default {option.default})",
                highlight=False,
                markup=False,
            )
    for target in targets:
        for need in target.missing("run"):
            what = "" if need.purpose == "export" else " to run here"
            # What is to be copied is the terminal's to wrap.
            console.print(
                f"{target.name} needs {need.what}{what}: {target.remedy(need)}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
