"""Options of the commands that talk to a device, and how they open it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nestling_devices import Device

_STARTED_HERE = ("host", "arm64", "m55")


def device_option(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--device`."""
    return click.option(
        "--device",
        "device_name",
        metavar="DEVICE",
        required=required,
        help="host, arm64, m55, serial:URL or sim:PROFILE; see `nestling devices`.",
    )


def flash_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--flash`."""
    return click.option(
        "--flash",
        "flash_folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder that keeps the flash of host, arm64 and m55 between two commands; "
        f"default: {click.get_app_dir('nestling')}/DEVICE.",
    )(function)


def open_named(name: str, flash_folder: Path | None) -> Device:
    """Open a device; emulated ones keep their flash from one command to the next.

    Raises:
        NestlingError: It cannot be opened.
    """
    from nestling_devices import open_device

    folder = flash_folder
    if folder is None and name in _STARTED_HERE:
        folder = Path(click.get_app_dir("nestling")) / name
    return open_device(name, folder=folder)
