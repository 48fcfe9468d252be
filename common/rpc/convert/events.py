"""Work events: what a worker tells a router."""

from collections.abc import Sequence
from typing import assert_never, cast

from common.core.errors import Reason
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
from common.core.ids import RequestId, TokenId
from common.rpc.convert.fields import FINISHES, ROLES, finish_from_wire, refuse, require, role_from_wire
from common.rpc.convert.kv import ticket_from_wire, ticket_to_wire
from common.rpc.convert.logprobs import logprobs_from_wire, logprobs_to_wire
from common.rpc.convert.worker import load_from_wire, load_to_wire, worker_from_wire, worker_to_wire
from protos.baton.v1 import worker_pb2


def message_to_wire(
    message: EventMessage, *, now: float, events: Sequence[WorkEvent] | None = None
) -> worker_pb2.SubscribeResponse:
    """`now` on the clock of the stations: what travels is their age. `events`: those that travel as such, by default
    all."""
    response = worker_pb2.SubscribeResponse(
        worker=worker_to_wire(message.worker),
        sequence=message.sequence,
        load=None if message.load is None else load_to_wire(message.load),
    )
    for event in message.events if events is None else events:
        _tell_event(response.events.add(), event, now)
    return response


def message_from_wire(
    message: worker_pb2.SubscribeResponse, *, now: float, rows: tuple[TokensEmitted, ...] = ()
) -> EventMessage:
    """`now` on the receiver's clock; `rows`: the message's columns, which come before its events. Raises
    InvalidRequest."""
    require(message.sequence >= 1, "sequence", "messages count from 1")
    return EventMessage(
        worker=worker_from_wire(message.worker),
        sequence=message.sequence,
        events=rows + tuple([event_from_wire(event, now=now) for event in message.events]),
        load=load_from_wire(message.load) if message.HasField("load") else None,
    )


def event_to_wire(event: WorkEvent, *, now: float) -> worker_pb2.WorkEvent:
    wire = worker_pb2.WorkEvent()
    _tell_event(wire, event, now)
    return wire


def _tell_event(wire: worker_pb2.WorkEvent, event: WorkEvent, now: float) -> None:
    """Once per token of every stream: built in place, field by field."""
    wire.request_id = event.request
    wire.attempt = event.attempt
    match event:
        case TokensEmitted():
            _tell_tokens(wire.tokens, event)
        case PromptScored():
            wire.prompt_scored.CopyFrom(
                worker_pb2.PromptScoredEvent(
                    first_position=event.first_position, logprobs=map(logprobs_to_wire, event.logprobs)
                )
            )
        case PrefillDone():
            wire.prefill_done.CopyFrom(
                worker_pb2.PrefillDoneEvent(
                    prompt_tokens=event.prompt_tokens,
                    cached_tokens=event.cached_tokens,
                    computed_tokens=event.computed_tokens,
                )
            )
        case TicketIssued():
            wire.ticket.ticket.CopyFrom(ticket_to_wire(event.ticket))
        case HandedOver():
            wire.handed_over.choices.extend(map(_handed_to_wire, event.choices))
            wire.handed_over.SetInParent()
        case WorkFailed():
            wire.failed.CopyFrom(
                worker_pb2.FailedEvent(
                    reason=event.reason.value,
                    message=event.message,
                    role=ROLES[event.role],
                    reservation_stands=event.reservation_stands,
                )
            )
        case StationReached():
            age_s = max(now - event.at, 0.0)
            wire.station.CopyFrom(worker_pb2.StationEvent(name=event.name, age_s=age_s, facts=dict(event.facts)))
        case _:
            assert_never(event)


def event_from_wire(message: worker_pb2.WorkEvent, *, now: float) -> WorkEvent:
    """Raises InvalidRequest, also for kinds of events that a newer peer may know: silence would lose tokens."""
    request, attempt = RequestId(message.request_id), message.attempt
    require(request != "", "event.request_id", "missing")
    require(attempt >= 1, "event.attempt", "attempts count from 1")
    match message.WhichOneof("event"):
        case "tokens":
            return _tokens_from_wire(message, request, attempt)
        case "prompt_scored":
            scored = message.prompt_scored
            require(scored.first_position >= 1, "event.first_position", "nothing comes before position 0")
            return PromptScored(
                request=request,
                attempt=attempt,
                first_position=scored.first_position,
                logprobs=tuple(map(logprobs_from_wire, scored.logprobs)),
            )
        case "prefill_done":
            done = message.prefill_done
            return PrefillDone(
                request=request,
                attempt=attempt,
                prompt_tokens=done.prompt_tokens,
                cached_tokens=done.cached_tokens,
                computed_tokens=done.computed_tokens,
            )
        case "ticket":
            ticket = ticket_from_wire(message.ticket.ticket)
            return TicketIssued(request=request, attempt=attempt, ticket=ticket)
        case "handed_over":
            choices = tuple(map(_handed_from_wire, message.handed_over.choices))
            return HandedOver(request=request, attempt=attempt, choices=choices)
        case "failed":
            failed = message.failed
            return WorkFailed(
                request=request,
                attempt=attempt,
                reason=Reason(failed.reason) if failed.reason in Reason.__members__ else Reason.INTERNAL,
                message=failed.message,
                role=role_from_wire(failed.role),
                reservation_stands=failed.reservation_stands,
            )
        case "station":
            station = message.station
            at = now - max(station.age_s, 0.0)
            return StationReached(request=request, attempt=attempt, name=station.name, at=at, facts=dict(station.facts))
        case _:
            raise refuse("event", "a kind of event that this release does not know")


def _handed_to_wire(handed: HandedChoice) -> worker_pb2.HandedOverChoice:
    ticket = None if handed.ticket is None else ticket_to_wire(handed.ticket)
    return worker_pb2.HandedOverChoice(choice=handed.choice, num_tokens=handed.num_tokens, ticket=ticket)


def _handed_from_wire(message: worker_pb2.HandedOverChoice) -> HandedChoice:
    ticket = ticket_from_wire(message.ticket) if message.HasField("ticket") else None
    return HandedChoice(choice=message.choice, num_tokens=message.num_tokens, ticket=ticket)


def _tell_tokens(wire: worker_pb2.TokensEvent, event: TokensEmitted) -> None:
    wire.choice = event.choice
    wire.first_index = event.first_index
    wire.token_ids.extend(event.tokens)
    if event.finish is not None:
        wire.finish_reason = FINISHES[event.finish]
    if event.stop_token is not None:
        wire.stop_token_id = event.stop_token
    if event.logprobs:
        wire.logprobs.extend(map(logprobs_to_wire, event.logprobs))


def _tokens_from_wire(message: worker_pb2.WorkEvent, request: RequestId, attempt: int) -> TokensEmitted:
    """Once per token of every stream: what is nearly always absent is not looked at twice."""
    wire = message.tokens
    tokens = cast(tuple[TokenId, ...], tuple(wire.token_ids))
    told, ending = wire.logprobs, wire.finish_reason
    if told:
        require(len(told) == len(tokens), "event.logprobs", f"{len(told)} log probabilities for {len(tokens)} tokens")
    return TokensEmitted(
        request=request,
        attempt=attempt,
        choice=wire.choice,
        first_index=wire.first_index,
        tokens=tokens,
        finish=finish_from_wire(ending) if ending else None,
        stop_token=TokenId(wire.stop_token_id) if wire.HasField("stop_token_id") else None,
        logprobs=tuple(map(logprobs_from_wire, told)) if told else (),
    )
