"""The commands that talk to devices, on the one that lives in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli.calls import call, call_json, sentence
from cli.mini import Mini

from nestling_devices import emulators


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    return tmp_path / "flash"


def test_devices_are_listed_with_what_they_need() -> None:
    listed = {entry["device"]: entry for entry in call_json("devices", "--json")}
    assert {"host", "arm64", "m55", "serial:URL"} <= set(listed)
    assert all(entry["ready"] for entry in listed.values())
    for need in listed["m55"]["needs"]:
        assert need["found"]
        assert need["remedy"].startswith(("apt-get install ", "make "))
    text = call("devices").stdout
    assert all(name in text for name in ("host", "arm64", "m55"))


def test_what_is_missing_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mini: Mini
) -> None:
    monkeypatch.setenv(emulators.BUILD_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    listed = {entry["device"]: entry for entry in call_json("devices", "--json")}
    assert not listed["m55"]["ready"]
    remedies = {need["remedy"] for need in listed["m55"]["needs"] if not need["found"]}
    assert remedies == {"apt-get install qemu-system-arm", "make firmware"}
    error = sentence("push", mini.bundle, "--device", "m55", "--flash", tmp_path / "flash")
    assert "apt-get install qemu-system-arm" in error


def test_what_was_pushed_runs_in_the_next_command(mini: Mini, flash: Path, tmp_path: Path) -> None:
    pushed = call_json("push", mini.bundle, "--device", "host", "--flash", flash, "--json")
    assert pushed["confirmed"]
    assert pushed["sections_sent"] == pushed["sections"]
    assert pushed["bundle_bytes"] == mini.bundle.stat().st_size
    image = np.random.default_rng(3).standard_normal((1, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    words = ("--path", "full", "--input", tmp_path / "image.npy")
    there = call_json("run", "--device", "host", "--flash", flash, *words, "--json")
    here = call_json("run", mini.bundle, *words, "--chain", "--threads", "1", "--json")
    assert there["path"] == "full"
    np.testing.assert_allclose(there["outputs"]["logits"], here["outputs"]["logits"], atol=1e-6)


def test_a_push_that_changes_nothing_sends_next_to_nothing(mini: Mini, flash: Path) -> None:
    call_json("push", mini.bundle, "--device", "host", "--flash", flash, "--json")
    again = call_json("push", mini.bundle, "--device", "host", "--flash", flash, "--json")
    assert again["sections_sent"] == 0
    assert again["payload_bytes"] < mini.bundle.stat().st_size / 4


def test_a_trial_is_gone_after_the_command(mini: Mini, flash: Path) -> None:
    assert (
        "on trial"
        in call(
            "push", mini.bundle, "--device", "host", "--flash", flash, "--trial", "--quiet"
        ).stdout
    )
    assert "no bundle" in sentence("run", "--device", "host", "--flash", flash)


def test_run_pushes_a_bundle_that_is_named(mini: Mini, flash: Path) -> None:
    result = call("run", mini.bundle, "--device", "host", "--flash", flash, "--digits", 5)
    assert "accuracy on 5 held-out digits" in result.stdout
    chosen = ["0", "1"]
    wrong = sentence(
        "run", mini.bundle, "--device", "host", "--flash", flash, "--stages", ",".join(chosen)
    )
    assert "stage" in wrong or "position" in wrong


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "--device", "host", "--chain"),
        ("run", "--device", "host", "--threads", "2"),
        ("push",),
    ],
)
def test_words_that_make_no_sense_are_usage_errors(words: tuple[str, ...]) -> None:
    assert call(*words).exit_code == 2


def test_an_unknown_device_is_one_sentence(mini: Mini) -> None:
    words = sentence("push", mini.bundle, "--device", "toaster")
    assert "nestling devices" in words
    assert "code" not in words  # no device answered, so there is no code of one
    assert "toaster" in sentence("run", "--device", "sim:toaster")
