"""Talking at a terminal: turns, modes, changes in the middle, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from language_native.tiny_decoder import CONTEXT, generate

from nestling.cli import main
from nestling.cli.live_text import visible
from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import ContextError, EngineError, Model
from nestling_runtime.generation import TextGenerator
from nestling_runtime.modes import Mode, Turn

MODES = """
[low]
answering = "tiny"
answer_tokens = 3

[high]
prefix = "+"
thinking = "tiny"
thinking_tokens = 4
opening = "("
closing = ")"
answering = "full"
answer_tokens = 5
"""


def chat(bundle: Path, *lines: str, options: tuple[str, ...] = ()) -> str:
    """Type lines; return what the terminal shows."""
    result = CliRunner().invoke(
        main, ["chat", str(bundle), *options], input="".join(f"{line}\n" for line in lines)
    )
    assert result.exit_code == 0, result.output
    return result.output


def text_of(tokens: list[int]) -> str:
    """What the terminal shows of byte tokens; no space, which a terminal breaks at will."""
    return bare(visible(bytes(tokens).decode()))


def bare(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())


def test_turns_commands_and_mistakes(net: ElasticLlama, bundle: Path) -> None:
    first = generate(net, list(b"+12"), "full", 6)
    again = generate(net, list(b"+12"), "tiny", 6)
    output = chat(
        bundle,
        "12",
        "/undo",
        "/path tiny",
        "12",
        "/go",
        "/state",
        "/nonsense",
        "/path huge",
        "/mode low",
        "/undo",
        "/undo",
        "/tokens x",
        "/help",
        options=("--system", "+", "--max-tokens", "6"),
    )
    assert text_of(first) in bare(output)
    assert text_of(again) in bare(output)
    assert text_of(generate(net, [*b"+12", *again], "tiny", 6)) in bare(output)
    assert f"15 of {CONTEXT} tokens in 1 turns" in output
    assert "there is no command /nonsense" in output
    assert "no path 'huge'" in output
    assert "there is no mode 'low'" in output
    assert "there is no turn to undo" in output
    assert "/tokens takes a number" in output
    assert "tokens/s" in output and "tiny 100 %" in output and "/policy TEXT" in output


def test_a_full_context_is_a_sentence_and_no_end(net: ElasticLlama, bundle: Path) -> None:
    output = chat(bundle, "0123", "/new", "+", "9" * 60, options=("--max-tokens", "99"))
    assert output.count("the context is full") == 2
    assert "the prompt is longer than what is left" in output
    assert text_of(generate(net, list(b"+"), "full", CONTEXT - 1))[-20:] in bare(output)


def test_modes_of_a_file(net: ElasticLlama, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "modes.toml"
    file.write_text(MODES)
    thought = generate(net, list(b"+7("), "tiny", 4)
    assert ord(")") not in thought  # so that it is closed when its budget is used
    answer = generate(net, [*b"+7(", *thought, *b")"], "full", 5)
    output = chat(
        bundle, "7", "/modes", "/mode low", "8", options=("--modes", str(file), "--mode", "high")
    )
    assert text_of(thought) + ")" + text_of(answer) in bare(output)
    assert "* high: thinks up to 4 tokens, answers up to 5" in output
    known = [*b"+7(", *thought, *b")", *answer, *b"8"]
    assert text_of(generate(net, known, "tiny", 3)) in bare(output)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[x", "cannot be read"),
        ("x = 1", "is no table"),
        ("[x]\nspeed = 1", "has no 'speed'"),
        ("[x]\nanswer_tokens = 'a'", "is of another type"),
        ("[x]\nanswering = 'huge'", "no path 'huge'"),
        ("[x]\nthinking_tokens = 3", "must close its thoughts"),
    ],
)
def test_modes_that_are_none(bundle: Path, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "modes.toml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["chat", str(bundle), "--modes", str(file)], input="")
    assert result.exit_code == 1
    assert says in result.output and result.output.startswith("error: ")


def test_a_mode_changes_in_the_middle(model: Model) -> None:
    """Budget and path of a mode hold from the next token on."""
    slow = Mode("slow", "full", answer_tokens=20)
    quick = Mode("quick", "tiny", answer_tokens=9)
    with TextGenerator(model) as generator:
        turn = Turn(generator, slow)
        paths = []

        def change(token: object) -> bool:
            paths.append(token.path)  # type: ignore[attr-defined]
            if len(paths) == 4:
                turn.mode = quick
            return count(token)  # type: ignore[arg-type]

        count, turn._count = turn._count, change  # type: ignore[method-assign, assignment]
        list(turn.write("+12"))
        assert paths == ["full"] * 4 + ["tiny"] * 5
        assert turn.phase is None and list(turn.resume()) == []


def test_a_turn_that_is_left_goes_on(net: ElasticLlama, model: Model) -> None:
    thinking = Mode("m", "full", 6, thinking="full", thinking_tokens=8, opening="(", closing=")")
    with TextGenerator(model) as generator:
        turn = Turn(generator, thinking)
        seen = []
        for step in turn.write("12"):
            seen.append(step.piece)
            if len(seen) == 3:
                break
        seen += generator.unread
        assert turn.phase == "thinking"
        made = [piece.token.token for piece in seen if piece.token is not None]
        assert generator.decoder.tokens == [*b"12(", *made]
        turn.mode = Mode("instant", "tiny", 2)  # no more thoughts
        rest = list(turn.resume())
        assert rest[0].piece.text == ")" and rest[0].phase == "thinking"
        known = [*b"12(", *made, *b")"]
        answer = [step.piece.token.token for step in rest[1:] if step.piece.token is not None]
        assert answer == generate(net, known, "tiny", 2)


def test_interrupting_an_answer(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, net: ElasticLlama
) -> None:
    """Ctrl-C where it is hardest: while a piece is being shown."""
    from nestling.cli.live_text import LiveText

    add = LiveText.add
    shown: list[str] = []

    def interrupted(self: LiveText, piece: object, **how: str) -> None:
        add(self, piece, **how)  # type: ignore[arg-type]
        shown.append(piece.text)  # type: ignore[attr-defined]
        if len(shown) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(LiveText, "add", interrupted)
    output = chat(bundle, "12", "/state", options=("--max-tokens", "30"))
    assert "/go goes on" in output
    expected = text_of(generate(net, list(b"12"), "full", len(shown)))
    assert bare(visible("".join(shown))) == expected
    assert f"{2 + len(shown)} of {CONTEXT} tokens" in output


def test_modes_refuse_what_cannot_be(model: Model) -> None:
    with pytest.raises(EngineError, match="no number of tokens"):
        Mode("x", answer_tokens=0)
    with TextGenerator(model) as generator, pytest.raises(ContextError):
        list(Turn(generator, Mode("x")).write("1" * (CONTEXT + 1)))
