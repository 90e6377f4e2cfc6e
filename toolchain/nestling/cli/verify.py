"""`nestling verify`: check every byte of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key: the bundle must be signed by its owner.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(bundle: Path, key: Path | None, as_json: bool) -> None:
    """Check the manifest, the layout and the hash of every section of BUNDLE, and its signature.

    Without --key a signature is neither asked for nor trusted.
    """
    from nestling_runtime.bundle import Bundle

    with Bundle.open(bundle) as opened:
        opened.check_sections()
        sections = len(opened.sections)
        signed = opened.is_signed
    signer = None
    if key is not None:
        from nestling.bundle.signing import verify

        signer = verify(bundle, key)
    if as_json:
        click.echo(json.dumps({"sections": sections, "signed": signed, "key_id": signer}, indent=1))
        return
    trust = (
        f"signed by key {signer}" if signer else ("signed, not checked" if signed else "unsigned")
    )
    click.echo(f"{bundle}: {sections} sections match their hashes, {trust}")
