"""Whatever a holder answers, a prompt is placed: with a ticket, or without."""

from typing import cast

import pytest

from common.core.clock import ManualClock
from common.core.errors import BatonError, DeadlineExceeded, Refused, Unavailable
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TokenId, WorkerId, WorkerRef
from common.core.request import Choice, TokenSampling, Work
from common.core.ticket import PrefixTicket, Ticket
from common.rpc.client import Dialer
from protos.baton.v1 import worker_pb2
from services.router.borrowing import MAX_PATIENCE_S, Borrowing
from services.router.classify import Facts
from services.router.policy import Candidate, Route
from services.router.record import Record
from services.router.workers import Workers
from tests.router.build import worker_ref

HOLDER, READER = worker_ref("d0"), worker_ref("d1")
FACTS = Facts(context_tokens=100, num_choices=1, page_size=4, hits={WorkerId("d0"): 80, WorkerId("d1"): 20})


def work(prompt_logprobs: int | None = None) -> Work:
    return Work(
        request=RequestId("r"),
        attempt=1,
        prompt=tuple(map(TokenId, range(100))),
        choices=(Choice(index=0, seed=1),),
        sampling=TokenSampling(temperature=0.0, max_tokens=4, prompt_logprobs=prompt_logprobs),
        deadline=1000.0,
        cache_scope=bytes(32),
        router=RouterRef(RouterId("router-0"), Epoch(1)),
    )


class Asked:
    """A holder that answers after a while, and the record of what came of it."""

    def __init__(self, answer: Ticket | BatonError | None, after_s: float = 0.0) -> None:
        self.answer = answer
        self.after_s = after_s
        self.clock = ManualClock()
        self.outcomes: list[str] = []
        self.patience_s: list[float] = []

    async def keep_prefix(self, holder: WorkerRef, asked: Work, patience_s: float) -> Ticket | None:
        assert holder == HOLDER
        self.patience_s.append(patience_s)
        self.clock.advance(self.after_s)
        if isinstance(self.answer, BatonError):
            raise self.answer
        return self.answer

    def note_borrowed(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    async def prefix(
        self, *, source: WorkerRef | None = HOLDER, fetch_s: float = 0.1, wanted: Work | None = None
    ) -> PrefixTicket | None:
        chosen = Candidate(route=Route(decode=READER, source=source), terms={"fetch": fetch_s})
        borrowing = Borrowing(cast(Workers, self), self.clock)
        return await borrowing.prefix(wanted or work(), chosen, FACTS, cast(Record, self))


def ticket(num_pages: int) -> Ticket:
    return Ticket(holder=HOLDER, request=RequestId("r^1"), num_pages=num_pages, lease_s=1.0, nonce=bytes(16))


async def test_what_is_left_of_the_patience_is_the_readers() -> None:
    asked = Asked(ticket(20), after_s=0.15)
    found = await asked.prefix(fetch_s=0.1)
    assert found is not None
    assert found.patience_s == pytest.approx(0.4 - 0.15)
    assert asked.outcomes == ["granted"]


@pytest.mark.parametrize(
    "error", [Refused(message="full"), Unavailable(message="gone"), DeadlineExceeded(message="late")]
)
async def test_a_holder_that_fails_costs_no_more_than_its_answer(error: BatonError) -> None:
    asked = Asked(error)
    assert await asked.prefix() is None
    assert asked.outcomes == ["refused"]


@pytest.mark.parametrize("answer", [None, ticket(5), ticket(1)])
async def test_no_more_than_the_reader_has_is_not_fetched(answer: Ticket | None) -> None:
    asked = Asked(answer)
    assert await asked.prefix() is None
    assert asked.outcomes == ["less"]


async def test_a_late_ticket_is_not_used() -> None:
    asked = Asked(ticket(20), after_s=0.5)
    assert await asked.prefix(fetch_s=0.1) is None


async def test_nobody_is_asked_without_need() -> None:
    asked = Asked(ticket(20))
    assert await asked.prefix(source=None) is None
    assert await asked.prefix(wanted=work(prompt_logprobs=1)) is None  # such a prompt is read whole
    assert not asked.patience_s


async def test_patience_is_bounded() -> None:
    asked = Asked(ticket(20))
    for fetch_s in (0.0, 100.0):
        await asked.prefix(fetch_s=fetch_s)
    assert asked.patience_s == [0.25, MAX_PATIENCE_S]


class Wire:
    """A channel, and the dialer of it: every call is heard, and answered with nothing."""

    def __init__(self) -> None:
        self.heard: list[worker_pb2.KeepPrefixRequest] = []

    async def channel(self, peer: WorkerRef) -> "Wire":
        return self

    def unary_unary(self, path: str, **_: object) -> object:
        return self._answer

    unary_stream = unary_unary

    async def _answer(self, asked: worker_pb2.KeepPrefixRequest, **_: object) -> worker_pb2.KeepPrefixResponse:
        self.heard.append(asked)
        return worker_pb2.KeepPrefixResponse()


async def test_a_prompt_whose_time_is_over_asks_for_no_time() -> None:
    """The journey is told of its deadline a moment later; until then it is a question like any other."""
    wire, clock = Wire(), ManualClock()
    clock.advance(1000.5)
    workers = Workers(dialer=cast(Dialer, wire), router=work().router, clock=clock)
    assert await workers.keep_prefix(HOLDER, work(), patience_s=0.25) is None
    assert [asked.lease_ms for asked in wire.heard] == [0]
