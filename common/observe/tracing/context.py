"""Where a call stands in a trace: the W3C `traceparent`, carried by the task that serves the call."""

import re
from contextvars import ContextVar
from dataclasses import dataclass

from common.core.entropy import Entropy

TRACEPARENT = "traceparent"
"""Header of HTTP and key of gRPC metadata: `00-<trace>-<span>-<flags>`, W3C Trace Context level 1."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01
_SCALE = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A span as others refer to it. `trace` has 128 bits, `span` 64; neither is 0."""

    trace: int
    span: int
    is_sampled: bool

    @property
    def header(self) -> str:
        return f"00-{self.trace:032x}-{self.span:016x}-{_SAMPLED if self.is_sampled else 0:02x}"

    def child(self, entropy: Entropy) -> "TraceContext":
        """A new span of the same trace."""
        return TraceContext(trace=self.trace, span=_id(entropy, 64), is_sampled=self.is_sampled)


_CURRENT: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def current_trace() -> TraceContext | None:
    """The span that this task works for, if anybody asked for one."""
    return _CURRENT.get()


def enter_trace(context: TraceContext | None) -> None:
    """From here on this task, and the tasks that it starts, work for `context`."""
    _CURRENT.set(context)


def parse_traceparent(text: str) -> TraceContext | None:
    """None for what is malformed or says nothing: a bad header begins a new trace and fails nobody."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    version, trace, span, flags, rest = form.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace, 16) or not int(span, 16):
        return None
    return TraceContext(trace=int(trace, 16), span=int(span, 16), is_sampled=bool(int(flags, 16) & _SAMPLED))


def new_trace(entropy: Entropy, *, sample_ratio: float) -> TraceContext:
    """The first span of a trace nobody asked for; sampled with this probability."""
    is_sampled = entropy.bits(_SCALE) < sample_ratio * (1 << _SCALE)
    return TraceContext(trace=_id(entropy, 128), span=_id(entropy, 64), is_sampled=is_sampled)


def _id(entropy: Entropy, bits: int) -> int:
    while not (number := entropy.bits(bits)):
        continue
    return number
