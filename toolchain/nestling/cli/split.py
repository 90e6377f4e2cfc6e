"""`nestling split`: from a bundle for several targets to the one for a device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("split")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--device",
    metavar="PROFILE",
    help="Keep what this device runs, accelerators first; see `nestling devices`.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Keep this target instead; may be given again, best first.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The new bundle.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    bundle: Path, device: str | None, targets: tuple[str, ...], output: Path, as_json: bool
) -> None:
    """Write the part of BUNDLE that one device needs; nothing is lowered again.

    The new bundle is not signed, since a signature covers every byte: sign it with `nestling sign`.
    """
    from nestling.bundle.split import split
    from nestling.errors import TargetError
    from nestling_runtime.bundle import Bundle

    if (device is None) == (not targets):
        raise click.UsageError("say --device PROFILE or --target NAME")
    if device is not None:
        from nestling_devices import find_profile

        profile = find_profile(device)
        targets = (*profile.accelerators, *profile.targets)
    else:
        with Bundle.open(bundle) as opened:
            missing = [target for target in targets if target not in opened.targets]
            if missing:
                raise TargetError(
                    "the bundle has no such target",
                    expected=" or ".join(opened.targets),
                    actual=", ".join(missing),
                )
    report = split(bundle, targets, output)
    if as_json:
        click.echo(json.dumps({**asdict(report), "path": str(report.path)}, indent=1))
        return
    dropped = f", without {', '.join(report.dropped)}" if report.dropped else ""
    signature = " The signature is gone: sign it anew." if report.was_signed else ""
    click.echo(
        f"{report.path}: {report.bytes_after:,} bytes of {report.bytes_before:,}, "
        f"for {', '.join(report.targets)}{dropped}.{signature}"
    )
