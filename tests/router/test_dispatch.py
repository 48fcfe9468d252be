"""Goal: the unhappy journeys have one owner each. Method: the production dispatcher against played workers, in virtual
time; every story ends with a check that no work is left on any worker and no counter is off."""

import asyncio

import pytest

from common.core.errors import (
    AlreadyExists,
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    InternalError,
    NotFound,
    Reason,
    Refused,
    Unavailable,
)
from common.core.events import TokensEmitted, WorkFailed
from common.core.ids import RequestId, TenantId, TokenId
from common.core.request import FinishReason
from common.core.worker import Role, WorkerState
from tests.router.build import request
from tests.router.cast import Script
from tests.router.house import SUSPECT_S, House, play

LONG = 100
TENANT = TenantId("default")
"""A prompt that goes to prefill; the default of 8 tokens stays on decode."""


async def enter(house: House, prefills: int = 2, decodes: int = 2, **scripts: Script) -> None:
    for index in range(prefills):
        await house.stage.enter(f"p{index}", Role.PREFILL, scripts.get(f"p{index}"))
    for index in range(decodes):
        await house.stage.enter(f"d{index}", Role.DECODE, scripts.get(f"d{index}"))
    await asyncio.sleep(0.1)


def seen(house: House, what: str) -> int:
    return sum(worker.seen[what] for worker in house.stage.workers.values())


@pytest.mark.parametrize(("prompt", "n"), [(LONG, 1), (LONG, 4), (8, 1), (8, 3)])
def test_a_request_is_answered_exactly(prompt: int, n: int) -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=prompt, n=n)
        answer = await house.ask(wanted)
        assert answer.is_exact(wanted), answer
        assert seen(house, "prefill") == (prompt == LONG)
        assert seen(house, "cancel") == 0, "a request that ended well needs no cancel"

    play(story)


def test_duplicated_events_are_dropped() -> None:
    async def story(house: House) -> None:
        await enter(house, p0=Script(repeats=3), p1=Script(repeats=3), d0=Script(repeats=3), d1=Script(repeats=3))
        wanted = request(prompt=LONG, n=2)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_failed_transfer_keeps_the_promise_and_tries_another_prefill() -> None:
    async def story(house: House) -> None:
        await enter(house, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert (seen(house, "reserve"), seen(house, "renew"), seen(house, "prefill")) == (1, 1, 2)

    play(story)


def test_a_promise_whose_renewal_was_not_answered_is_given_up_as_far_as_it_may_stand() -> None:
    """It may point at the attempt that nobody follows: a cancel of the one before would leave its pages promised."""

    async def story(house: House) -> None:
        lossy = Script(lost_renewals=1)
        await enter(house, p0=Script(transfer_failures=1), d0=lossy, d1=lossy)
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert lossy.lost_renewals == 0

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
        assert isinstance(asked.result().error, DeadlineExceeded)

    play(story)


def test_a_new_request_is_told_after_a_grace_that_nobody_is_there() -> None:
    async def story(house: House) -> None:
        answer = await house.ask(request())
        assert isinstance(answer.error, Unavailable)
        assert house.loop.time() == pytest.approx(10.0)
        answer = await house.ask(request(received=10.0, deadline=70.0))
        assert isinstance(answer.error, Unavailable)
        assert house.loop.time() == pytest.approx(10.0), "the next one is told at once"

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


def test_news_of_an_attempt_that_was_given_up_changes_nothing() -> None:
    """A failure of attempt 1, told by the very worker that now computes attempt 2, is not attempt 2's."""

    async def story(house: House) -> None:
        await enter(house, decodes=1, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.04)
            second = house.stage.workers["p1"]
            (work,) = second.works
            assert work.attempt == 2
            second.emit(
                WorkFailed(
                    request=work.request,
                    attempt=1,
                    reason=Reason.TRANSFER_FAILED,
                    message="late",
                    role=Role.PREFILL,
                    reservation_stands=True,
                )
            )
        assert asked.result().is_exact(wanted)
        assert (seen(house, "renew"), seen(house, "local")) == (1, 0)

    play(story)


def test_decode_telling_of_a_failed_transfer_after_prefill_did_costs_no_other_attempt() -> None:
    """Both ends of a transfer report its failure; the second report finds the next attempt under way."""

    async def story(house: House) -> None:
        await enter(house, decodes=1, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.04)
            (work,) = house.stage.workers["p1"].works
            assert work.attempt == 2
            house.stage.workers["d0"].emit(
                WorkFailed(
                    request=work.request,
                    attempt=1,
                    reason=Reason.TRANSFER_FAILED,
                    message="digests differ",
                    role=Role.PREFILL,
                    reservation_stands=True,
                )
            )
        assert asked.result().is_exact(wanted)
        assert (seen(house, "renew"), seen(house, "prefill"), seen(house, "local")) == (1, 2, 0)

    play(story)


def test_a_prefill_worker_whose_other_end_is_gone_is_not_to_blame() -> None:
    """It tells of the failed transfer before the router misses the decode worker; its cache saves another leg work."""

    async def story(house: House) -> None:
        await enter(house, p0=Script(transfer_failures=1), p1=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.015)
            (lost,) = [name for name in ("d0", "d1") if house.stage.workers[name].seen["reserve"]]
            (reader,) = [name for name in ("p0", "p1") if house.stage.workers[name].seen["prefill"]]
            house.network.freeze(lost)
            await asyncio.sleep(10)
            house.network.thaw(lost)
        assert asked.result().is_exact(wanted)
        assert house.stage.workers[reader].seen["prefill"] == seen(house, "prefill") == 2

    play(story, can_fetch=False)  # else the other one may read it just as well, with the first one's pages


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


def test_a_choice_whose_text_ended_before_decode_began_is_ended_there() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, decodes=1)
        wanted = request(prompt=LONG, n=2, max_tokens=20)
        answer = await house.ask(wanted, stops=("1000",))
        assert answer.finishes == {0: FinishReason.STOP, 1: FinishReason.LENGTH}
        assert house.stage.workers["d0"].ended == [(0,)]

    play(story)


def test_no_pages_on_one_worker_goes_to_the_next() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(refusals=1))
        wanted = request(prompt=LONG)
        answer = await house.ask(wanted)
        assert answer.is_exact(wanted)
        assert house.stage.workers["d1"].seen["reserve"] == 1

    play(story)


def test_no_pages_anywhere_waits_and_costs_no_attempt() -> None:
    async def story(house: House) -> None:
        await enter(house, decodes=1, d0=Script(refusals=12))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_refusal_is_asked_about_again_without_waiting_for_a_heartbeat() -> None:
    async def story(house: House) -> None:
        await enter(house, decodes=1, d0=Script(refusals=3))
        wanted = request(prompt=8, max_tokens=2)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert house.loop.time() < 1.0, "three refusals are worth 50, 100 and 200 ms, not a heartbeat each"

    play(story)


def test_a_full_prefill_worker_is_waited_for() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, p0=Script(refusals=3))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert seen(house, "local") == 0

    play(story)


@pytest.mark.parametrize("prompt", [8, LONG])
def test_a_poison_request_visits_two_workers_and_no_more(prompt: int) -> None:
    async def story(house: House) -> None:
        bad = {name: Script(internal_errors=99) for name in ("p0", "p1", "p2", "d0", "d1", "d2")}
        await enter(house, prefills=3, decodes=3, **bad)
        answer = await house.ask(request(prompt=prompt))
        assert isinstance(answer.error, InternalError)
        assert answer.error.reason is Reason.POISON_REQUEST
        assert sum(99 - worker.script.internal_errors for worker in house.stage.workers.values()) == 2

    play(story)


def test_one_internal_error_is_retried_elsewhere() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(internal_errors=1))
        wanted = request(prompt=8)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 5, 15, 20, 21, 22, 25, 27, 35, 60, 99])
@pytest.mark.parametrize("how", ["call", "request_id"])
def test_a_cancel_reaches_every_worker_at_every_point(after_ms: int, how: str) -> None:
    async def story(house: House) -> None:
        await enter(house)
        asked = asyncio.create_task(house.ask(request("req", prompt=LONG, max_tokens=20)))
        await asyncio.sleep(after_ms / 1000 + 1e-6)
        if how == "request_id":
            house.dispatcher.cancel(RequestId("req"), TENANT)
            assert isinstance((await asked).error, Cancelled)
            house.dispatcher.cancel(RequestId("req"), TENANT)
        else:
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        await asyncio.sleep(0.5)
        house.check_clean()

    play(story)


def test_a_cancel_while_the_client_still_reads_a_finished_answer_changes_nothing() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request("req", prompt=8, max_tokens=4)
        asked = asyncio.create_task(house.ask(wanted, read_every_s=1.0))
        await asyncio.sleep(0.5)
        assert house.dispatcher.num_active == 1, "all is computed, the reader is not through"
        house.dispatcher.cancel(RequestId("req"), TENANT)
        await house.dispatcher.drain(0.1, hurry=asyncio.Event())
        assert (await asked).is_exact(wanted)

    play(story)


def test_cancelling_the_unknown_is_not_found() -> None:
    async def story(house: House) -> None:
        with pytest.raises(NotFound):
            house.dispatcher.cancel(RequestId("nobody"), TENANT)

    play(story)


def test_a_cancel_while_queued_costs_no_worker_anything() -> None:
    async def story(house: House) -> None:
        asked = asyncio.create_task(house.ask(request()))
        await asyncio.sleep(0.1)
        house.dispatcher.cancel(RequestId("req"), TENANT)
        assert isinstance((await asked).error, Cancelled)
        await enter(house)
        await asyncio.sleep(1)
        assert seen(house, "local") == 0

    play(story)


def test_a_deadline_ends_the_work_on_every_worker() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(silent_after=3), d1=Script(silent_after=3))
        answer = await house.ask(request(prompt=LONG, deadline=5.0))
        assert isinstance(answer.error, DeadlineExceeded)
        assert len(answer.tokens[0]) == 3
        assert house.loop.time() == pytest.approx(5.0, abs=0.01)

    play(story)


def test_a_stop_string_ends_the_choice_and_the_work() -> None:
    async def story(house: House) -> None:
        await enter(house)
        answer = await house.ask(request(prompt=LONG, max_tokens=50), stops=("1005",))
        assert answer.finishes == {0: FinishReason.STOP}
        assert answer.stop_strings == {0: "1005"}
        assert answer.text[0] == "1000 1001 1002 1003 1004 "
        assert len(answer.tokens[0]) == 6
        await asyncio.sleep(0.1)
        house.check_clean()

    play(story)


def test_a_choice_that_ends_with_its_first_token_frees_the_promise() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, max_tokens=1)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_slow_reader_is_paused_and_still_gets_every_token() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, max_tokens=400)
        answer = await house.ask(wanted, read_every_s=1.5)
        assert answer.is_exact(wanted)
        assert seen(house, "local") + seen(house, "reserve") > 1, "its place was given up meanwhile"

    play(story)


def test_a_reader_that_does_not_read_is_cancelled() -> None:
    async def story(house: House) -> None:
        await enter(house)
        answer = await house.ask(request(prompt=LONG, max_tokens=400), read_every_s=30.0)
        assert isinstance(answer.error, Refused)
        assert answer.error.reason is Reason.SLOW_READER

    play(story)


def test_the_same_id_twice_at_once_is_refused_and_free_again_afterwards() -> None:
    async def story(house: House) -> None:
        await enter(house)
        first = asyncio.create_task(house.ask(request("same", prompt=LONG)))
        await asyncio.sleep(0.01)
        assert isinstance((await house.ask(request("same"))).error, AlreadyExists)
        assert (await first).error is None
        assert (await house.ask(request("same"))).error is None

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


def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1)
        wanted = request("first", prompt=LONG, max_tokens=50)
        first = asyncio.create_task(house.ask(wanted))
        await asyncio.sleep(0.05)
        drained = house.stage.workers["d0"]
        assert drained.seen["reserve"] == 1
        drained.state = WorkerState.DRAINING
        house.stage.mirror.put(drained.member())
        await asyncio.sleep(0.01)
        second = request("second", prompt=LONG)
        assert (await house.ask(second)).is_exact(second)
        assert (await first).is_exact(wanted)
        third = request("third", prompt=LONG)
        assert (await house.ask(third)).is_exact(third)
        assert drained.seen["reserve"] == 1, "idle again, and first by id"

    play(story)


def test_with_the_directory_away_living_streams_keep_serving() -> None:
    async def story(house: House) -> None:
        await enter(house)
        house.stage.mirror.is_stale = True
        for name in list(house.stage.mirror.listed):
            house.stage.mirror.remove(name)
        await asyncio.sleep(5)
        wanted = request(prompt=LONG, received=5.0)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    async def story(house: House) -> None:
        await house.stage.enter("d0", Role.DECODE, pages=10)
        await asyncio.sleep(0.1)
        answer = await house.ask(request(prompt=LONG, max_tokens=100))
        assert isinstance(answer.error, ContextLengthExceeded)

    play(story)


def test_drain_lets_running_requests_finish_and_refuses_new_ones() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request("old", prompt=LONG)
        old = asyncio.create_task(house.ask(wanted))
        await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(house.dispatcher.drain(30.0, hurry=asyncio.Event()))
            await asyncio.sleep(0)
            refused = await house.ask(request("new"))
        assert isinstance(refused.error, Unavailable)
        assert refused.error.reason is Reason.DRAINING
        assert (await old).is_exact(wanted)

    play(story)


@pytest.mark.parametrize("grace_s", [0.2, 30.0])
def test_what_is_left_when_a_drain_ends_is_told_to_ask_again(grace_s: float) -> None:
    """Its time is over, or somebody insists."""

    async def story(house: House) -> None:
        await enter(house)
        hurry = asyncio.Event()
        old = asyncio.create_task(house.ask(request("old", prompt=LONG, max_tokens=400)))
        await asyncio.sleep(0.01)
        draining = asyncio.create_task(house.dispatcher.drain(grace_s, hurry=hurry))
        await asyncio.sleep(0.3)
        hurry.set()
        await draining
        error = (await old).error
        assert isinstance(error, Unavailable)
        assert error.reason is Reason.DRAINING

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
