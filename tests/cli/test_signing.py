from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.calls import call, call_json, sentence
from cli.mini import Mini


@pytest.fixture
def bundle(mini: Mini, tmp_path: Path) -> Path:
    return Path(shutil.copy(mini.bundle, tmp_path / "signed.nest"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert call("keygen", tmp_path / "key").exit_code == 0
    return tmp_path / "key"


def test_signed_bundle_passes_and_still_runs(bundle: Path, key: Path) -> None:
    assert call("sign", bundle, "--key", key).exit_code == 0
    facts = call_json("verify", bundle, "--key", f"{key}.pub", "--json")
    assert facts["signed"] is True
    assert facts["key_id"]
    assert call_json("inspect", bundle, "--json")["signed"] is True
    call_json("run", bundle, "--json")


def test_unsigned_bundle_passes_only_without_a_key(bundle: Path, key: Path) -> None:
    assert call_json("verify", bundle, "--json")["signed"] is False
    assert "not signed" in sentence("verify", bundle, "--key", f"{key}.pub")


def test_another_key_is_refused(bundle: Path, key: Path, tmp_path: Path) -> None:
    call("sign", bundle, "--key", key)
    call("keygen", tmp_path / "other")
    assert "another key" in sentence("verify", bundle, "--key", tmp_path / "other.pub")


def test_keys_are_never_overwritten(key: Path) -> None:
    before = key.read_bytes()
    sentence("keygen", key)
    assert key.read_bytes() == before


def test_the_private_key_is_private(key: Path) -> None:
    assert key.stat().st_mode & 0o077 == 0


def test_sign_with_something_that_is_no_key(bundle: Path) -> None:
    before = bundle.read_bytes()
    assert "key" in sentence("sign", bundle, "--key", bundle)
    assert bundle.read_bytes() == before
