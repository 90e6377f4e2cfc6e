from __future__ import annotations

from cli.calls import call, call_json
from cli.mini import Mini


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


def test_tables_show_paths_and_stages(mini: Mini) -> None:
    short = call("inspect", mini.bundle).stdout
    long = call("inspect", mini.bundle, "--stages").stdout
    for name in mini.supernet.space.named:
        assert name in short
    assert "layer0.attention" in short
    assert "stored once" in short
    assert len(long.splitlines()) > len(short.splitlines())
