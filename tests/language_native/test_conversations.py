"""Any order of appending, generating, switching, rewinding, cancelling: never a wrong token."""

from __future__ import annotations

from ctypes import byref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from language_native.tiny_decoder import CONTEXT, SHAPE, VOCABULARY, full_sequence_logits, generate

import nestling_runtime
from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import (
    CancelledError,
    Decoder,
    Model,
    PathError,
    SelfSpeculation,
    decoder_abi,
    native,
)
from nestling_runtime.session import Session

CHUNK = SHAPE.chunks[0]
EXACT = st.sampled_from(["tiny", "full"])  # both compute anew what the other has left


def test_conversations(net: ElasticLlama, model: Model) -> None:
    class Conversations(RuleBasedStateMachine):
        """Two conversations on one model, and what each should hold."""

        def __init__(self) -> None:
            super().__init__()
            self.decoders = [model.decoder(), model.decoder()]
            self.expected: list[list[int]] = [[], []]

        which = st.integers(0, 1)

        @rule(which=which, tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9))
        def append(self, which: int, tokens: list[int]) -> None:
            if len(self.expected[which]) + len(tokens) > CONTEXT:
                with pytest.raises(nestling_runtime.ContextError):
                    self.decoders[which].append(tokens)
            else:
                self.decoders[which].append(tokens)
                self.expected[which] += tokens

        @rule(which=which, path=EXACT, count=st.integers(1, 6))
        def extend(self, which: int, path: str, count: int) -> None:
            known = self.expected[which]
            count = min(count, CONTEXT - len(known))
            if known and count:
                made = self.decoders[which].generate(path, max_tokens=count).token_ids
                assert made == generate(net, known, path, count)
                known += made

        @rule(which=which, draft=st.sampled_from(["tiny", "slim"]), count=st.integers(1, 9))
        def speculate(self, which: int, draft: str, count: int) -> None:
            known = self.expected[which]
            count = min(count, CONTEXT - len(known))
            if known and count:
                policy = SelfSpeculation(draft, "full")
                made = self.decoders[which].generate(policy, max_tokens=count).token_ids
                assert made == generate(net, known, "full", count)
                known += made

        @rule(which=which, path=EXACT)
        def look(self, which: int, path: str) -> None:
            known = self.expected[which]
            if known:
                expected = full_sequence_logits(net, known, path)[-1]
                np.testing.assert_allclose(self.decoders[which].logits(path), expected, atol=2e-4)

        @rule(which=which, share=st.floats(0, 1))
        def rewind(self, which: int, share: float) -> None:
            count = int(share * len(self.expected[which]))
            self.decoders[which].rewind(count)
            del self.expected[which][count:]

        @rule(which=which)
        def cancel(self, which: int) -> None:
            known = self.expected[which]
            if known and len(known) < CONTEXT:
                self.decoders[which].cancel()
                with pytest.raises(CancelledError):
                    self.decoders[which].generate("full", max_tokens=1)

        @rule(which=which)
        def lose_the_way(self, which: int) -> None:
            with pytest.raises(PathError):
                self.decoders[which].generate("nowhere")

        @invariant()
        def tokens_are_known(self) -> None:
            assert [decoder.tokens for decoder in self.decoders] == self.expected

        def teardown(self) -> None:
            for decoder in self.decoders:
                decoder.close()

    # `slim` drafts leave rows that verification replaces: nothing of them may show.
    run_state_machine_as_test(
        Conversations, settings=settings(max_examples=12, stateful_step_count=20, deadline=None)
    )


def test_a_session_by_hand(net: ElasticLlama, model: Model) -> None:
    """The same caches through sessions: rows that were never written are an error."""
    tokens = [5, 8, 13, 21, 34]
    expected = full_sequence_logits(net, tokens, "full")
    with model.session() as session:
        session.select("full")
        for token, logits in zip(tokens, expected, strict=True):
            given = session.run(tokens=np.array([[token]]))["logits"]
            np.testing.assert_allclose(given[0, 0], logits, atol=2e-4)
        session.reset_state()
        session.select("tiny")
        session.run(tokens=np.array([[5]]))
        session.select("full")
        with pytest.raises(nestling_runtime.EngineError, match="lacks rows"):
            session.run(tokens=np.array([[8]]))


def test_a_session_by_hand_in_chunks(net: ElasticLlama, model: Model) -> None:
    """A chunk that is not full, a step back, and what the session says about its caches."""
    tokens = [5, 8, 13, 21, 34]
    expected = full_sequence_logits(net, tokens, "full")
    with model.session() as session:
        growth = decoder_abi.Growth()

        def state() -> tuple[int, int, int]:
            native.call("nst_session_growth", session.handle, byref(growth))
            return growth.position, growth.limit, growth.tokens

        def run(path: str, given: list[int]) -> None:
            suffix = "" if path == "full" else path.removeprefix("full")
            padded = given + [0] * (CHUNK * (suffix != "") - len(given))
            session.select(path)
            session.tensor(f"tokens{suffix}")[:] = padded
            if suffix:
                session.tensor(f"row{suffix}")[:] = len(given) - 1
            native.call("nst_session_run_tokens", session.handle, len(given))

        assert state() == (0, SHAPE.rows, 0)
        run(f"full.t{CHUNK}", tokens[:3])
        assert state() == (3, SHAPE.rows, CHUNK)
        np.testing.assert_allclose(session.tensor("logits")[0, 0], expected[2], atol=2e-4)
        run("full", [60])
        native.call("nst_session_rewind", session.handle, 3)
        native.call("nst_session_rewind", session.handle, 10)
        assert state() == (3, SHAPE.rows, 1)
        for index in (3, 4):
            run("full", [tokens[index]])
            np.testing.assert_allclose(session.tensor("logits")[0, 0], expected[index], atol=2e-4)
        with pytest.raises(nestling_runtime.EngineError, match="another number of tokens"):
            native.call("nst_session_run_tokens", session.handle, 2)


def test_a_bundle_without_a_decoder(tmp_path: Path) -> None:
    from bundle.samples import tiny

    path = tmp_path / "other.nest"
    tiny().write(path)
    with nestling_runtime.open(path) as model, pytest.raises(PathError, match="no decoder"):
        model.decoder()


def test_sessions_and_decoders_end_with_their_model(bundle: Path) -> None:
    model = nestling_runtime.open(bundle, threads=1)
    decoder: Decoder = model.decoder()
    session: Session = model.session()
    decoder.append([1, 2])
    decoder.generate("tiny", max_tokens=1)
    model.close()
    for call in (lambda: decoder.generate("tiny"), session.reset_state):
        with pytest.raises(nestling_runtime.EngineError, match="closed"):
            call()
