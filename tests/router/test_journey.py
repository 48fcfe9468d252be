"""Goal: the unhappy journeys have one owner each. Method: the production dispatcher against
played workers, in virtual time; every story ends with a check that no work is left on any worker and no counter is off.
"""

import asyncio

import pytest

from common.config.tenants import TenantTerms
from common.core.errors import (
    DeadlineExceeded,
)
from common.core.events import TokensEmitted
from common.core.ids import TokenId
from common.core.worker import Role
from tests.router.build import request
from tests.router.cast import Script
from tests.router.crowd import LONG, enter, seen
from tests.router.house import SUSPECT_S, House, play


def test_a_failed_transfer_keeps_the_promise_and_tries_another_prefill() -> None:
    async def story(house: House) -> None:
        await enter(house, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert (seen(house, "reserve"), seen(house, "renew"), seen(house, "prefill")) == (1, 1, 2)

    play(story)


def test_without_another_prefill_decode_reads_the_prompt() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, decodes=1, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert seen(house, "local") == 1

    play(story)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.0215, 0.024])
def test_prefill_dies(after_s: float) -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(after_s)
            house.stage.kill("p0")
        answer = asked.result()
        assert answer.is_exact(wanted), answer
        assert max(answer.times) < SUSPECT_S, "a broken stream is noticed at once"

    play(story)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.03, 0.05, 0.08])
def test_decode_dies_and_the_stream_goes_on_from_its_next_index(after_s: float, n: int) -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, n=n)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(after_s)
            house.stage.kill("d0")
        answer = asked.result()
        assert answer.is_exact(wanted), answer
        works = house.stage.workers["d1"].works
        if after_s >= 0.05:
            assert sorted(work.choices[0].index for work in works) == list(range(n)), "diverged choices go on apart"
            assert all(work.emitted and len(work.choices) == 1 for work in works), "what came is not computed again"

    play(story)


def test_an_answer_that_was_moved_is_paid_for_once() -> None:
    """Each leg counts what it delivered itself: the tenant's tokens are the prompt's and the answer's, no more."""

    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG)
        tenant = house.admission.line.tenants.find(wanted.tenant, house.clock.monotonic())
        tenant.terms = TenantTerms(tokens_per_s=1e-9)  # nothing comes back by itself
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.05)
            house.stage.kill("d0")
        answer = asked.result()
        assert answer.is_exact(wanted), answer
        (work,) = house.stage.workers["d1"].works
        assert work.emitted, "both legs delivered something"
        full = 1.0  # a bucket that hardly fills
        assert tenant.tokens.level == pytest.approx(full - len(wanted.prompt) - len(answer.tokens[0]), abs=1e-3)

    play(story)


def test_both_decode_workers_die_and_the_stream_waits_for_their_return() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.05)
            house.stage.kill("d0")
            house.stage.kill("d1")
            await asyncio.sleep(30)
            await house.stage.enter("d0", Role.DECODE)
        assert asked.result().is_exact(wanted)

    play(story)


def test_a_stream_whose_workers_stay_away_ends_at_its_deadline() -> None:
    async def story(house: House) -> None:
        await enter(house)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(request(prompt=LONG, deadline=20.0)))
            await asyncio.sleep(0.05)
            house.stage.kill("d0")
            house.stage.kill("d1")
        answer = asked.result()
        assert isinstance(answer.error, DeadlineExceeded)
        num_written = sum(map(len, answer.tokens.values()))
        assert f"after 20 s, with {num_written} tokens written: allow more" in answer.error.message

    play(story)


def test_a_frozen_decode_worker_is_suspected_and_its_zombie_tokens_are_dropped() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1)
        wanted = request(prompt=LONG, max_tokens=50)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.1)
            house.network.freeze("d0")
            house.stage.workers["d0"].script.silent_after = 0
            await asyncio.sleep(10)
            house.network.thaw("d0")
        answer = asked.result()
        assert answer.is_exact(wanted), answer
        silence = max(b - a for a, b in zip(answer.times, answer.times[1:], strict=False))
        assert silence < SUSPECT_S + 0.6

    play(story)


def test_a_worker_that_hangs_is_suspected_by_its_silence() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1)
        wanted = request(prompt=LONG, max_tokens=50)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.1)
            house.stage.workers["d0"].voice.clear()
        answer = asked.result()
        assert answer.is_exact(wanted), answer
        assert max(answer.times) < 0.2 + SUSPECT_S + 1.0
        house.stage.workers["d0"].voice.set()

    play(story)


def test_a_worker_that_contradicts_the_client_s_tokens_does_not_go_on() -> None:
    """What it writes after another token than the client has is the continuation of another text."""

    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, max_tokens=20)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.1)
            (work,) = house.stage.workers["d0"].works
            house.stage.workers["d0"].emit(
                TokensEmitted(
                    request=work.request, attempt=1, choice=0, first_index=0, tokens=(TokenId(7),), finish=None
                )
            )
        assert asked.result().is_exact(wanted)
        (resumed,) = house.stage.workers["d1"].works
        assert resumed.emitted[0] == 1000, "it goes on from what the client has"

    play(story)


def test_a_restarted_worker_at_the_same_name_is_used_again() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, decodes=1)
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        house.stage.kill("d0")
        house.stage.kill("p0")
        await enter(house, prefills=1, decodes=1)
        again = request(prompt=LONG, received=house.loop.time(), deadline=house.loop.time() + 60)
        assert (await house.ask(again)).is_exact(again)
        assert house.stage.workers["p0"].seen["prefill"] == 1

    play(story)


@pytest.mark.parametrize("seed", range(20))
def test_a_crowd_survives_kills_and_restarts(seed: int) -> None:
    async def story(house: House) -> None:
        print("seed", seed)
        await enter(house)
        wanted = [
            request(
                f"r{index}",
                prompt=house.loop.random.choice([4, LONG]),
                n=house.loop.random.choice([1, 1, 2, 3]),
                max_tokens=30,
            )
            for index in range(24)
        ]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(house.ask(item)) for item in wanted]
            for _ in range(4):
                await asyncio.sleep(house.loop.random.uniform(0.01, 0.3))
                name = house.loop.random.choice(["p0", "p1", "d0", "d1"])
                house.stage.kill(name)
                await asyncio.sleep(house.loop.random.uniform(0, 1))
                await house.stage.enter(name, Role.PREFILL if name[0] == "p" else Role.DECODE)
        for item, task in zip(wanted, asked, strict=True):
            assert task.result().is_exact(item), (item.id, task.result())

    play(story, seed=seed)
