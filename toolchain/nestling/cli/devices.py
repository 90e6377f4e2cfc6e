"""`nestling devices`: what can be run on, and what is missing for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling_devices import DeviceKind


@click.command("devices")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(as_json: bool) -> None:
    """List the devices that bundles can be pushed to, with what each needs."""
    from nestling_devices import list_devices

    kinds = list_devices()
    if as_json:
        click.echo(json.dumps([_as_dict(kind) for kind in kinds], indent=1))
    else:
        _print(kinds)


def _as_dict(kind: DeviceKind) -> dict[str, object]:
    return {
        "device": kind.name,
        "title": kind.title,
        "ready": not kind.missing,
        "needs": [
            {"what": need.what, "found": need.found, "remedy": need.remedy} for need in kind.needs
        ],
    }


def _print(kinds: list[DeviceKind]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for name in ("device", "what", "ready", "missing"):
        table.add_column(name, overflow="fold")
    for kind in kinds:
        missing = "\n".join(f"{need.what}: {need.remedy}" for need in kind.missing)
        table.add_row(kind.name, kind.title, "no" if kind.missing else "yes", missing)
    Console().print(table)
