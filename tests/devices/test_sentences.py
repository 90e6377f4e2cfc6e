"""Reasons whose sentences a small device keeps out of its flash."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestling_devices.sentences import TEXTS_VARIABLE, with_sentences


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A firmware's list of sentences, with the gaps that a linker leaves."""
    file = tmp_path / "nestling.texts"
    file.write_bytes(b"the flash is full\0\0\0the slot is in use\0")
    monkeypatch.setenv(TEXTS_VARIABLE, str(file))
    return file


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("reason", "whole"),
    [
        ("no bundle is open", "no bundle is open"),
        ("slots: §20; (expected 0, actual 1)", "slots: the slot is in use (expected 0, actual 1)"),
        ("§0;, and §20;", "the flash is full, and the slot is in use"),
        ("§4000;", "§4000;"),
        ("§20", "§20"),
    ],
)
def test_places_become_sentences(reason: str, whole: str) -> None:
    assert with_sentences(reason) == whole


def test_without_the_list_the_place_stays(texts: Path) -> None:
    texts.unlink()
    assert with_sentences("slots: §20;").startswith("slots: §20; (")
    assert TEXTS_VARIABLE in with_sentences("§20;")
