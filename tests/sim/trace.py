"""What happened in a simulation, in order: the last lines explain a failure, all of them show that a seed repeats."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import structlog
from structlog.typing import EventDict

from tests.sim.timeloop import TimeLoop

TAIL = 60


class Trace:
    """Writer: the world, its clients, its nemesis, and the log lines of every process."""

    def __init__(self, loop: TimeLoop) -> None:
        self.lines: list[str] = []
        self.bugs: list[str] = []
        self.census: Counter[str] = Counter()
        """What was met, by name: filled at the end, to tell a storm from a breeze."""
        self._loop = loop

    def say(self, what: str) -> None:
        self.lines.append(f"{self._loop.time():10.6f} {what}")

    def bug(self, what: str) -> None:
        """Something that may not happen whatever the world does: the simulation fails for it in the end."""
        self.say(f"BUG {what}")
        self.bugs.append(what)

    def crash(self, who: str, error: BaseException) -> None:
        """A bug that came as an exception."""
        self.bug(f"{who}: {error!r}\n{''.join(traceback.format_exception(error))}")

    def digest(self) -> str:
        return blake2b("\n".join(self.lines).encode(), digest_size=8).hexdigest()

    def tail(self) -> str:
        return "\n".join(self.lines[-TAIL:])


@contextmanager
def logs_into(trace: Trace) -> Iterator[None]:
    """Log lines of production code go into the trace; a line at level error is a bug."""

    def take(_logger: object, method: str, event: EventDict) -> EventDict:
        name = event.pop("event")
        error = event.pop("exc_info", None)
        line = " ".join((str(name), *(f"{key}={value}" for key, value in event.items())))
        trace.say(f"{method}: {line}")
        if isinstance(error, BaseException):
            trace.crash(line, error)
        elif method == "error":
            trace.bug(line)
        raise structlog.DropEvent

    before: dict[str, Any] = structlog.get_config()
    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
