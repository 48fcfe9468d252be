"""A minute of everything at once: load, clients that leave, and every few seconds a process killed or frozen."""

import asyncio
import random
import signal
from dataclasses import replace

import pytest

from services.local.answer import Answer
from services.local.topology import Kind
from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, prompts
from tests.cluster.house import CLOCK, Ask, House, Told

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HOUSE = {"prefill": 2, "decode": 2, "settings": (*SLOW_SIM, "engine.sim_step_ms=10")}
SEED = 11_101
STORM_S = 60.0
PER_S = 12.0
HIT_EVERY_S = 4.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
async def test_a_minute_of_kills_and_cancels_loses_nothing(cluster: House, seed: int) -> None:
    """Every request that its client waited for is answered exactly."""
    chance = random.Random(seed)
    storm = asyncio.create_task(hit(cluster, chance))
    running: list[asyncio.Task[tuple[Ask, Told, bool]]] = []
    began = CLOCK.monotonic()
    for number in range(int(STORM_S * PER_S)):
        await asyncio.sleep(began + number / PER_S - CLOCK.monotonic())
        running.append(asyncio.create_task(one(cluster, draw(chance, number), leaves=chance.random() < 0.1)))
    await storm
    ended = await asyncio.gather(*running)
    stayed = [(ask, told) for ask, told, has_left in ended if not has_left]
    silences = sorted(told.longest_wait_s for _, told in stayed)
    print(
        f"{len(stayed)} answered, longest silence {silences[-1]:.1f} s, p99 {silences[len(silences) * 99 // 100]:.1f} s"
    )
    check_all([ask for ask, _ in stayed], [told for _, told in stayed])


def draw(chance: random.Random, number: int) -> Ask:
    length = chance.choice([1, 16, 40, 6 * PAGE_SIZE, 12 * PAGE_SIZE])
    ask = prompts(1, length=length, max_tokens=chance.randrange(1, 120), seed=SEED + number % 200)[0]
    if chance.random() < 0.5:
        return ask
    return replace(ask, n=chance.choice([1, 2, 3]), temperature=1.0, seed=chance.randrange(1, 2**31))


async def one(cluster: House, ask: Ask, *, leaves: bool) -> tuple[Ask, Told, bool]:
    told = Told(answer=Answer(CLOCK))
    running = asyncio.create_task(cluster.ask(ask, told=told))
    if leaves:
        await asyncio.wait({running}, timeout=0.4)
        running.cancel()
    await asyncio.wait({running})
    return ask, told, running.cancelled()


async def hit(cluster: House, chance: random.Random) -> None:
    """One process at a time: killed, or frozen for as long as a lease and more."""
    for _ in range(int(STORM_S / HIT_EVERY_S)):
        kind, number = chance.choice([Kind.PREFILL, Kind.DECODE]), chance.randrange(2)
        deed = chance.choice(["kill", "kill", "freeze", "redis"])
        print(f"{deed} {kind}-{number}")
        if deed == "kill":
            cluster.kill(kind, number)
        elif deed == "freeze":
            cluster.kill(kind, number, signal.SIGSTOP)
            await asyncio.sleep(4.0)
            cluster.kill(kind, number, signal.SIGCONT)
        else:
            await cluster.valkey.kill()
        await asyncio.sleep(HIT_EVERY_S)
        await cluster.wait_whole()
