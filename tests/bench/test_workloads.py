"""Workloads find what a target of known speed was made to do. Virtual time: a minute takes milliseconds."""

import pytest

from common.core.entropy import SeededEntropy
from common.core.errors import InternalError
from services.local.bench.bounds import Bounds
from services.local.bench.decode import DecodeSpeed
from services.local.bench.interference import Interference
from services.local.bench.prefill import PrefillSpeed
from services.local.bench.prefix import PrefixReuse
from services.local.bench.prompts import Prompts
from services.local.bench.target import Heard, Piece, hear
from services.local.bench.workload import Figures, Kit, Workload
from tests.bench.paced import PacedTarget
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


def figures_of(
    workload: Workload,
    *,
    step_s: float = 0.02,
    prompt_token_s: float = 0.0,
    stalls: bool = False,
    bounds: Bounds | None = None,
) -> Figures:
    """One run in virtual time."""

    async def program(loop: TimeLoop) -> Figures:
        clock = LoopClock(loop)
        target = PacedTarget(clock, step_s=step_s, prompt_token_s=prompt_token_s, stalls=stalls)
        kit = Kit(clock=clock, prompts=Prompts(SeededEntropy(5), target.vocab_size), bounds=bounds)
        return await workload.run(target, kit)

    return simulate(program)


def test_prefill_is_prompt_tokens_over_time_to_first_token():
    figures = figures_of(PrefillSpeed(prompt_tokens=512), prompt_token_s=0.001)
    assert figures["ttft_ms"] == pytest.approx(512)
    assert figures["tok_s"] == pytest.approx(1000)


def test_decode_counts_the_prompts_time_in_one_rate_and_not_in_the_other():
    figures = figures_of(DecodeSpeed(num_streams=8), step_s=0.02, prompt_token_s=0.001)
    assert figures["itl_ms_p50"] == pytest.approx(20)
    assert figures["itl_count"] == 8 * 127
    assert figures["steady_tok_s"] == pytest.approx(8 / 0.02, rel=0.02)
    assert figures["tok_s"] < figures["steady_tok_s"]


def test_prefix_repeats_the_first_prompts_beginning_and_nothing_more():
    async def program(loop: TimeLoop) -> PacedTarget:
        clock = LoopClock(loop)
        target = PacedTarget(clock, prompt_token_s=0.001)
        await PrefixReuse().run(target, Kit(clock=clock, prompts=Prompts(SeededEntropy(5), 32_000)))
        return target

    cold, warm = simulate(program).prompts
    assert cold[:1920] == warm[:1920]
    assert cold[1920:] != warm[1920:]
    assert len(warm) == 2048


def test_an_engine_that_a_prompt_stalls_shows_it_in_p99_and_in_the_rate():
    workload = Interference(arrival_tokens=1024, every_s=1.0, window_s=30.0)
    figures = figures_of(workload, prompt_token_s=0.0002, stalls=True)
    assert figures["itl_p99_ratio"] > 5
    assert figures["rate_left"] < 0.9
    assert figures["itl_ms_p50"] == pytest.approx(20)


def test_an_engine_that_no_prompt_stalls_keeps_every_ratio_at_one():
    workload = Interference(arrival_tokens=1024, every_s=1.0, window_s=30.0)
    figures = figures_of(workload, prompt_token_s=0.0002)
    assert figures["itl_p99_ratio"] == pytest.approx(1)
    assert figures["rate_left"] == pytest.approx(1, rel=0.01)
    assert figures["ttft_p50_ratio"] == pytest.approx(1)
    assert figures["arrivals"] == 30
    assert figures["arrivals_unfinished"] == 0
    assert figures["good_arrivals_share"] == 1


def test_arrivals_that_pile_up_are_sent_on_time_all_the_same():
    """Open loop: a target that cannot keep up gets a queue, not a slower benchmark."""
    workload = Interference(arrival_tokens=1024, every_s=1.0, window_s=20.0, num_alone=2)
    figures = figures_of(workload, prompt_token_s=0.003)
    assert figures["arrivals"] == 20
    assert figures["ttft_ms_max"] > 20_000
    assert figures["good_arrivals_share"] == 0


def test_tokens_that_come_together_are_one_gap_and_zeros():
    heard = Heard(sent_at=0.0, prompt_tokens=1)
    heard.pieces = [Piece(at=1.0, num_tokens=1), Piece(at=1.5, num_tokens=3), Piece(at=9.0, num_tokens=1)]
    assert list(heard.gaps(1.2, 2.0)) == [0.5, 0.0, 0.0]
    assert heard.tokens_within(1.0, 2.0) == 3


def test_an_answer_of_another_length_is_an_error_and_not_a_fast_one():
    class Short(PacedTarget):
        async def stream(self, prompt, max_tokens):
            async for piece in super().stream(prompt, max_tokens - 1):
                yield piece

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        with pytest.raises(InternalError, match="wrote 3 tokens where 4"):
            await hear(Short(clock), (1, 2), 4, clock)

    simulate(program)
