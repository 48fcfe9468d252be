"""Goal: of several attempts one counts, and both ends know which. Method: as in test_journey."""

import asyncio

from common.core.errors import Reason
from common.core.events import WorkFailed
from common.core.ids import RequestId
from common.core.worker import Role
from tests.router.build import request
from tests.router.cast import Script
from tests.router.crowd import LONG, enter, seen
from tests.router.house import House, play


def tell_of_the_sender(house: House, teller: str, wanted: RequestId, reason: Reason, message: str) -> None:
    """A worker says that the first attempt's sender failed, and that the promise stands."""
    house.stage.workers[teller].emit(
        WorkFailed(
            request=wanted, attempt=1, reason=reason, message=message, role=Role.PREFILL, reservation_stands=True
        )
    )


def test_a_promise_whose_renewal_was_not_answered_is_given_up_as_far_as_it_may_stand() -> None:
    """It may point at the attempt that nobody follows: a cancel of the one before would leave its pages promised."""

    async def story(house: House) -> None:
        lossy = Script(lost_renewals=1)
        await enter(house, p0=Script(transfer_failures=1), d0=lossy, d1=lossy)
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert lossy.lost_renewals == 0

    play(story)


def test_a_client_that_leaves_amid_a_renewal_leaves_no_promise_behind() -> None:
    """What was asked of decode last counts, whether or not its answer was waited for."""

    async def story(house: House) -> None:
        await enter(house, decodes=1, p0=Script(transfer_failures=1), d0=Script(renewal_s=0.5))
        wanted = request("first", prompt=LONG)
        asked = asyncio.create_task(house.ask(wanted))
        while not seen(house, "renew"):
            await asyncio.sleep(0.01)
        house.dispatcher.cancel(wanted.id, wanted.tenant)
        await asked
        await asyncio.sleep(0.1)
        decode = house.stage.workers["d0"]
        assert not decode.held
        assert decode.seen["cancel"]

    play(story)


def test_news_of_an_attempt_that_was_given_up_changes_nothing() -> None:
    """A failure of attempt 1, told by the very worker that now computes attempt 2, is not attempt 2's."""

    async def story(house: House) -> None:
        await enter(house, decodes=1, p0=Script(transfer_failures=1))
        wanted = request(prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(wanted))
            await asyncio.sleep(0.04)
            (work,) = house.stage.workers["p1"].works
            assert work.attempt == 2
            tell_of_the_sender(house, "p1", work.request, Reason.TRANSFER_FAILED, "late")
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
            tell_of_the_sender(house, "d0", work.request, Reason.TRANSFER_FAILED, "digests differ")
        assert asked.result().is_exact(wanted)
        assert (seen(house, "renew"), seen(house, "prefill"), seen(house, "local")) == (1, 2, 0)

    play(story)


def test_decode_telling_that_its_sender_leaves_does_not_leave_itself() -> None:
    """It repeats the reason that the sender gave; new work still comes to it."""

    async def story(house: House) -> None:
        await enter(house, decodes=1)
        first, second = request("first", prompt=LONG), request("second", prompt=LONG)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(house.ask(first))
            await asyncio.sleep(0.01)
            (reader,) = [each for each in house.stage.workers.values() if each.seen["prefill"]]
            tell_of_the_sender(house, "d0", reader.works[0].request, Reason.DRAINING, "given up by its sender")
        assert asked.result().is_exact(first)
        assert (await house.ask(second)).is_exact(second)
        assert seen(house, "reserve") == 2

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
