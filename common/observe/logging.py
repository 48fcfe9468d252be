"""Structured logs: an event name with key-values, JSON for services and readable text for people.

Prompts, tokens and secrets have no place in a log: values under their usual names are withheld here as a last resort.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from typing import Protocol, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor

from common.core.clock import Clock, SystemClock
from common.observe.sink import Sink
from common.observe.tracing.context import current_trace

WITHHELD = "<withheld>"
_WITHHELD_KEYS = frozenset(
    {
        "prompt", "text", "messages", "content", "stop", "token_ids", "tokens", "prompt_token_ids", "output",
        "secret", "password", "authorization", "ticket", "key", "redis_url",
    }
)  # fmt: skip
MAX_VALUE_CHARS = 500

_sink = Sink(None)


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class Log(Protocol):
    """What rooms see of a logger.

    error: work lost; warning: may heal itself; info: change of state; debug: per request.
    """

    def debug(self, event: str, **facts: object) -> object: ...

    def info(self, event: str, **facts: object) -> object: ...

    def warning(self, event: str, **facts: object) -> object: ...

    def error(self, event: str, **facts: object) -> object: ...

    def bind(self, **facts: object) -> "Log": ...


def get_log(room: str, **facts: object) -> Log:
    """A logger whose lines carry the room's name."""
    return cast(Log, structlog.get_logger(room=room, **facts))


def configure_logging(
    *,
    log_format: LogFormat,
    process: str,
    level: str = "INFO",
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> None:
    """Once per process, by the composition root. Lines of other libraries take the same road."""
    global _sink  # noqa: PLW0603  # as global as what both libraries are told here
    shared: list[Processor] = [
        _stamp(clock or SystemClock(), process),
        structlog.processors.add_log_level,
        _name_trace,
        _withhold,
        structlog.processors.ExceptionRenderer(
            ExceptionDictTransformer(show_locals=False, max_frames=20, use_rich=False)
        ),
    ]
    last: Processor = structlog.processors.JSONRenderer(default=str)
    if log_format is LogFormat.CONSOLE:
        last = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=24, timestamp_key="at")
    _sink = Sink(stream or sys.stderr)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _sink)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def num_lost_lines() -> int:
    """Of this process's log: what could not be written."""
    return _sink.num_lost


def _stamp(clock: Clock, process: str) -> Processor:
    def stamp(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {"at": round(clock.wall(), 4), "process": process, **event}

    return stamp


def _name_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Lines of a call that belongs to a trace can be found from there."""
    trace = current_trace()
    return event if trace is None else {**event, "trace": f"{trace.trace:032x}"}


def _foreign(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A line of another library: its prose becomes a fact, so that event names stay a small set."""
    record = event["_record"]
    return {**event, "event": "library_message", "room": record.name, "message": str(event["event"])}


def _withhold(_logger: object, _method: str, event: MutableMapping[str, object]) -> Mapping[str, object]:
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: object) -> object:
    if name in _WITHHELD_KEYS:
        return WITHHELD
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return f"{value[:MAX_VALUE_CHARS]}... ({len(value)} characters)"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return value
