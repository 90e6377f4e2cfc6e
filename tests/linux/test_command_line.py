"""What nestlingd says to people: help, versions, and one sentence when it cannot."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from linux.daemon import SLOT_BYTES, Daemon, Stock, sanitized_daemon
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite

import nestling
from nestling.bundle.signing import generate_keys, sign
from nestling_devices import messages


def say(*arguments: str | Path) -> tuple[int, str, str]:
    """Run nestlingd to its end: exit status, standard output, standard error."""
    done = subprocess.run(
        [sanitized_daemon(), *arguments], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_help_and_version() -> None:
    status, out, err = say("--help")
    assert (status, err) == (0, "")
    for option in ("--serial", "--pty", "--tcp", "--flash", "--slot-bytes", "--public-key"):
        assert option in out
    assert max(map(len, out.splitlines())) <= 100
    assert say("--version") == (0, f"nestlingd {nestling.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give one of --serial, --pty and --tcp"),
        (["--pty"], "give a --flash file"),
        (["--pty", "--tcp", "127.0.0.1:0", "--flash", "f"], "give one of"),
        (["--loud"], "--loud is no option"),
        (["--flash"], "--flash is no option, or lacks its value"),
        (["surplus", "--pty", "--flash", "f"], "surplus is no option"),
        (["--pty", "--flash", "f", "--slot-bytes", "1e6"], "--slot-bytes takes a number from 1"),
        (["--pty", "--flash", "f", "--slot-bytes", "0"], "--slot-bytes takes a number from 1"),
        (["--pty", "--flash", "f", "--message-bytes", "100"], "takes a number from 512 to 65533"),
        (["--pty", "--flash", "f", "--threads", "-1"], "--threads takes a number"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str) -> None:
    status, out, err = say(*arguments)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.startswith("nestlingd: ") and err.count("\n") == 1


def test_what_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\xff" * 1000)
    (tmp_path / "text").write_text("no key")
    flash = ("--flash", tmp_path / "flash")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("--serial", "/nowhere", *flash), "cannot open /nowhere: No such file or directory"),
        (("--serial", tmp_path / "text", *flash), "is not a serial port"),
        (("--serial", "/dev/null", "--baud", "1234", *flash), "no serial port runs at 1234 baud"),
        (("--tcp", "127.0.0.1", *flash), "--tcp takes HOST:PORT"),
        (("--tcp", "192.0.2.1:0", *flash), "cannot listen on 192.0.2.1:0"),
        (("--pty", "--flash", tmp_path / "no" / "folder"), "cannot open the flash file"),
        (("--pty", "--flash", tmp_path), "cannot open the flash file"),
        (("--pty", "--flash", tmp_path / "short"), "not a whole number of sectors"),
        (("--pty", "--public-key", tmp_path / "text", *flash), "is not a public key"),
        (("--pty", "--public-key", tmp_path / "none", *flash), "cannot read the key"),
    ]
    for arguments, sentence in cases:
        status, out, err = say(*arguments)
        assert (status, out) == (1, ""), arguments
        assert sentence in err
        assert err.startswith("nestlingd: ") and err.count("\n") == 1


def test_a_flash_file_belongs_to_one_daemon_and_keeps_its_size(tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    with Daemon([sanitized_daemon()], flash, "--tcp", "--slot-bytes", str(SLOT_BYTES)):
        status, _, err = say("--pty", "--flash", flash)
        assert status == 1
        assert "another program uses the flash file" in err
    status, _, err = say("--pty", "--flash", flash, "--slot-bytes", str(2 * SLOT_BYTES))
    assert status == 1
    assert "made for slots of another size" in err
    # Without the option it is what it was.
    with Daemon([sanitized_daemon()], flash) as daemon, Stock(daemon.url) as client:
        assert SLOT_BYTES <= client.ask(messages.InfoRead()).slot_bytes < 2 * SLOT_BYTES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    daemon = Daemon([sanitized_daemon()], tmp_path / "flash", "--pty")
    daemon.signal(number)
    assert daemon.wait() == 0


def test_only_what_the_key_signed_is_opened(tmp_path: Path, bundle: Path) -> None:
    keys = {name: (tmp_path / name, tmp_path / f"{name}.pub") for name in ("mine", "other")}
    for private, public in keys.values():
        generate_keys(private, public)
    options = ("--slot-bytes", str(SLOT_BYTES), "--public-key", str(keys["mine"][1]))
    with Daemon([sanitized_daemon()], tmp_path / "flash", "--tcp", *options) as daemon:
        for name, accepted in (("other", False), ("mine", True)):
            signed = tmp_path / f"{name}.nest"
            signed.write_bytes(bundle.read_bytes())
            sign(signed, keys[name][0])
            with Stock(daemon.url) as client:
                client.upload(signed.read_bytes())
                client.ask(ImageStatesWrite(hash=client.hash_of_upload(), confirm=False))
                client.ask(ResetWrite())
                assert any(i.active for i in client.ask(ImageStatesRead()).images) == accepted
