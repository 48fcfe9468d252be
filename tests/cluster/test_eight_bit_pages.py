"""Pages of eight bits through a cluster: numbers and scales travel together, and tokens are those of one process."""

import pytest

from services.local.topology import Kind
from tests.cluster.house import house
from tests.cluster.reference import torch_reference
from tests.cluster.test_same_answer import MODEL, mixed_requests

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


@pytest.mark.timeout(200)
async def test_answers_over_eight_bit_floats_are_those_of_a_single_process() -> None:
    """Two workers; most prompts are relayed, their pages whole, scales and all, under the digest of the hand-over."""
    asks = mixed_requests(count=24)
    settings = ("engine.kv_dtype=fp8", "engine.num_pages=1024", "router.local_prompt_tokens=16")
    async with house(settings=settings) as cluster:
        told = await cluster.ask_all(asks, at_once=8)
        layout = (await cluster.status(cluster.worker(Kind.DECODE))).layout
        (decode,) = await cluster.counters(Kind.DECODE)
    assert layout.dtype == "fp8"
    assert decode["landed_bytes"] >= 10 * layout.page_bytes
    reference = torch_reference(MODEL, kv_dtype="fp8")
    for ask, answer in zip(asks, told, strict=True):
        assert [answer.tokens(index) for index in range(ask.n)] == reference.answer(ask), ask.request_id
