"""Conversations of a pool: swapped out and in, sharing beginnings, and never a wrong token."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from language_native.tiny_decoder import CONTEXT, VOCABULARY, full_sequence_logits, generate

import nestling_runtime
from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import BudgetError, DecoderPool, EngineError, Model, SelfSpeculation
from nestling_runtime.decoder_pool import PooledDecoder

BLOCK = 16  # tokens
BEGINNINGS = [[(7 * i + start) % VOCABULARY for i in range(2 * BLOCK + 3)] for start in (1, 2)]


@pytest.fixture(scope="session")
def block_bytes(model: Model) -> int:
    """Of one block."""
    with model.decoder_pool(1 << 30) as pool:
        state = pool.state()
        assert state.block_tokens == BLOCK
        return state.block_bytes


def files_of(folder: Path) -> list[Path]:
    """Swap files, in the order of their conversations."""
    return sorted(folder.glob("*/*.swap"), key=lambda file: int(file.stem))


def test_conversations_of_a_pool(net: ElasticLlama, model: Model, block_bytes: int) -> None:
    budget = 7 * block_bytes
    talks = range(4)

    class Pool(RuleBasedStateMachine):
        """Four conversations in memory for little more than one, and what each should hold."""

        def __init__(self) -> None:
            super().__init__()
            self.pool = model.decoder_pool(budget)
            self.decoders = [self.pool.decoder() for _ in talks]
            self.known: list[list[int]] = [[] for _ in talks]

        which = st.integers(0, len(talks) - 1)
        path = st.sampled_from(["tiny", "full"])

        @rule(which=which, beginning=st.sampled_from(BEGINNINGS), count=st.integers(1, 60))
        def append(self, which: int, beginning: list[int], count: int) -> None:
            tokens = (beginning * 2)[: min(count, CONTEXT - len(self.known[which]))]
            self.decoders[which].append(tokens)
            self.known[which] += tokens

        @rule(which=which, path=path, count=st.integers(1, 4))
        def generate(self, which: int, path: str, count: int) -> None:
            known = self.known[which]
            count = min(count, CONTEXT - len(known))
            if known and count:
                made = self.decoders[which].generate(path, prompt_path=path, max_tokens=count)
                assert made.token_ids == generate(net, known, path, count)
                known += made.token_ids

        @rule(which=which, count=st.integers(1, 5))
        def speculate(self, which: int, count: int) -> None:
            known = self.known[which]
            count = min(count, CONTEXT - len(known))
            if known and count:
                policy = SelfSpeculation("tiny", "full")
                made = self.decoders[which].generate(policy, max_tokens=count).token_ids
                assert made == generate(net, known, "full", count)
                known += made

        @rule(which=which, path=path)
        def look(self, which: int, path: str) -> None:
            if known := self.known[which]:
                oracle = full_sequence_logits(net, known, path)[-1]
                np.testing.assert_allclose(self.decoders[which].logits(path), oracle, atol=5e-4)

        @rule(which=which, share=st.floats(0, 1))
        def rewind(self, which: int, share: float) -> None:
            count = int(share * len(self.known[which]))
            self.decoders[which].rewind(count)
            del self.known[which][count:]

        @rule(which=which)
        def swap_out(self, which: int) -> None:
            self.decoders[which].swap_out()
            assert self.decoders[which].cache().own_blocks == 0

        @rule(which=which)
        def swap_in(self, which: int) -> None:
            self.decoders[which].swap_in()

        @rule(which=which)
        def start_again(self, which: int) -> None:
            self.decoders[which].close()
            self.decoders[which] = self.pool.decoder()
            self.known[which] = []

        @invariant()
        def memory_is_as_it_is_counted(self) -> None:
            state = self.pool.state()
            caches = [decoder.cache() for decoder in self.decoders]
            own = sum(cache.own_blocks for cache in caches)
            assert state.used_bytes == own * block_bytes + state.shared_bytes
            assert state.away_bytes == sum(cache.away_blocks for cache in caches) * block_bytes
            assert state.used_bytes <= state.peak_bytes <= state.budget_bytes == budget

        @invariant()
        def tokens_are_known(self) -> None:
            assert [decoder.tokens for decoder in self.decoders] == self.known

        def teardown(self) -> None:
            self.pool.close()

    run_state_machine_as_test(
        Pool, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


def test_beginnings_are_kept_and_computed_once(net: ElasticLlama, model: Model) -> None:
    beginning = BEGINNINGS[0]
    with model.decoder_pool(1 << 30) as pool:
        first, second = pool.decoder(), pool.decoder()
        first.append(beginning)
        first.generate("full", max_tokens=2)
        alone = pool.state()
        assert alone.shared_bytes == 0
        second.append(beginning)
        made = second.generate("full", max_tokens=2)
        both = pool.state()
        assert made.token_ids == first.tokens[-2:]
        assert both.adopted_tokens == 2 * BLOCK
        assert second.state().computed == len(beginning) + 1 - 2 * BLOCK
        assert both.used_bytes == alone.used_bytes + both.block_bytes
        assert first.cache().shared_blocks == second.cache().shared_blocks == 2
        # Another path computes another content.
        third = pool.decoder()
        third.append(beginning)
        third.generate("tiny", prompt_path="tiny", max_tokens=1)
        assert third.cache().shared_blocks == 0
        # Copied when it is written: going back into the beginning changes nothing for the other.
        second.rewind(BLOCK + 3)
        second.append([5, 4, 3])
        made = second.generate("full", max_tokens=BLOCK)
        assert made.token_ids == generate(net, [*beginning[: BLOCK + 3], 5, 4, 3], "full", BLOCK)
        assert second.cache().shared_blocks == 1
        assert first.generate("full", max_tokens=3).token_ids == generate(
            net, first.tokens[:-3], "full", 3
        )
        # What nobody has any more is still there for whoever comes next, as long as there is room.
        first.close()
        second.close()
        fourth = pool.decoder()
        fourth.append(beginning)
        fourth.generate("full", max_tokens=1)
        assert pool.state().adopted_tokens == 4 * BLOCK
    with model.decoder_pool(1 << 30, share=False) as pool:
        for _ in range(2):
            decoder = pool.decoder()
            decoder.append(beginning)
            decoder.generate("full", max_tokens=1)
        assert pool.state().adopted_tokens == pool.state().shared_bytes == 0


def test_only_what_has_changed_is_written(model: Model) -> None:
    with model.decoder_pool(1 << 30) as pool, pool.decoder() as decoder:
        decoder.append(BEGINNINGS[0][: 2 * BLOCK])
        decoder.generate("full", max_tokens=2)
        decoder.swap_out()
        first = pool.state()
        assert first.used_bytes == 0 and first.away_bytes == 3 * first.block_bytes
        # The full path leaves nothing at the exit; the rest is keys and values.
        caches = [
            slot for slot in model.bundle.slots if "attention" in slot.name and slot.role == "state"
        ]
        row_bytes = sum(4 * slot.shape[-1] for slot in caches)
        assert first.written_bytes == (2 * BLOCK + 1) * row_bytes
        assert first.writes == len(caches)  # neighbouring blocks of one cache are one transfer
        decoder.swap_in()
        decoder.generate("full", max_tokens=1)
        assert pool.state().read_bytes == first.written_bytes
        assert pool.state().reads == len(caches)
        decoder.swap_out()
        again = pool.state()
        assert again.written_bytes - first.written_bytes == 2 * row_bytes
        decoder.swap_in()
        decoder.swap_out()
        assert pool.state().written_bytes == again.written_bytes


def spoil(file: Path, how: str) -> None:
    """Do to a file what disks and people do."""
    if how == "gone":
        file.unlink()
    elif how == "cut":
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 3)
    else:
        file.write_bytes(bytes(byte ^ 0x10 for byte in file.read_bytes()))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("gone", "cannot be opened: No such file"),
        ("cut", "cannot be read: it was cut"),
        ("changed", "does not hold what was written there"),
    ],
)
def test_a_spoiled_file_is_the_error_of_one_conversation(
    net: ElasticLlama, model: Model, tmp_path: Path, how: str, says: str
) -> None:
    with model.decoder_pool(1 << 30, folder=tmp_path) as pool:
        decoders = [pool.decoder() for _ in range(3)]
        for decoder, start in zip(decoders, (1, 2, 3), strict=True):
            decoder.append([(start * i) % VOCABULARY for i in range(2 * BLOCK)])
            decoder.generate("full", max_tokens=2)
            decoder.swap_out()
        folder = next(tmp_path.iterdir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = files_of(tmp_path)
        assert len(files) == 3
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
        spoil(files[1], how)
        before = decoders[1].tokens
        with pytest.raises(EngineError, match=says) as caught:
            decoders[1].generate("full", max_tokens=2)
        assert files[1].name in str(caught.value)
        assert decoders[1].tokens == before
        for decoder in decoders:  # the spoiled one computes its rows anew
            tokens = decoder.tokens
            made = decoder.generate("full", max_tokens=3).token_ids
            assert made == generate(net, tokens, "full", 3)
        decoders[1].swap_out()
        assert decoders[1].generate("tiny", max_tokens=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    with model.decoder_pool(1 << 30, folder=tmp_path) as pool, pool.decoder() as decoder:
        decoder.append(BEGINNINGS[0])
        decoder.generate("full", max_tokens=1)
        folder = next(tmp_path.iterdir())
        folder.rmdir()
        with pytest.raises(EngineError, match="cannot be opened"):
            decoder.swap_out()
        folder.mkdir()
        assert decoder.cache().own_blocks == 3  # still in memory
        decoder.swap_out()
        assert decoder.cache().away_blocks == 3
    with pytest.raises(nestling_runtime.BundleError, match="no folder can be made"):
        model.decoder_pool(1 << 30, folder=tmp_path / "missing")


def test_a_budget_that_is_too_small(net: ElasticLlama, model: Model, block_bytes: int) -> None:
    with pytest.raises(BudgetError, match="less than two blocks"):
        model.decoder_pool(block_bytes)
    with model.decoder_pool(2 * block_bytes) as pool, pool.decoder() as decoder:
        decoder.append(BEGINNINGS[0][: BLOCK + 4])
        made: list[int] = []
        with pytest.raises(BudgetError, match="do not fit") as caught:
            decoder.generate("full", max_tokens=40, on_token=lambda t: made.append(t.token))
        assert caught.value.missing_bytes == block_bytes
        # Tokens are made until a third block is needed; a shorter conversation goes on.
        assert decoder.tokens == BEGINNINGS[0][: BLOCK + 4] + made
        assert made == generate(net, BEGINNINGS[0][: BLOCK + 4], "full", len(made))
        assert len(decoder.tokens) == 2 * BLOCK + 1
        decoder.rewind(BLOCK)
        assert decoder.generate("full", max_tokens=2).token_ids == generate(
            net, BEGINNINGS[0][:BLOCK], "full", 2
        )


def test_threads_in_memory_for_two(net: ElasticLlama, model: Model, block_bytes: int) -> None:
    """Three threads with two conversations each, and memory for what runs at once."""
    failures: list[BaseException] = []

    def talk(pool: DecoderPool, start: int) -> None:
        try:
            decoders: list[PooledDecoder] = [pool.decoder() for _ in range(2)]
            for turn in range(4):
                for number, decoder in enumerate(decoders):
                    decoder.append([(start + number + turn) % VOCABULARY] * 5)
                    known = decoder.tokens
                    made = decoder.generate("full", max_tokens=3).token_ids
                    assert made == generate(net, known, "full", 3)
        except BaseException as error:
            failures.append(error)

    with model.decoder_pool(9 * block_bytes) as pool:
        threads = [threading.Thread(target=talk, args=(pool, 10 * i)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert pool.state().swap_ins > 0


def test_a_pool_ends_with_its_model(net: ElasticLlama, tmp_path: Path, model: Model) -> None:
    pool = model.decoder_pool(1 << 30, folder=tmp_path)
    decoder = pool.decoder()
    decoder.append([1, 2])
    decoder.generate("full", max_tokens=1)
    decoder.swap_out()
    pool.close()
    pool.close()
    assert list(tmp_path.iterdir()) == []
    for call in (lambda: decoder.generate("full"), pool.decoder, pool.state):
        with pytest.raises(EngineError, match="closed"):
            call()
    with model.decoder() as other, pytest.raises(EngineError, match="no pool"):
        other._call("nst_decoder_swap_out")
