"""The conversation behind `nestling chat`: lines in, turns out, commands in between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from nestling.cli.live_text import LiveText, path_styles
from nestling.cli.token_policies import FORMS, parse_policy
from nestling.errors import NestlingError, PathError
from nestling_runtime.modes import Mode, Turn

if TYPE_CHECKING:
    from nestling_runtime import Sampling
    from nestling_runtime.generation import TextGenerator
    from nestling_runtime.modes import Step

_PROMPT = "> "


class Chat:
    """A conversation with somebody at a terminal.

    Args:
        generator: The conversation in text, empty.
        plain: The mode where none was chosen; its policy and budget can be changed.
        modes: Others by name.
        system: A text that the conversation begins with.
        template: What a turn looks like to the model, with {text} for what was typed.
        sampling: How tokens are drawn.
        stop: Texts that end an answer.
    """

    def __init__(
        self,
        generator: TextGenerator,
        plain: Mode,
        modes: Mapping[str, Mode],
        *,
        system: str,
        template: str,
        sampling: Sampling,
        stop: Sequence[str],
    ) -> None:
        self._generator = generator
        self._modes = dict(modes)
        self._system = system
        self._template = template
        self._console = Console(highlight=False)
        self._turn = Turn(generator, plain, sampling=sampling, stop=stop)
        self._begins: list[int] = []  # tokens before each turn
        self._written_prefix = ""  # of the mode that the conversation knows of
        self._commands: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "policy": ("TEXT", "a path's name or a policy, from the next token on", self._policy),
            "path": ("NAME", "always this path, from the next token on", self._path),
            "mode": ("NAME", "another mode, from the next token on", self.set_mode),
            "modes": ("", "list the modes", self._list_modes),
            "tokens": ("N", "how long an answer may be", self._tokens),
            "go": ("", "go on with an answer that was ended by Ctrl-C or its length", self._go),
            "undo": ("", "forget the last turn", self._undo),
            "new": ("", "begin a new conversation", self._new),
            "state": ("", "what the conversation holds", self._state),
            "help": ("", "this list", self._help),
            "quit": ("", "leave; so does the end of input", self._quit),
        }
        self._running = True

    def run(self) -> None:
        """Read lines until the end of input or /quit."""
        self._begin()
        styles = path_styles(self._generator.decoder.path_names)
        legend = "  ".join(f"[{style}]{escape(name)}[/]" for name, style in styles.items())
        self._console.print(f"{legend}  [dim]/help lists commands[/]")
        while self._running:
            try:
                line = self._console.input(_PROMPT)
            except (EOFError, KeyboardInterrupt):
                self._console.print()
                return
            if not line.strip():
                continue
            try:
                self._take(line)
            except NestlingError as error:
                self._console.print(f"[red]{escape(str(error))}[/]")

    def set_mode(self, name: str) -> None:
        """Change the mode.

        Raises:
            PathError: There is none of that name.
        """
        if name not in self._modes:
            names = ", ".join(self._modes) or "none; --modes reads a file of them"
            raise PathError(f"there is no mode {name!r}", hint=f"there are: {names}")
        self._turn.mode = self._modes[name]

    def _take(self, line: str) -> None:
        if not line.startswith("/"):
            self._say(line)
            return
        name, _, rest = line[1:].partition(" ")
        if name not in self._commands:
            raise PathError(f"there is no command /{name}", hint="/help lists them")
        self._commands[name][2](rest.strip())

    def _begin(self) -> None:
        if self._system:
            self._generator.append(self._system)

    def _say(self, line: str) -> None:
        decoder = self._generator.decoder
        before = len(decoder.tokens)
        prefix = self._turn.mode.prefix
        text = self._template.replace("{text}", line)
        if prefix != self._written_prefix:
            text = prefix + text
        self._begins.append(before)
        try:
            self._show(self._turn.write(text))
        finally:
            if len(decoder.tokens) == before:  # it did not fit
                self._begins.pop()
            else:
                self._written_prefix = prefix

    def _show(self, steps: Generator[Step, None, None]) -> None:
        """Show a turn as it is written; Ctrl-C ends it."""
        generator = self._generator
        with LiveText(self._console, generator.decoder.path_names) as shown:
            try:
                for step in steps:
                    shown.add(step.piece, style="italic" if step.phase == "thinking" else "")
                if generator.last is not None:
                    shown.finish(generator.last)
            except KeyboardInterrupt:
                steps.close()  # waits for the token that is being made
                for piece in generator.unread:
                    shown.add(piece)
        if self._turn.phase is not None:
            self._console.print("[dim](ended; /go goes on)[/]")

    def _go(self, _: str) -> None:
        if self._turn.phase != "thinking":
            self._turn.again()
        self._show(self._turn.resume())

    def _policy(self, text: str) -> None:
        policy = parse_policy(text, self._generator.decoder)
        self._turn.mode = replace(self._turn.mode, name=text, answering=policy, thinking=policy)

    def _path(self, name: str) -> None:
        self._generator.decoder.path_index(name)
        self._policy(name)

    def _tokens(self, text: str) -> None:
        if not text.isdecimal() or int(text) < 1:
            raise PathError("/tokens takes a number of at least 1", actual=text)
        self._turn.mode = replace(self._turn.mode, answer_tokens=int(text))

    def _list_modes(self, _: str) -> None:
        if not self._modes:
            self._console.print("[dim]none; --modes reads a file of them[/]")
        for name, mode in self._modes.items():
            here = "*" if mode == self._turn.mode else " "
            thought = f"thinks up to {mode.thinking_tokens} tokens, " * bool(mode.thinking_tokens)
            self._console.print(
                f"{here} {escape(name)}: {thought}answers up to {mode.answer_tokens}"
            )

    def _undo(self, _: str) -> None:
        if not self._begins:
            raise PathError("there is no turn to undo")
        self._generator.decoder.rewind(self._begins.pop())
        self._turn.abandon()

    def _new(self, _: str) -> None:
        self._generator.decoder.rewind(0)
        self._turn.abandon()
        self._begins.clear()
        self._written_prefix = ""
        self._begin()

    def _state(self, _: str) -> None:
        decoder = self._generator.decoder
        state = decoder.state()
        self._console.print(
            f"{state.tokens} of {decoder.context_tokens} tokens in {len(self._begins)} turns, "
            f"{state.tokens * state.token_bytes / 1024:.0f} KiB of keys and values, "
            f"{state.recomputed} tokens recomputed; {escape(self._turn.mode.name)}"
        )

    def _help(self, _: str) -> None:
        for name, (argument, says, _run) in self._commands.items():
            self._console.print(f"  /{f'{name} {argument}':<14} {says}", markup=False)
        self._console.print(
            "policies: a path's name, " + ", ".join(FORMS), markup=False, style="dim"
        )

    def _quit(self, _: str) -> None:
        self._running = False
