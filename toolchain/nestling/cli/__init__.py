"""The command line: one file a command.

Commands import what they need when they run, so that `nestling --help` answers at once and `nestling inspect`
never loads torch.
"""

from __future__ import annotations

import click

from nestling import __version__
from nestling.cli import bench, demo, export, inspect, keygen, run, sign, train, verify
from nestling.cli.group import NestlingGroup


@click.group(cls=NestlingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nestling")
def main() -> None:
    """One trained model, many sub-networks inside it, one file, switched at run time."""


for _module in (demo, train, export, inspect, run, bench, verify, keygen, sign):
    main.add_command(_module.command)
