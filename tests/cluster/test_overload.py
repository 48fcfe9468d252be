"""Too little memory: sequences are preempted and come back, everybody finishes, and what cannot wait is told when."""

import statistics

import pytest

from common.core.errors import Refused
from services.local.topology import Kind
from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, counter, prompts
from tests.cluster.house import House

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

NUM_PAGES = 64
MAX_QUEUE = 24
HOUSE = {
    # The queue is what is short: how long a busy machine takes for it is nobody's reason to refuse.
    "settings": (
        *SLOW_SIM,
        "engine.sim_step_ms=5",
        f"router.max_queue_standard={MAX_QUEUE}",
        "admission.ttft_standard_s=600",
    ),
    "of_process": {"decode-0": (f"engine.num_pages={NUM_PAGES}",)},
}
SEED = 9101
PROMPT, OUTPUT = 2 * PAGE_SIZE, 10 * PAGE_SIZE
FITTING = NUM_PAGES * PAGE_SIZE // (PROMPT + OUTPUT)


async def test_four_times_what_fits_is_served_by_preemption(cluster: House) -> None:
    """F18: outputs grow beyond the pool. Nothing hangs, every answer is exact, nobody waits unfairly long."""
    asks = [
        *prompts(2 * FITTING, length=PROMPT, max_tokens=OUTPUT, seed=SEED),
        *prompts(2 * FITTING, length=8, max_tokens=PROMPT + OUTPUT - 8, seed=SEED + 1),
    ]
    before = await counter(cluster, Kind.DECODE, "preemptions")
    told = await cluster.ask_all(asks, at_once=len(asks))
    check_all(asks, told)
    preemptions = await counter(cluster, Kind.DECODE, "preemptions") - before
    durations = sorted(each.times[-1] - each.sent_at for each in told)
    print(
        f"F18: {len(asks)} requests of {PROMPT + OUTPUT} tokens over {NUM_PAGES} pages: {preemptions:.0f} preemptions, "
        f"{durations[0]:.1f} to {durations[-1]:.1f} s, median {statistics.median(durations):.1f} s"
    )
    assert preemptions > 0
    assert durations[-1] <= 10 * statistics.median(durations)


async def test_more_than_the_queue_holds_is_told_when_to_try_again(cluster: House) -> None:
    """F18: RESOURCE_EXHAUSTED with a retry time, at once; who was let in finishes."""
    asks = prompts(4 * MAX_QUEUE, length=PROMPT, max_tokens=OUTPUT, seed=SEED + 2)
    told = await cluster.ask_all(asks, at_once=len(asks))
    refused = [each for each in told if each.error is not None]
    served = [(ask, each) for ask, each in zip(asks, told, strict=True) if each.error is None]
    check_all([ask for ask, _ in served], [each for _, each in served])
    print(f"F18: {len(served)} served, {len(refused)} refused")
    assert refused
    assert len(served) >= MAX_QUEUE
    for each in refused:
        assert isinstance(each.error, Refused), each.error
        assert each.error.retry_after_s is not None
        assert each.error.quota_subject.startswith("queue:standard")
