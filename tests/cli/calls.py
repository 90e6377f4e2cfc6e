"""Runs the command line in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from nestling.cli import main


def call(*words: object) -> Result:
    """Run `nestling WORDS...`; a traceback fails the test that asked for it."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def call_json(*words: object) -> Any:
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def sentence(*words: object) -> str:
    """Run a command that must fail with one sentence on the error stream, and return it."""
    result = call(*words)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert result.stdout == ""
    return line
