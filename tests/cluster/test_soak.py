"""Minutes of everything at once on the demo model, routers and gateways included: what went wrong, and what is left?"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from common.core.errors import Refused, Unavailable
from tests.cluster.balancer import Entrance, RouterEntrance
from tests.cluster.gateways import GatewayEntrance
from tests.cluster.house import CLOCK, Ask, House, house
from tests.cluster.metrics import still_busy
from tests.cluster.reference import torch_reference
from tests.cluster.soak import Asked, Storm, draw, load
from tests.cluster.vitals import MIB, Watch, watching

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MODEL = Path("models/demo")
SETTINGS = (
    "local.gateways=2",
    "engine.num_pages=768",
    "router.local_prompt_tokens=32",
    "liveness.ping_timeout_s=4",  # a busy machine breaks nothing
)
SEED = 22_117
WARM_S = 45.0
NUM_ASKS = 40
GROWTH_BYTES = 24 * MIB
"""Chosen: what allocators keep after minutes of load; the least leak of a request would be more."""
MAX_FILES = 8
REST_S = 90.0
NEAR_S = 30.0
EXPECTED = dict[Ask, list[list[int]]]
STORMS = {
    "everything": Storm(
        seconds=600, every_s=9, deeds=("kill", "kill", "freeze", "freeze", "redis", "frozen redis", "router")
    ),
    "twenty routers": Storm(seconds=120, every_s=6, deeds=("router",)),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STORMS)
async def test_a_storm_costs_no_token_and_leaves_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waited was answered exactly, or was told behind a true beginning that its own entrance died. Processes
    that lived through it hold what they held before."""
    storm, chance = STORMS[name], random.Random(SEED)
    asks = [draw(chance, number) for number in range(NUM_ASKS)]
    expected = answers(asks)
    async with house(prefill=2, decode=2, routers=2, settings=SETTINGS) as cluster, doors(cluster) as entrances:
        calm = await load(entrances, asks, chance, seconds=WARM_S)
        await rest(cluster)
        async with watching(cluster, warm_s=0.0, every_s=15.0) as watch:
            hitting = asyncio.create_task(storm.hit(cluster, entrances, chance))
            asked = await load(entrances, asks, chance, seconds=storm.seconds)
            await hitting
            await cluster.wait_whole()
            asked += await load(entrances, asks, chance, seconds=5.0)
            await rest(cluster)
        restarts = sum(process.restarts for process in cluster.cluster.supervisor.processes.values())
    with capsys.disabled():
        print(f"\n{name}: {dict(storm.happened)}\ncalm {counted(calm)}\nstorm {counted(asked)}")
        tell_growth(watch)
    for each in calm:
        check(each, expected, cuts=())
    for each in asked:
        check(each, expected, cuts=storm.cuts)
    assert restarts == storm.num_killed, "nobody ends whom nobody killed"
    check_growth(watch)


def answers(asks: Sequence[Ask]) -> EXPECTED:
    """Of the undisturbed run."""
    reference = torch_reference(MODEL, num_pages=4096)
    groups = [asks[start : start + 8] for start in range(0, len(asks), 8)]
    tokens = [each for group in groups for each in reference.answer_together(group)]
    return dict(zip(asks, tokens, strict=True))


@asynccontextmanager
async def doors(cluster: House) -> AsyncIterator[Mapping[str, Entrance]]:
    """A client of each router, and one of each gateway."""
    made: dict[str, Entrance] = {}
    for number in range(2):
        made[f"router-{number}"] = RouterEntrance(cluster.cluster.router_address(number))
        made[f"gateway-{number}"] = GatewayEntrance(cluster.cluster.gateway_address(number), metrics_port=0)
    try:
        yield made
    finally:
        for entrance in made.values():
            await entrance.close()


async def rest(cluster: House) -> None:
    """Until everybody is back and nobody has anything to do, by its own metrics."""
    await cluster.wait_whole()
    for process in cluster.cluster.supervisor.processes.values():
        until = CLOCK.monotonic() + REST_S
        while busy := await still_busy(process):
            assert CLOCK.monotonic() < until, (process.spec.name, busy)
            await asyncio.sleep(0.2)
    assert not (await cluster.view()).missing, "all that were killed are back"


def counted(asked: Sequence[Asked]) -> dict[str, int]:
    """How requests ended, by kind of door."""
    ends: Counter[str] = Counter()
    for each in asked:
        end = "left" if each.has_left else "whole" if each.told.error is None else repr(each.told.error)[:160]
        ends[f"{each.door.partition('-')[0]}: {end}"] += 1
    return dict(ends)


def check(each: Asked, expected: EXPECTED, *, cuts: Sequence[tuple[float, float]]) -> None:
    """The whole answer, or a beginning of it and a reason."""
    tokens = {number: choice.tokens for number, choice in each.told.answer.choices.items()}
    true = expected[each.ask]
    who = f"{each.door} {each.told.answer.request_id}"
    if not each.has_left and each.told.error is None:
        each.told.check_whole(each.ask.max_tokens)
        assert [tokens[number] for number in range(each.ask.n)] == true, who
        return
    for number, got in tokens.items():
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(got, true[number], strict=False)))
        assert same == len(got), f"{who}: choice {number} differs at {same} of {len(got)}"
    if each.has_left:
        return
    assert isinstance(each.told.error, (Unavailable, Refused)), (who, each.told.error)
    if isinstance(each.told.error, Refused):
        assert not tokens, who
        return
    near = [cut for cut in cuts if abs(cut[1] - each.told.sent_at) < NEAR_S]
    assert any(began <= each.told.ended_at and each.told.sent_at <= ended for began, ended in cuts), (
        f"{who} {each.told.sent_at:.2f} to {each.told.ended_at:.2f}, cuts {near}: {each.told.error!r}"
    )


def tell_growth(watch: Watch) -> None:
    for name in sorted(watch.looks[-1]):
        looks = [look[name] for look in watch.looks if name in look]
        memory = " ".join(f"{look.rss_bytes / MIB:.0f}" for look in looks[:: max(1, len(looks) // 12)])
        first, last = looks[0], looks[-1]
        files = f"{first.num_files} to {last.num_files} files"
        print(f"{name}: MiB {memory}; {files}, {first.num_threads} to {last.num_threads} threads")


def check_growth(watch: Watch) -> None:
    """Of the second of each kind, which nobody killed."""
    for name, first, last in watch.growth():
        if name.endswith("-1"):
            assert last.rss_bytes <= first.rss_bytes * 1.1 + GROWTH_BYTES, name
            assert last.num_files <= first.num_files + MAX_FILES, name
            assert last.num_threads <= first.num_threads + 2, name
