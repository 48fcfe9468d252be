"""What both roles tell routers, and how they make it from what a batch drew."""

from dataclasses import dataclass

from common.core.events import PrefillDone, TokensEmitted, WorkEvent
from common.core.ids import RouterRef
from common.core.request import FinishReason, Work
from common.engine.batch import Drawn
from common.kv.ownership import OwnershipChanges


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event for one router's subscription."""

    router: RouterRef
    event: WorkEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """One forward was done: for histograms."""

    num_rows: int
    num_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Prefixes gained and lost since the last step: for the directory."""

    changes: OwnershipChanges


def tokens_emitted(draw: Drawn) -> TokensEmitted:
    """The event of one drawn token."""
    is_stop_token = draw.finish is FinishReason.STOP
    return TokensEmitted(
        request=draw.work.request,
        attempt=draw.work.attempt,
        choice=draw.choice.index,
        first_index=draw.index,
        tokens=(draw.token,),
        finish=draw.finish,
        stop_token=draw.token if is_stop_token else None,
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
