"""Work: what a router tells a worker to compute."""

import math

from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TenantId, TokenId
from common.core.request import Choice, Work
from common.rpc.convert.constraint import constraint_from_wire, constraint_to_wire
from common.rpc.convert.fields import PRIORITIES, priority_from_wire, require
from common.rpc.convert.sampling import sampling_from_wire, sampling_to_wire
from protos.baton.v1 import types_pb2

MAX_REMAINING_MS = (1 << 32) - 1
SCOPE_BYTES = 32


def work_to_wire(work: Work, *, now: float) -> types_pb2.Work:
    """`now` on the clock of `work.deadline`: what travels is the remaining time, rounded down."""
    remaining_ms = math.floor((work.deadline - now) * 1000)
    return types_pb2.Work(
        request_id=work.request,
        attempt=work.attempt,
        prompt_token_ids=work.prompt,
        emitted_token_ids=work.emitted,
        choices=[types_pb2.Choice(index=choice.index, seed=choice.seed) for choice in work.choices],
        sampling=sampling_to_wire(work.sampling),
        priority=PRIORITIES[work.priority],
        remaining_ms=min(max(remaining_ms, 0), MAX_REMAINING_MS),
        cache_scope=work.cache_scope,
        router=router_to_wire(work.router),
        tenant=work.tenant,
        constraint=constraint_to_wire(work.constraint) if work.constraint is not None else None,
    )


def work_from_wire(message: types_pb2.Work, *, now: float) -> Work:
    """`now` on the receiver's clock. Raises InvalidRequest."""
    require(message.request_id != "", "work.request_id", "missing")
    require(message.attempt >= 1, "work.attempt", "attempts count from 1")
    require(len(message.prompt_token_ids) > 0, "work.prompt_token_ids", "empty")
    require(len(message.choices) > 0, "work.choices", "empty")
    indexes = [choice.index for choice in message.choices]
    require(len(set(indexes)) == len(indexes), "work.choices", "an index appears twice")
    require(
        not message.emitted_token_ids or len(indexes) == 1,
        "work.emitted_token_ids",
        "only one choice can continue: choices diverge",
    )
    require(len(message.cache_scope) == SCOPE_BYTES, "work.cache_scope", f"must be {SCOPE_BYTES} bytes")
    sampling = sampling_from_wire(message.sampling)
    require(
        len(message.emitted_token_ids) < sampling.max_tokens,
        "work.emitted_token_ids",
        f"{len(message.emitted_token_ids)} emitted tokens leave nothing of max_tokens {sampling.max_tokens}",
    )
    return Work(
        request=RequestId(message.request_id),
        attempt=message.attempt,
        prompt=tuple(map(TokenId, message.prompt_token_ids)),
        emitted=tuple(map(TokenId, message.emitted_token_ids)),
        choices=tuple(Choice(index=choice.index, seed=choice.seed) for choice in message.choices),
        sampling=sampling,
        priority=priority_from_wire(message.priority),
        deadline=now + message.remaining_ms / 1000,
        cache_scope=message.cache_scope,
        router=router_from_wire(message.router),
        tenant=TenantId(message.tenant or "default"),
        constraint=constraint_from_wire(message.constraint),
    )


def router_to_wire(router: RouterRef) -> types_pb2.RouterRef:
    return types_pb2.RouterRef(router_id=router.router, epoch=router.epoch)


def router_from_wire(message: types_pb2.RouterRef) -> RouterRef:
    require(message.router_id != "", "router.router_id", "missing")
    require(message.epoch != 0, "router.epoch", "missing")
    return RouterRef(router=RouterId(message.router_id), epoch=Epoch(message.epoch))
