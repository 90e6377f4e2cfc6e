"""`nestling chat`: talk with a decoder, and change its size in the middle."""

from __future__ import annotations

from pathlib import Path

import click

from nestling.cli.token_policies import EPILOG, generation_options


@click.command("chat", epilog=EPILOG)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--system", default="", help="A text that the conversation begins with.")
@click.option(
    "--template",
    default="{text}",
    help="What a turn looks like to the model, with {text} for what was typed and \\n for a line "
    "end.  [default: {text}]",
)
@click.option(
    "--modes",
    "modes_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A TOML file of modes: prefix, budgets and policies for thinking and answering.",
)
@click.option("--mode", "mode_name", help="The mode to begin with.")
@generation_options
def command(
    bundle: Path,
    system: str,
    template: str,
    modes_file: Path | None,
    mode_name: str | None,
    policy_text: str | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop: tuple[str, ...],
    threads: int,
) -> None:
    """Talk with the decoder in BUNDLE; tokens have the colour of their path.

    Ctrl-C ends an answer, not the conversation; /help lists what can be changed in the middle.
    """
    if "{text}" not in template:
        raise click.BadParameter("it lacks {text}", param_hint="--template")
    if mode_name is not None and (modes_file is None or policy_text is not None):
        raise click.UsageError("--mode needs --modes, and goes without --policy")
    import nestling_runtime
    from nestling.cli.chat_loop import Chat
    from nestling.cli.modes_file import read_modes
    from nestling.cli.token_policies import parse_policy
    from nestling_runtime.generation import TextGenerator
    from nestling_runtime.modes import Mode

    with nestling_runtime.open(bundle, threads=threads) as model, TextGenerator(model) as generator:
        decoder = generator.decoder
        decoder.load()
        modes = {} if modes_file is None else read_modes(modes_file, decoder)
        policy_text = policy_text or decoder.path_names[-1]
        plain = Mode(policy_text, parse_policy(policy_text, decoder), max_tokens)
        chat = Chat(
            generator,
            plain,
            modes,
            system=system,
            template=template.replace("\\n", "\n"),
            sampling=nestling_runtime.Sampling(temperature, top_k, top_p, seed),
            stop=stop,
        )
        if mode_name is not None:
            chat.set_mode(mode_name)
        chat.run()
