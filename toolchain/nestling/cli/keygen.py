"""`nestling keygen`: make the pair of keys that signs bundles."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("keygen")
@click.argument("key", type=click.Path(path_type=Path, dir_okay=False))
def command(key: Path) -> None:
    """Write a private Ed25519 key to KEY and the public one to KEY.pub.

    Keep KEY secret; devices that check signatures need KEY.pub alone. Keys are never overwritten.
    """
    from nestling.bundle.signing import generate_keys

    public = key.with_name(f"{key.name}.pub")
    identity = generate_keys(key, public)
    click.echo(f"private key: {key}\npublic key:  {public}\nkey id:      {identity}")
