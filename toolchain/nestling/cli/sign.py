"""`nestling sign`: sign a bundle."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("sign")
@click.argument("bundle", type=_FILE)
@click.option(
    "--key", required=True, type=_FILE, help="Private key, as `nestling keygen` wrote it."
)
def command(bundle: Path, key: Path) -> None:
    """Sign BUNDLE in place with an Ed25519 key; an earlier signature is replaced.

    The file is replaced in one step, so a program that has it open is not disturbed.
    """
    from nestling.bundle.signing import sign

    click.echo(f"signed {bundle} with key {sign(bundle, key)}")
