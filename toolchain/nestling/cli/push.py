"""`nestling push`: send a bundle to a device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from nestling.cli.device_options import device_option, flash_option, open_named


@click.command("push")
@click.argument("bundle", type=click.Path(path_type=Path))
@device_option(required=True)
@flash_option
@click.option(
    "--confirm/--trial",
    default=True,
    show_default=True,
    help="Keep the bundle once it has run there, or only until the next start of the device.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    bundle: Path,
    device_name: str,
    flash_folder: Path | None,
    confirm: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Send BUNDLE to a device: only the parts that are not there.

    The device checks every hash, opens the bundle and runs it once; then it is confirmed. If
    anything fails, the device goes on with what it had. A push that was broken off goes on where
    it stopped.
    """
    from nestling.cli.progress import progress_bar

    with open_named(device_name, flash_folder) as device:
        with progress_bar("push", quiet=quiet or as_json) as advance:
            report = device.push(bundle, progress=lambda done, total: advance(done, total, ""))
        device.run()
        if confirm:
            device.confirm()
        info = device.info()
    if as_json:
        facts = asdict(report) | {"hash": report.hash.hex(), "confirmed": confirm}
        click.echo(json.dumps({"device": info.device, "bundle": info.bundle, **facts}, indent=1))
        return
    state = "confirmed" if confirm else "on trial until the next start"
    click.echo(
        f"{info.bundle} on {info.device}, {state}: {report.payload_bytes:,} of "
        f"{report.bundle_bytes:,} bytes sent, {report.sections_sent} of {report.sections} sections"
    )
