"""transformers beside Baton: what arrives together is one batch, and a batch that fails fails everybody in it."""

import asyncio

import pytest

from common.core.clock import ManualClock
from services.local.bench.end_to_end import EndToEnd
from services.local.bench.target import Piece
from services.local.bench.transformers_target import BatchTarget, generated
from tests.bench.test_workloads import figures_of


async def pieces(target: BatchTarget, prompt: tuple[int, ...], count: int) -> list[Piece]:
    return [piece async for piece in target.stream(prompt, count)]


def test_prompts_of_one_moment_and_length_are_one_batch() -> None:
    asked: list[tuple[int, int]] = []

    def generate(prompts: list[tuple[int, ...]], count: int) -> list[float]:
        asked.append((len(prompts), count))
        return [float(step) for step in range(count)]

    async def program() -> list[list[Piece]]:
        target = BatchTarget(generate, vocab_size=9, max_context=99)
        return await asyncio.gather(
            *(pieces(target, (1, 2, number), 3) for number in range(4)), pieces(target, (1,), 2)
        )

    found = asyncio.run(program())
    assert sorted(asked) == [(1, 2), (4, 3)]
    assert [len(answer) for answer in found] == [3, 3, 3, 3, 2]


def test_a_batch_that_fails_fails_everybody_in_it_and_the_next_one_is_served() -> None:
    calls: list[int] = []

    def generate(_prompts: list[tuple[int, ...]], count: int) -> list[float]:
        calls.append(count)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return [0.0] * count

    async def program() -> tuple[list[object], list[Piece]]:
        target = BatchTarget(generate, vocab_size=9, max_context=99)
        failed = await asyncio.gather(*(pieces(target, (1, 2), 3) for _ in range(2)), return_exceptions=True)
        return list(failed), await pieces(target, (1, 2), 3)

    failed, served = asyncio.run(program())
    assert "out of memory" in str(failed[0])
    assert "lost a batch of 2" in str(failed[1])
    assert len(served) == 3


def test_every_token_of_the_batch_has_its_time() -> None:
    """Its own generation over a model of two layers: no end of sequence, `count` tokens exactly."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    assert len(generated(model, [(1, 2, 3), (4, 5, 6)], 5, ManualClock())) == 5


def test_end_to_end_is_what_all_streams_write_over_the_time_of_all() -> None:
    """64 prompts read one after the other, then 256 tokens each at one pace."""
    figures = figures_of(EndToEnd(), step_s=0.02, prompt_token_s=0.00001)
    assert figures["tok_s"] == pytest.approx(64 * 256 / (64 * 0.01024 + 255 * 0.02), rel=0.01)
    assert figures["steady_tok_s"] > figures["tok_s"]
