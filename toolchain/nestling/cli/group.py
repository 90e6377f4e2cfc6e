"""Turns errors into one sentence and an exit code."""

from __future__ import annotations

import logging
import os
from typing import IO, Any

import click

from nestling.errors import NestlingError

# Torch finds fault with torchao's enums at every import, also in the processes that lower stages;
# the error stream is for what concerns the user.
_TORCH_LOGS = "-torch.utils._pytree"


class OneSentence(click.ClickException):
    """An error as the user sees it: `error: ...` on the error stream, exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence; line breaks of foreign messages become spaces."""
        click.echo(f"error: {' '.join(self.message.split())}", file=file, err=file is None)


class NestlingGroup(click.Group):
    """A group whose commands may raise `NestlingError` and let the system's errors through.

    Anything else is a fault of ours and keeps its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its expected failures become `OneSentence`."""
        os.environ.setdefault("TORCH_LOGS", _TORCH_LOGS)
        logging.getLogger("torchao").setLevel(logging.ERROR)
        try:
            return super().invoke(ctx)
        except NestlingError as error:
            raise OneSentence(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            name = f": {error.filename}" if error.filename else ""
            raise OneSentence(f"{(error.strerror or str(error)).lower()}{name}") from error
