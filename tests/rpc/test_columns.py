"""Goal: rows mean what the events meant, in each request's order, however often numbers are given again.

Method: random streams of messages, through bytes, by a writer with few numbers.
"""

import random
from collections import defaultdict

import pytest

from common.core.errors import InvalidRequest, Reason
from common.core.events import EventMessage, PrefillDone, TokensEmitted, WorkEvent, WorkFailed
from common.core.ids import Epoch, RequestId, TokenId, WorkerId, WorkerRef
from common.core.request import FinishReason
from common.core.worker import Role
from common.rpc.convert.columns import MAX_LINES, ColumnsReader, ColumnsWriter
from protos.baton.v1 import types_pb2, worker_pb2

WORKER = WorkerRef(WorkerId("decode-0"), Epoch(7), "127.0.0.1:1")


def message(*events: WorkEvent, sequence: int = 1) -> EventMessage:
    return EventMessage(worker=WORKER, sequence=sequence, events=events, load=None)


def token(
    request: str, index: int, value: int = 5, *, choice: int = 0, finish: FinishReason | None = None
) -> WorkEvent:
    return TokensEmitted(
        request=RequestId(request),
        attempt=1,
        choice=choice,
        first_index=index,
        tokens=(TokenId(value),),
        finish=finish,
    )


def through(writer: ColumnsWriter, reader: ColumnsReader, sent: EventMessage) -> tuple[EventMessage, int]:
    """What arrives, and how much of it came as rows."""
    raw = writer.message(sent, now=1.0).SerializeToString()
    wire = worker_pb2.SubscribeResponse.FromString(raw)
    return reader.message(wire, now=1.0), len(wire.columns.numbers)


def test_plain_tokens_are_rows_and_their_names_are_told_once() -> None:
    writer, reader = ColumnsWriter(), ColumnsReader()
    first, second = (message(token("a", index), token("b", index), sequence=index + 1) for index in (0, 1))
    assert through(writer, reader, first) == (first, 2)
    raw = writer.message(second, now=1.0)
    assert not raw.columns.lines
    assert not raw.events
    assert reader.message(raw, now=1.0) == second


def test_what_follows_an_event_of_the_same_request_does_not_overtake_it() -> None:
    done = PrefillDone(request=RequestId("a"), attempt=1, prompt_tokens=3, cached_tokens=0, computed_tokens=3)
    sent = message(done, token("a", 0), token("b", 0), token("a", 1))
    got, num_rows = through(ColumnsWriter(), ColumnsReader(), sent)
    assert num_rows == 1
    assert [event for event in got.events if event.request == "a"] == [done, token("a", 0), token("a", 1)]


def random_events(chance: random.Random, nexts: dict[tuple[str, int], int]) -> list[WorkEvent]:
    events: list[WorkEvent] = []
    for _ in range(chance.randrange(30)):
        request, choice = f"r{chance.randrange(12)}", chance.randrange(2)
        index = nexts[request, choice]
        if chance.random() < 0.1:
            failed = RequestId(request)
            events.append(WorkFailed(request=failed, attempt=1, reason=Reason.INTERNAL, message="", role=Role.DECODE))
            continue
        nexts[request, choice] += 1
        finish = FinishReason.LENGTH if chance.random() < 0.1 else None
        events.append(token(request, index, chance.randrange(1 << 18), choice=choice, finish=finish))
    return events


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_lines", [1, 3, 8, MAX_LINES])
def test_every_request_hears_the_same_in_the_same_order(seed: int, max_lines: int) -> None:
    chance = random.Random(f"{seed}/{max_lines}")
    writer, reader = ColumnsWriter(max_lines), ColumnsReader()
    nexts: dict[tuple[str, int], int] = defaultdict(int)
    for sequence in range(1, 40):
        sent = message(*random_events(chance, nexts), sequence=sequence)
        got, _ = through(writer, reader, sent)
        assert len(got.events) == len(sent.events), f"seed {seed}"
        for request in {event.request for event in sent.events}:
            theirs = [event for event in sent.events if event.request == request]
            assert [event for event in got.events if event.request == request] == theirs, f"seed {seed}"


def columns(**fields: object) -> worker_pb2.SubscribeResponse:
    response = worker_pb2.SubscribeResponse(sequence=1, columns=worker_pb2.TokenColumns(**fields))  # type: ignore[arg-type]
    response.worker.CopyFrom(types_pb2.WorkerRef(worker_id="decode-0", epoch=7, address="x:1"))
    return response


LINE = worker_pb2.TokenLine(number=0, request_id="a", attempt=1)
BAD = {
    "a line that was not told": columns(numbers=[0], indexes=[0], token_ids=[5]),
    "columns of": columns(lines=[LINE], numbers=[0, 0], indexes=[0, 1], token_ids=[5]),
    "numbers are below": columns(lines=[worker_pb2.TokenLine(number=MAX_LINES, request_id="a", attempt=1)]),
    "request_id": columns(lines=[worker_pb2.TokenLine(number=0, attempt=1)]),
    "attempts count from 1": columns(lines=[worker_pb2.TokenLine(number=0, request_id="a")]),
}


@pytest.mark.parametrize(("why", "wire"), BAD.items(), ids=BAD.keys())
def test_columns_that_mean_nothing_are_refused(why: str, wire: worker_pb2.SubscribeResponse) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ColumnsReader().message(wire, now=1.0)
    assert why in f"{caught.value.message} {caught.value.violations}"
