"""What kind of request it is: its class, its size, and what that class is promised. Pure.

    declared     | uncached prompt, as seconds of reading | class
    interactive  | within the class's time to first token | interactive
    interactive  | longer                                 | standard: it cannot be served as promised, and would
                 |                                        | make those wait who can
    standard, or | any                                    | standard
    nothing      |                                        |
    batch        | any                                    | batch

A deadline never raises a class, or everybody would set a short one; it decides whether a request is taken at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from common.config.sections.admission import AdmissionSection
from common.core.request import Priority
from common.core.worker import Role
from services.router.classify import Facts
from services.router.view import FleetView


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a class is promised: seconds to the first token, and between two tokens."""

    ttft_s: float
    itl_s: float


class Size(StrEnum):
    """How much of a prompt must be computed."""

    CACHED = "cached"
    """Less than a tenth of it: the next turn of a conversation."""
    SHORT = "short"
    """So little that the decode worker may as well read it."""
    LONG = "long"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClass:
    """A request as the line sees it. `priority` may be below what was declared."""

    priority: Priority
    size: Size
    targets: Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is left to compute of a prompt where most of it is cached, and the seconds that this takes on a worker with
    nothing else to do; 0 where nobody has measured it."""

    uncached_tokens: int
    seconds: float = 0.0

    @classmethod
    def of(cls, facts: Facts, view: FleetView) -> "Reading":
        readers = view.eligible(Role.PREFILL) or view.eligible(Role.DECODE)
        left = [facts.uncached_tokens(reader.worker.worker) for reader in view.workers]
        seconds = [
            reader.load.cost.prefill_seconds(
                facts.uncached_tokens(reader.worker.worker), facts.cached_tokens(reader.worker.worker)
            )
            for reader in readers
            if reader.load.cost is not None
        ]
        return cls(uncached_tokens=min(left, default=facts.context_tokens), seconds=min(seconds, default=0.0))


CACHED_SHARE = 0.1
"""Chosen: to read a tenth is short beside writing the answer. A label of metrics: nothing is decided by it."""


def targets_of(section: AdmissionSection) -> Mapping[Priority, Targets]:
    return {
        Priority.INTERACTIVE: Targets(ttft_s=section.ttft_interactive_s, itl_s=section.itl_interactive_s),
        Priority.STANDARD: Targets(ttft_s=section.ttft_standard_s, itl_s=section.itl_standard_s),
        Priority.BATCH: Targets(ttft_s=section.ttft_batch_s, itl_s=section.itl_batch_s),
    }


def request_class(
    declared: Priority,
    *,
    prompt_tokens: int,
    reading: Reading,
    short_tokens: int,
    targets: Mapping[Priority, Targets],
) -> RequestClass:
    """`short_tokens`: as many as a decode worker may read itself."""
    priority = declared
    if declared is Priority.INTERACTIVE and reading.seconds > targets[Priority.INTERACTIVE].ttft_s:
        priority = Priority.STANDARD
    size = _size(prompt_tokens, reading.uncached_tokens, short_tokens)
    return RequestClass(priority=priority, size=size, targets=targets[priority])


def _size(prompt_tokens: int, uncached_tokens: int, short_tokens: int) -> Size:
    if uncached_tokens <= CACHED_SHARE * prompt_tokens:
        return Size.CACHED
    return Size.SHORT if uncached_tokens <= short_tokens else Size.LONG
