"""Core values survive the wire; wire values that are no core values are refused by field."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.core.cost.model import COEFFICIENTS, CostModel
from common.core.errors import InvalidRequest, Reason
from common.core.events import (
    EventMessage,
    HandedChoice,
    HandedOver,
    PrefillDone,
    PromptScored,
    StationReached,
    TicketIssued,
    TokensEmitted,
    WorkEvent,
    WorkFailed,
)
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TenantId, TokenId, WorkerId, WorkerRef
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, FinishReason, Priority, TokenSampling, Work
from common.core.ticket import Ticket
from common.core.worker import LoadReport, PageCounts, Role
from common.rpc.convert.events import message_from_wire, message_to_wire
from common.rpc.convert.work import work_from_wire, work_to_wire
from common.rpc.convert.worker import load_from_wire, load_to_wire
from protos.baton.v1 import types_pb2, worker_pb2

names = st.text(min_size=1, max_size=20).map(RequestId)
small = st.integers(0, (1 << 32) - 1)
epochs = st.integers(1, (1 << 64) - 1).map(Epoch)
tokens = st.lists(small.map(TokenId), max_size=8).map(tuple)
floats32 = st.floats(0, 2, width=32)
costs = st.builds(
    CostModel,
    **{name: st.floats(0, 10) for name in (*COEFFICIENTS, "age_s", "error")},
    num_steps=small,
)
routers = st.builds(RouterRef, router=names.map(RouterId), epoch=epochs)
workers = st.builds(WorkerRef, worker=names.map(WorkerId), epoch=epochs, address=st.text(max_size=20))

biases = st.dictionaries(small, st.floats(-100, 100, width=32), max_size=3)


@st.composite
def told(draw: st.DrawFn) -> TokenLogprobs:
    """Log probabilities of one token."""
    top = draw(st.lists(st.tuples(small, st.floats(-99, 0, width=32)), max_size=20))
    return TokenLogprobs(
        logprob=draw(st.floats(-99, 0, width=32)),
        rank=draw(st.integers(1, 1 << 20)),
        top_ids=tuple(TokenId(token) for token, _value in top),
        top_logprobs=tuple(value for _token, value in top),
    )


@st.composite
def works(draw: st.DrawFn) -> Work:
    choices = draw(
        st.lists(st.builds(Choice, index=small, seed=epochs), min_size=1, max_size=4, unique_by=lambda c: c.index)
    )
    emitted = draw(tokens) if len(choices) == 1 else ()
    max_tokens = draw(st.integers(len(emitted) + 1, 1 << 31))
    sampling = TokenSampling(
        temperature=draw(floats32),
        top_p=draw(st.floats(0.0009765625, 1, width=32)),
        top_k=draw(small),
        max_tokens=max_tokens,
        min_tokens=draw(st.integers(0, max_tokens)),
        stop_token_ids=draw(tokens),
        ignore_eos=draw(st.booleans()),
        min_p=draw(st.floats(0, 1, width=32)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.25, 0.5])),
        frequency_penalty=draw(st.sampled_from([0.0, -2.0])),
        presence_penalty=draw(st.sampled_from([0.0, 1.5])),
        logit_bias=tuple((TokenId(token), bias) for token, bias in sorted(draw(biases).items())),
        allowed_ids=draw(tokens),
        bad_words=draw(st.lists(tokens.filter(bool), max_size=3).map(tuple)),
        logprobs=draw(st.none() | st.integers(0, 20)),
        prompt_logprobs=draw(st.none() | st.integers(0, 20)),
    )
    return Work(
        request=draw(names),
        attempt=draw(st.integers(1, 99)),
        prompt=(TokenId(1), *draw(tokens)),
        emitted=emitted,
        choices=tuple(choices),
        sampling=sampling,
        priority=draw(st.sampled_from(Priority)),
        deadline=12.0,
        cache_scope=draw(st.binary(min_size=32, max_size=32)),
        router=draw(routers),
        tenant=draw(names.map(TenantId)),
    )


@st.composite
def loads(draw: st.DrawFn) -> LoadReport:
    parts = draw(st.tuples(*[st.integers(0, 1 << 20)] * 4))
    pages = PageCounts(total=sum(parts), free=parts[0], promised=parts[1], referenced=parts[2], cached=parts[3])
    return LoadReport(
        pages=pages,
        waiting_requests=draw(small),
        step_seconds=draw(floats32),
        steps=draw(small),
        cost=draw(st.none() | costs),
        max_sequences=draw(small),
        context_tokens=draw(small),
        drain_left_s=draw(st.none() | floats32),
    )


tickets = st.builds(
    Ticket,
    holder=st.builds(WorkerRef, worker=names.map(WorkerId), epoch=epochs, address=names),
    request=names,
    num_pages=small,
    lease_s=st.integers(0, 1 << 20).map(lambda ms: ms / 1000),
    nonce=st.binary(max_size=16),
    signature=st.binary(max_size=32),
)


events: st.SearchStrategy[WorkEvent] = st.one_of(
    st.builds(
        TokensEmitted,
        request=names,
        attempt=st.integers(1, 9),
        choice=small,
        first_index=small,
        tokens=tokens,
        finish=st.sampled_from([None, *FinishReason]),
        stop_token=st.none() | small.map(TokenId),
    ),
    st.builds(
        TokensEmitted,
        request=names,
        attempt=st.integers(1, 9),
        choice=small,
        first_index=small,
        tokens=st.just((TokenId(5), TokenId(6))),
        logprobs=st.tuples(told(), told()),
    ),
    st.builds(
        PromptScored,
        request=names,
        attempt=st.integers(1, 9),
        first_position=st.integers(1, 1 << 20),
        logprobs=st.lists(told(), max_size=3).map(tuple),
    ),
    st.builds(
        PrefillDone,
        request=names,
        attempt=st.integers(1, 9),
        prompt_tokens=small,
        cached_tokens=small,
        computed_tokens=small,
    ),
    st.builds(
        TicketIssued,
        request=names,
        attempt=st.integers(1, 9),
        ticket=tickets,
    ),
    st.builds(
        HandedOver,
        request=names,
        attempt=st.integers(1, 9),
        choices=st.lists(
            st.builds(HandedChoice, choice=small, num_tokens=small, ticket=st.none() | tickets), max_size=3
        ).map(tuple),
    ),
    st.builds(
        WorkFailed,
        request=names,
        attempt=st.integers(1, 9),
        reason=st.sampled_from(Reason),
        message=st.text(max_size=20),
        role=st.sampled_from(Role),
        reservation_stands=st.booleans(),
    ),
    st.builds(
        StationReached,
        request=names,
        attempt=st.integers(1, 9),
        name=st.text(max_size=9),
        at=st.just(7.5),
        facts=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
    ),
)


@given(works())
def test_work_survives_the_wire_with_its_remaining_time_on_the_receivers_clock(work: Work) -> None:
    raw = work_to_wire(work, now=10.0).SerializeToString()
    arrived = work_from_wire(types_pb2.Work.FromString(raw), now=110.0)
    assert arrived.deadline == 112.0
    assert work_to_wire(arrived, now=110.0).SerializeToString(deterministic=True) == raw
    assert (arrived.prompt, arrived.choices, arrived.sampling) == (work.prompt, work.choices, work.sampling)


def test_a_deadline_that_is_over_travels_as_zero_not_as_a_wrapped_number() -> None:
    assert work_to_wire(_work(), now=99.0).remaining_ms == 0


@given(loads())
def test_load_survives_the_wire(load: LoadReport) -> None:
    assert load_from_wire(worker_pb2.LoadReport.FromString(load_to_wire(load).SerializeToString())) == load


@given(workers, st.integers(1, 1 << 40), st.lists(events, max_size=4).map(tuple), st.none() | loads())
def test_events_survive_the_wire(
    worker: WorkerRef, sequence: int, batch: tuple[WorkEvent, ...], load: LoadReport | None
) -> None:
    message = EventMessage(worker=worker, sequence=sequence, events=batch, load=load)
    raw = message_to_wire(message, now=10.0).SerializeToString()
    assert message_from_wire(worker_pb2.SubscribeResponse.FromString(raw), now=10.0) == message


def _work() -> Work:
    return Work(
        request=RequestId("r"),
        attempt=1,
        prompt=(TokenId(1),),
        choices=(Choice(index=0, seed=1),),
        sampling=TokenSampling(),
        deadline=12.0,
        cache_scope=bytes(32),
        router=RouterRef(router=RouterId("router"), epoch=Epoch(1)),
    )


@pytest.mark.parametrize(
    ("field", "damage"),
    [
        ("work.request_id", {"request_id": ""}),
        ("work.attempt", {"attempt": 0}),
        ("work.prompt_token_ids", {"prompt_token_ids": []}),
        ("work.choices", {"choices": []}),
        ("work.choices", {"choices": [types_pb2.Choice(index=1), types_pb2.Choice(index=1)]}),
        ("work.emitted_token_ids", {"emitted_token_ids": [1], "choices": [types_pb2.Choice(index=i) for i in (0, 1)]}),
        ("work.emitted_token_ids", {"emitted_token_ids": [1] * 16}),
        ("work.cache_scope", {"cache_scope": b"short"}),
        (
            "work.sampling.temperature",
            {"sampling": types_pb2.TokenSampling(temperature=math.nan, top_p=1, max_tokens=1)},
        ),
        (
            "work.sampling.temperature",
            {"sampling": types_pb2.TokenSampling(temperature=math.inf, top_p=1, max_tokens=1)},
        ),
        ("work.sampling.top_p", {"sampling": types_pb2.TokenSampling(max_tokens=1)}),
        ("work.sampling.max_tokens", {"sampling": types_pb2.TokenSampling(top_p=1)}),
        ("work.sampling.min_p", {"sampling": types_pb2.TokenSampling(top_p=1, max_tokens=1, min_p=math.nan)}),
        (
            "work.sampling.repetition_penalty",
            {"sampling": types_pb2.TokenSampling(top_p=1, max_tokens=1, repetition_penalty=0.0)},
        ),
        (
            "work.sampling.bias_values",
            {"sampling": types_pb2.TokenSampling(top_p=1, max_tokens=1, bias_token_ids=[1], bias_values=[math.inf])},
        ),
        ("work.sampling.logprobs", {"sampling": types_pb2.TokenSampling(top_p=1, max_tokens=1, logprobs=21)}),
        ("work.sampling.min_tokens", {"sampling": types_pb2.TokenSampling(top_p=1, max_tokens=1, min_tokens=2)}),
        ("priority", {"priority": 77}),
        ("router.router_id", {"router": types_pb2.RouterRef(epoch=1)}),
        ("router.epoch", {"router": types_pb2.RouterRef(router_id="r")}),
    ],
)
def test_damaged_work_is_refused_by_field(field: str, damage: dict[str, object]) -> None:
    message = work_to_wire(_work(), now=10.0)
    for name in damage:
        message.ClearField(name)  # type: ignore[arg-type]
    message.MergeFrom(types_pb2.Work(**damage))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        work_from_wire(message, now=0.0)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    "message",
    [
        worker_pb2.LoadReport(total_pages=3, free_pages=2),
        worker_pb2.LoadReport(step_seconds=math.nan),
        worker_pb2.LoadReport(tokens_per_second=-1.0),
        worker_pb2.LoadReport(cost=worker_pb2.CostModel(step_s=-1.0)),
        worker_pb2.LoadReport(cost=worker_pb2.CostModel(transfer_byte_s=math.inf)),
        worker_pb2.LoadReport(cost=worker_pb2.CostModel(extend_pair_s=1e300)),
        worker_pb2.LoadReport(drain_left_s=1e300),
    ],
    ids=["pages do not sum", "NaN", "negative", "negative cost", "infinite cost", "absurd cost", "absurd figure"],
)
def test_a_load_report_that_cannot_be_is_not_believed(message: worker_pb2.LoadReport) -> None:
    with pytest.raises(InvalidRequest):
        load_from_wire(message)


def test_an_event_of_an_unknown_kind_is_refused() -> None:
    wire = worker_pb2.SubscribeResponse(
        worker=types_pb2.WorkerRef(worker_id="w", epoch=1),
        sequence=1,
        events=[worker_pb2.WorkEvent(request_id="r", attempt=1)],
    )
    with pytest.raises(InvalidRequest, match="kind of event"):
        message_from_wire(wire, now=0.0)
