"""What both cores tell: routers about requests, the node about steps and prefixes."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from common.core.clock import Clock
from common.core.cost.work import StepWork
from common.core.errors import Reason
from common.core.events import PrefillDone, PromptScored, StationReached, TokensEmitted, WorkEvent, WorkFailed
from common.core.ids import RouterRef
from common.core.logprobs import TokenLogprobs
from common.core.request import Work
from common.core.worker import Role
from common.engine.outcome import Drawn
from common.kv.ownership import OwnershipChanges
from common.observe.lifetime import Station

RoleEvent = TypeVar("RoleEvent")

SCORES_OF_EVENT = 256
"""Chosen: at most 40 KB on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event for one router's subscription."""

    router: RouterRef
    event: WorkEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """One forward was done: for histograms, and for the worker's model of what steps cost."""

    num_rows: int
    num_tokens: int
    work: StepWork
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Prefixes gained and lost since the last step: for the directory."""

    changes: OwnershipChanges


class Teller(Generic[RoleEvent]):
    """Collects a core's events in order, until the step loop takes them. Writer: the core and its parts."""

    def __init__(self, role: Role, clock: Clock) -> None:
        self._role = role
        self._clock = clock
        self._events: list[Outgoing | Stepped | Owned | RoleEvent] = []

    def say(self, event: Stepped | Owned | RoleEvent) -> None:
        """For this process."""
        self._events.append(event)

    def tell(self, work: Work, event: WorkEvent) -> None:
        """For the router that placed the work."""
        self._events.append(Outgoing(router=work.router, event=event))

    def fail(self, work: Work, reason: Reason, message: str, *, reservation_stands: bool = False) -> None:
        """This worker gives the attempt up."""
        failed = WorkFailed(
            request=work.request,
            attempt=work.attempt,
            role=self._role,
            reason=reason,
            message=message,
            reservation_stands=reservation_stands,
        )
        self.tell(work, failed)

    def station(self, work: Work, name: Station, **facts: float) -> None:
        """A named moment, now."""
        at = self._clock.monotonic()
        self.tell(work, StationReached(request=work.request, attempt=work.attempt, name=name, at=at, facts=facts))

    def take(self, changes: OwnershipChanges) -> tuple[Outgoing | Stepped | Owned | RoleEvent, ...]:
        """Everything since the last call, and behind it the prefixes that came and went meanwhile, if any did."""
        if not changes.is_empty:
            self.say(Owned(changes=changes))
        events, self._events = tuple(self._events), []
        return events


def tokens_emitted(draw: Drawn) -> TokensEmitted:
    """The event of one drawn token."""
    return TokensEmitted(
        request=draw.work.request,
        attempt=draw.work.attempt,
        choice=draw.choice.index,
        first_index=draw.index,
        tokens=(draw.token,),
        finish=draw.finish,
        stop_token=draw.token if draw.is_stop_token else None,
        logprobs=() if draw.logprobs is None else (draw.logprobs,),
    )


def prompt_scored(
    work: Work, logprobs: tuple[TokenLogprobs, ...], *, first_position: int = 1
) -> tuple[PromptScored, ...]:
    """The events of a prompt's log probabilities, in pieces that a message can hold."""
    return tuple(
        PromptScored(
            request=work.request,
            attempt=work.attempt,
            first_position=first_position + start,
            logprobs=logprobs[start : start + SCORES_OF_EVENT],
        )
        for start in range(0, len(logprobs), SCORES_OF_EVENT)
    )


def prefill_done(work: Work, num_cached: int) -> PrefillDone:
    """The event of a prompt that was read whole, `num_cached` tokens of its context found rather than computed."""
    return PrefillDone(
        request=work.request,
        attempt=work.attempt,
        prompt_tokens=len(work.prompt),
        cached_tokens=min(num_cached, len(work.prompt)),
        computed_tokens=len(work.context) - num_cached,
    )
