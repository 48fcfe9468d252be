"""The torch executor: the same bits however a sequence is computed, and poison that stays in its row.

Method: page memory starts as NaN, a sequence is computed whole and alone, then again in another way, and tokens and
every key and value are compared bit by bit. The arithmetic is compared with another implementation in tests/oracle.
"""

import random
from dataclasses import replace

import pytest
import torch

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import PageCopy, Sample, Step
from tests.engine.torch_rig import GREEDY, SHAPE, TorchRig, Walker

LENGTHS = [1, 2, 15, 16, 17, 48, 49, 130, 515, 600]
UNUSED = PageId(399)  # The rig hands pages out from the front.
SEEDED = TokenSampling(temperature=1.3, top_p=0.95)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(f"{length}/{seed}").choices(range(SHAPE.vocab), k=length)


def finished(length: int, *, num_tokens: int = 12, sampling: TokenSampling = GREEDY) -> tuple[Walker, TorchRig]:
    """A sequence computed whole and alone: what every other way must equal."""
    rig = TorchRig()
    walker = rig.walker("alone", prompt(length), sampling=sampling, seeds=(length,))
    rig.generate(walker, num_tokens)
    return walker, rig


def assert_same(rig: TorchRig, walker: Walker, expected: Walker, expected_rig: TorchRig) -> None:
    assert walker.tokens == expected.tokens
    shared = min(walker.num_computed, expected.num_computed)
    assert torch.equal(rig.kv(walker)[..., :shared, :], expected_rig.kv(expected)[..., :shared, :])


@pytest.mark.parametrize("chunk", [1, 7, 16, 129, 512])
def test_a_prompt_in_chunks_has_the_bits_of_a_whole_one(chunk: int) -> None:
    for length in (49, 600):
        expected, expected_rig = finished(length)
        rig = TorchRig()
        walker = rig.walker("chunked", prompt(length))
        rig.generate(walker, 12, chunk=chunk)
        assert_same(rig, walker, expected, expected_rig)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_sequence_in_a_crowd_has_the_bits_of_a_lonely_one(sampling: TokenSampling) -> None:
    """All lengths in one batch, joined one after the other, so that extends and decodes share steps."""
    rig = TorchRig()
    crowd = [rig.walker(f"crowd-{n}", prompt(n), sampling=sampling, seeds=(n,)) for n in LENGTHS]
    for joined in range(1, len(crowd) + 12):
        rig.advance(*crowd[:joined])
    for walker, length in zip(crowd, LENGTHS, strict=True):
        expected, expected_rig = finished(length, sampling=sampling)
        assert_same(rig, replace(walker, tokens=walker.tokens[: length + 12]), expected, expected_rig)


def test_a_cached_prefix_gives_the_bits_of_a_cold_start() -> None:
    expected, expected_rig = finished(130)
    rig = TorchRig()
    first = rig.walker("first", [*prompt(130)[:100], 1, 2, 3])
    rig.generate(first, 2)
    second = rig.walker("second", prompt(130), shared=first.pages[: 100 // 16])
    rig.generate(second, 12)
    assert_same(rig, second, expected, expected_rig)


def test_a_preempted_sequence_recomputes_the_same_bits() -> None:
    expected, expected_rig = finished(49)
    rig = TorchRig()
    walker = rig.walker("preempted", prompt(49))
    rig.generate(walker, 5)
    again = rig.walker("readmitted", walker.tokens)
    rig.generate(again, 7, chunk=20)
    assert_same(rig, again, expected, expected_rig)


def test_several_samples_of_one_row_are_drawn_as_if_alone() -> None:
    rig = TorchRig()
    seeds = (5, 6, 7, 5)
    result = rig.step(rig.row(rig.walker("all", prompt(20), sampling=SEEDED, seeds=seeds)))
    alone = [rig.generate(rig.walker("one", prompt(20), sampling=SEEDED, seeds=(seed,)), 1)[0] for seed in seeds]
    assert list(result.drawn[0]) == alone
    assert alone[0] == alone[3]
    assert len(set(alone)) > 1


def test_a_chunk_that_is_not_the_end_draws_nothing() -> None:
    rig = TorchRig()
    first, second = rig.walker("chunk", prompt(40)), rig.walker("whole", prompt(5))
    result = rig.step(rig.row(first, count=10), rig.row(second))
    assert [len(drawn) for drawn in result.drawn] == [0, 1]
    assert result.failed == ()


def test_copies_are_made_before_the_forward() -> None:
    """A sequence forks inside a page: the fork copies the page and writes its own token over the copy."""
    rig = TorchRig()
    walker = rig.walker("origin", prompt(20))
    rig.generate(walker, 3)
    fork = rig.walker("fork", walker.tokens)
    fork.pages, fork.num_computed = [walker.pages[0], UNUSED], walker.num_computed
    copy = PageCopy(source=walker.pages[1], destination=UNUSED)
    forked = rig.step(rig.row(fork), copies=(copy,))
    assert forked.drawn[0][0] == rig.generate(walker, 1)[0]


def test_an_empty_step_is_nothing() -> None:
    assert TorchRig().executor.run(Step(rows=())).drawn == ()


def poison_token(rig: TorchRig) -> Walker:
    return rig.walker("poison", [1, SHAPE.vocab, 2])


def poison_page(rig: TorchRig) -> Walker:
    walker = rig.walker("poison", prompt(20))
    walker.pages = [PageId(10_000), PageId(10_001)]
    return walker


def poison_memory(rig: TorchRig) -> Walker:
    """A prefix of which nobody wrote the bytes: attention over NaN."""
    return rig.walker("poison", prompt(20), shared=[UNUSED])


def poison_context(rig: TorchRig) -> Walker:
    walker = rig.walker("poison", prompt(SHAPE.max_positions + 1))
    walker.num_computed = SHAPE.max_positions
    return walker


@pytest.mark.parametrize("poison", [poison_token, poison_page, poison_memory, poison_context])
def test_a_poisoned_row_fails_alone(poison) -> None:
    rig = TorchRig()
    healthy = [rig.walker(f"healthy-{n}", prompt(n)) for n in (1, 17, 40)]
    rows = [rig.row(walker) for walker in healthy]
    bad = rig.row(poison(rig))
    result = rig.step(rows[0], bad, *rows[1:])
    assert result.failed == (bad.sequence,)
    assert [len(drawn) for drawn in result.drawn] == [1, 0, 1, 1]
    expected = [finished(n, num_tokens=1)[0].tokens[-1] for n in (1, 17, 40)]
    assert [result.drawn[0][0], result.drawn[2][0], result.drawn[3][0]] == expected


def test_a_position_beyond_the_context_is_an_error_and_not_a_read_beyond_the_tables() -> None:
    rig = TorchRig()
    walker = poison_context(rig)
    rig.storage.kv_PL2HSD.zero_()  # its older tokens are no poison
    assert rig.step(rig.row(walker)).failed == (SequenceId(RequestId("poison")),)


def test_a_poisoned_row_alone_in_its_step_fails() -> None:
    rig = TorchRig()
    bad = rig.row(poison_token(rig))
    assert rig.step(bad).failed == (SequenceId(bad.sequence.request),)


def test_a_banned_token_is_not_drawn() -> None:
    rig = TorchRig()
    row = rig.row(rig.walker("free", prompt(9)))
    favourite = rig.step(row).drawn[0][0]
    banned = Sample(seed=0, position=9, sampling=GREEDY, banned=(favourite,))
    assert rig.step(replace(row, samples=(banned,))).drawn[0][0] != favourite


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_and_mostly_agrees_with_full(dtype: str) -> None:
    """Not exact by promise: the first drawn token of most prompts is still the same."""
    agreed = 0
    for seed in range(20):
        own, full = TorchRig(dtype=dtype), TorchRig()
        token = own.generate(own.walker("own", prompt(40, seed)), 1)
        agreed += token == full.generate(full.walker("full", prompt(40, seed)), 1)
    assert agreed >= 17


def test_the_seconds_of_a_step_come_from_the_clock() -> None:
    """The rig's clock stands still."""
    rig = TorchRig()
    assert rig.step(rig.row(rig.walker("any", [TokenId(1)]))).seconds == 0.0
