"""Everything is restarted, one process after the other, while requests come over gRPC and over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from services.local.cluster import LocalCluster
from services.local.topology import Kind
from tests.cluster.balancer import Balancer, RouterEntrance, balancer
from tests.cluster.drive import SLOW_SIM, check_all, prompts
from tests.cluster.gateways import GatewayEntrance
from tests.cluster.house import CLOCK, Ask, House, Told, house
from tests.cluster.leaving import leave
from tests.cluster.planning import planner
from tests.cluster.ports import stable_port

pytestmark = pytest.mark.cluster

SEED = 21_003
PER_S = 4.0
NOTICE_S = 1.5
"""Three looks of the balancer, and a second for a machine that does other things."""
READINESS = [stable_port() for _ in range(2)]
SETTINGS = (*SLOW_SIM, "liveness.drain_s=20", f"liveness.drain_notice_s={NOTICE_S}", "local.gateways=2")
WORKERS = (Kind.DECODE, Kind.PREFILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Where requests come in, by turns."""

    routers: Balancer
    gateways: Balancer

    def of(self, number: int) -> Balancer:
        return (self.routers, self.gateways)[number // 2 % 2]


@pytest.mark.timeout(360)
async def test_everything_is_restarted_one_by_one_under_load_and_nothing_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """F20. Workers, routers, gateways and a planner on SIGTERM: each must end with exit code 0. Redis by SIGKILL, since
    all that it holds are hints. Four requests a second, none of them sent twice: what is left serves them, on slow
    processors, too, while another worker starts beside it."""
    ready = {f"gateway-{number}": (f"listen.metrics_port={port}",) for number, port in enumerate(READINESS)}
    async with (
        house(prefill=2, decode=2, routers=2, settings=SETTINGS, of_process=ready) as cluster,
        planner(cluster) as planning,
        doors_of(cluster.cluster) as doors,
    ):
        over = asyncio.Event()
        asking = asyncio.create_task(keep_asking(doors, over))
        await asyncio.sleep(1.0)
        await restart_all(cluster, doors)
        assert await planning.leave() == 0
        await planning.start()
        await cluster.valkey.kill()
        await cluster.wait_workers(4)
        over.set()
        asked = await asking
    counts = counted(asked)
    longest_s = max(told.longest_wait_s for _, told in asked)
    with capsys.disabled():
        print(f"\nF20: {dict(counts)}, longest silence {longest_s:.2f} s")
    check_all([ask for ask, _ in asked], [told for _, told in asked])
    assert counts["failed"] == counts["lost tokens"] == counts["tokens too many"] == 0
    assert longest_s <= 5.0 + 1.0


@asynccontextmanager
async def doors_of(cluster: LocalCluster) -> AsyncIterator[Doors]:
    routers = [RouterEntrance(cluster.router_address(number)) for number in range(2)]
    gateways = [GatewayEntrance(cluster.gateway_address(number), READINESS[number]) for number in range(2)]
    async with balancer(routers) as for_grpc, balancer(gateways) as for_http:
        yield Doors(routers=for_grpc, gateways=for_http)


async def restart_all(cluster: House, doors: Doors) -> None:
    for kind in (Kind.DECODE, Kind.PREFILL, Kind.ROUTER, Kind.GATEWAY):
        for process in cluster.cluster.of(kind):
            await leave(cluster, process, within_s=25.0)
            if kind in WORKERS:
                await cluster.wait_workers(4)
            await doors.routers.wait_ready(2)
            await doors.gateways.wait_ready(2)


async def keep_asking(doors: Doors, over: asyncio.Event) -> list[tuple[Ask, Told]]:
    """Four a second until `over`, then to the last answer. Every fourth has two choices, every other comes by HTTP."""
    running: list[tuple[Ask, asyncio.Task[Told]]] = []
    began = CLOCK.monotonic()
    while not over.is_set():
        number = len(running)
        await asyncio.sleep(max(0.0, began + number / PER_S - CLOCK.monotonic()))
        wanted = prompts(1, length=(20, 90)[number % 2], max_tokens=(50, 120)[number % 3 > 0], seed=SEED + number)[0]
        if number % 4 == 3:
            wanted = replace(wanted, n=2, temperature=1.0, seed=number + 1)
        running.append((wanted, asyncio.create_task(doors.of(number).ask(wanted))))
    return [(wanted, await task) for wanted, task in running]


def counted(asked: Sequence[tuple[Ask, Told]]) -> Counter[str]:
    """Every answer goes to its last allowed token."""
    counts = Counter[str](requests=len(asked))
    for ask, told in asked:
        counts["failed"] += told.error is not None
        for number in range(ask.n):
            choice = told.answer.choices.get(number)
            got = len(choice.tokens) if choice is not None else 0
            counts["tokens"] += got
            counts["lost tokens"] += max(0, ask.max_tokens - got)
            counts["tokens too many"] += max(0, got - ask.max_tokens)
    return counts
