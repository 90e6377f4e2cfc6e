from __future__ import annotations

import subprocess
import sys

import pytest
from cli.calls import call

from nestling import __version__

COMMANDS = [
    *("demo", "demo-devices", "demo-experts", "demo-lm", "demo-targets", "train", "nest"),
    *("export", "export-decoder", "inspect", "split", "run", "generate", "chat", "bench"),
    *("verify", "keygen", "sign", "targets", "devices", "push", "simulate", "compile-plan"),
]


def test_every_command_is_listed_and_explains_itself() -> None:
    overview = call("--help")
    assert overview.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in overview.stdout
        page = call(name, "--help")
        assert page.exit_code == 0
        assert "Usage:" in page.stdout


def test_version() -> None:
    assert call("--version").stdout.strip().endswith(__version__)


@pytest.mark.parametrize("words", [["--help"], ["export", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from nestling.cli import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'executorch', 'transformers', 'sklearn', 'rich', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_module_can_be_started_like_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nestling.cli", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("nestling")
