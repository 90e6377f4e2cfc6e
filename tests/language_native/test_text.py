"""Generating text: tokenizers, streaming, the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from language_native.tiny_decoder import CONTEXT, VOCABULARY, generate

from nestling.cli import main
from nestling.elastic import save
from nestling.elastic.families.llama import ElasticLlama
from nestling.language.tokenizer import train_tokenizer
from nestling_runtime import BundleError, EngineError, Model
from nestling_runtime.generation import JsonTokenizer, TextGenerator

PROMPT = "+-*/ 0123"


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and all that it printed."""
    result = CliRunner().invoke(main, ["generate", *arguments])
    return result.exit_code, result.output


def test_command_writes_what_eager_torch_writes(net: ElasticLlama, bundle: Path) -> None:
    expected = generate(net, list(PROMPT.encode()), "full", 12)
    for policy in ("full", "speculative:tokens=3", "confidence:threshold=2"):
        code, output = run(
            str(bundle), "--prompt", PROMPT, "--policy", policy, "--max-tokens", "12", "--json"
        )
        assert code == 0, output
        shown = json.loads(output)
        assert shown["tokens"] == expected
        assert shown["text"].encode() == bytes(expected)
        assert shown["shares"]["full"] == 1.0
    code, output = run(str(bundle), "--prompt", PROMPT, "--max-tokens", "12", "--plain")
    assert code == 0
    assert output == bytes(expected).decode() + "\n"
    code, output = run(str(bundle), "--prompt", PROMPT, "--expert-budget", "1000")
    assert code == 2
    assert "bundles with experts" in output
    code, output = run(str(bundle), "--prompt", PROMPT, "--policy", "entropy:threshold=3.7")
    assert code == 1
    assert output.rstrip().endswith("rewind, or start another conversation")
    assert "tokens/s" in output


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("huge", "no path 'huge'"),
        ("entropy", "needs a number for threshold"),
        ("entropy:threshold=x", "needs a number for threshold"),
        ("confidence:threshold=1,signal=luck", "no such signal"),
        ("full:speed=3", "no parameter speed"),
        ("speculative:tokens=99", "a draft cannot have so many tokens"),
    ],
)
def test_command_refuses_in_one_sentence(bundle: Path, policy: str, says: str) -> None:
    code, output = run(str(bundle), "--prompt", PROMPT, "--policy", policy)
    assert code == 1
    assert says in output
    assert output.startswith("error: ")


def test_text_is_streamed_and_may_be_left(net: ElasticLlama, model: Model) -> None:
    expected = generate(net, list(PROMPT.encode()), "full", 12)
    with TextGenerator(model) as generator:
        for count, piece in enumerate(generator.write(PROMPT, max_tokens=12), 1):
            assert piece.token is not None and piece.token.token == expected[count - 1]
            if count == 3:
                break
        made = generator.decoder.tokens[len(PROMPT) :]
        assert made == expected[: len(made)]
        left = 12 - len(made)
        text = "".join(piece.text for piece in generator.write(max_tokens=left))
        assert text.encode() == bytes(expected[len(made) :])
        assert generator.last is not None and generator.last.reason == "length"


def test_byte_level_tokens_are_bytes() -> None:
    text = "def f(x):\n    return 'grüße ' + x  # 日本\n"
    trained = train_tokenizer([text * 3], 300)
    tokenizer = JsonTokenizer(trained.to_str().encode())
    tokens = tokenizer.encode(text)
    words = tokenizer.vocabulary()
    assert len(words) == trained.get_vocab_size()
    assert b"".join(words[token] for token in tokens).decode() == text
    with pytest.raises(BundleError, match="cannot be read"):
        JsonTokenizer(b"{}")


def test_a_tokenizer_of_another_model(model: Model) -> None:
    with pytest.raises(EngineError, match="does not match"):
        model.decoder([b"x"] * (VOCABULARY + 1))


def test_export_command(net: ElasticLlama, bundle: Path, tmp_path: Path) -> None:
    """From a checkpoint; `bundle` is asked for, so that nothing is lowered twice."""
    save(net, tmp_path / "net.pt")
    made = tmp_path / "made.nest"
    sizes = ("--context", str(CONTEXT), "--verify", "4", "--chunk", "4")
    arguments = ["export-decoder", str(tmp_path / "net.pt"), "-o", str(made), *sizes, "--json"]
    result = CliRunner().invoke(main, [*arguments, "--jobs", "1"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["paths"] == ["tiny", "full"]
    listed = {name for names in report["portable_operators"].values() for name in names}
    assert "nestling::attend" in listed
    code, output = run(str(made), "--prompt", PROMPT, "--max-tokens", "9", "--plain")
    assert code == 0
    assert output == bytes(generate(net, list(PROMPT.encode()), "full", 9)).decode() + "\n"
    result = CliRunner().invoke(main, [*arguments, "--verify", "1"])
    assert result.exit_code == 2
