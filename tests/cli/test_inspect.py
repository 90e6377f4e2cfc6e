from __future__ import annotations

import pytest
from cli.calls import call, call_json
from cli.mini import Mini

from nestling.cli.inspect import print_facts


def test_json_agrees_with_the_supernet(mini: Mini) -> None:
    facts = call_json("inspect", mini.bundle, "--json")
    assert facts["scheme"] == "fp32"
    assert facts["target"] == "xnnpack"
    assert facts["file_bytes"] == mini.bundle.stat().st_size
    assert [path["name"] for path in facts["paths"]] == list(mini.supernet.space.named)
    for path in facts["paths"]:
        subnet = mini.supernet.space.named[path["name"]]
        assert path["parameters"] == mini.supernet.count_parameters(subnet)
        assert path["quality"] == {"accuracy": 0.5}


def test_shared_bytes_add_up(mini: Mini) -> None:
    facts = call_json("inspect", mini.bundle, "--json")
    sizes = [path["weight_bytes"] for path in facts["paths"]]
    assert facts["unshared_bytes"] == sum(sizes)
    # Smaller paths are prefixes of the largest: what is stored is what that one uses.
    assert facts["stored_bytes"] == max(sizes)
    assert sizes == sorted(sizes)
    own = [path["own_bytes"] for path in facts["paths"]]
    assert own[:-1] == [0] * (len(own) - 1)
    assert 0 < own[-1] < sizes[-1]


def test_sections_name_their_levels(mini: Mini) -> None:
    sections = call_json("inspect", mini.bundle, "--json")["sections"]
    blobs = [section for section in sections if section["kind"] == "blob"]
    assert [blob["level"] for blob in blobs] == [1, 2]
    assert all(len(section["sha256"]) == 64 for section in sections)


def test_a_narrow_terminal_shows_whole_numbers(
    mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    facts = call_json("inspect", mini.bundle, "--json")
    for path in facts["paths"]:  # of a MobileNet's size, and not measured yet
        path.update(parameters=3_487_816, macs=300_774_272, weight_bytes=13_892_736)
        path.update(quality={}, cost_us={})
    print_facts(facts)
    shown = capsys.readouterr().out
    for figure in ("3,487,816", "300,774,272", "13,892,736"):
        assert shown.count(figure) >= len(facts["paths"])


def test_tables_show_paths_and_stages(mini: Mini) -> None:
    short = call("inspect", mini.bundle).stdout
    long = call("inspect", mini.bundle, "--stages").stdout
    for name in mini.supernet.space.named:
        assert name in short
    assert "layer0.attention" in short
    assert "stored once" in short
    assert len(long.splitlines()) > len(short.splitlines())
