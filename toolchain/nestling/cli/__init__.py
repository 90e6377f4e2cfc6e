"""The command line: one file a command.

Commands import what they need when they run, so that `nestling --help` answers at once and
`nestling inspect` never loads torch.
"""

from __future__ import annotations

import click

from nestling import __version__
from nestling.cli.bench import command as bench
from nestling.cli.chat import command as chat
from nestling.cli.compile_plan import command as compile_plan
from nestling.cli.demo import command as demo
from nestling.cli.demo_devices import command as demo_devices
from nestling.cli.demo_experts import command as demo_experts
from nestling.cli.demo_lm import command as demo_lm
from nestling.cli.demo_targets import command as demo_targets
from nestling.cli.devices import command as devices
from nestling.cli.export import command as export
from nestling.cli.export_decoder import command as export_decoder
from nestling.cli.generate import command as generate
from nestling.cli.group import NestlingGroup
from nestling.cli.inspect import command as inspect
from nestling.cli.keygen import command as keygen
from nestling.cli.nest import command as nest
from nestling.cli.push import command as push
from nestling.cli.run import command as run
from nestling.cli.sign import command as sign
from nestling.cli.simulate import command as simulate
from nestling.cli.split import command as split
from nestling.cli.targets import command as targets
from nestling.cli.train import command as train
from nestling.cli.verify import command as verify


@click.group(cls=NestlingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nestling")
def main() -> None:
    """One trained model, many sub-networks inside it, one file, switched at run time."""


for _command in (
    demo,
    train,
    nest,
    targets,
    export,
    export_decoder,
    compile_plan,
    inspect,
    split,
    run,
    generate,
    chat,
    devices,
    demo_devices,
    demo_experts,
    demo_lm,
    demo_targets,
    push,
    simulate,
    bench,
    verify,
    keygen,
    sign,
):
    main.add_command(_command)
