"""What stands between the directory and its store: deadline, circuit breaker, numbers, one log line a minute."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.core.clock import Clock
from common.core.errors import Unavailable
from common.directory.breaker import Breaker, BreakerState
from common.directory.settings import DirectorySettings
from common.directory.store import Store, StoreTrouble, trouble
from common.observe import catalogue
from common.observe.logging import Log
from common.observe.registry import Metrics
from common.observe.throttle import ThrottledLog

T = TypeVar("T")


class Guard:
    """Lets one attempt at a time through to the store. Writer of the circuit and of the directory's metrics.

    `run` answers None when there is no answer from Redis: the circuit is open, or the attempt failed or took too long.
    The connection is dropped after every failure and every cancellation.
    """

    def __init__(self, store: Store, settings: DirectorySettings, *, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._throttled = ThrottledLog(log, clock)
        self._timeout_s = settings.timeout_s
        self._stale_after_s = max(settings.heartbeat_s, 2 * settings.timeout_s)
        self._breaker = Breaker(clock, probe_s=settings.probe_s)
        self._turn = asyncio.Lock()
        self._answered_at: float | None = None
        self._started_at = clock.monotonic()

    @property
    def staleness_s(self) -> float:
        """Age of the newest answer; since start when there was none yet."""
        since = self._started_at if self._answered_at is None else self._answered_at
        return self._clock.monotonic() - since

    @property
    def is_stale(self) -> bool:
        """True while Redis does not answer: from a failed attempt on at the latest when the circuit opens."""
        return self._breaker.state is not BreakerState.CLOSED or self.staleness_s > self._stale_after_s

    async def run(self, attempt: Callable[[Store], Awaitable[T]]) -> T | None:
        """`attempt` on the store, within the deadline. An attempt is at most a few round trips."""
        async with self._turn:
            if not self._breaker.allows():
                self.show()
                return None
            try:
                started = self._clock.monotonic()
                async with asyncio.timeout(self._timeout_s):
                    answer = await attempt(self._store)
            except TimeoutError:
                await self._failed(trouble(StoreTrouble.TIMEOUT, f"no answer within {self._timeout_s} s"))
                return None
            except Unavailable as error:
                await self._failed(error)
                return None
            except BaseException:
                self._breaker.abandoned()
                await self._store.drop()
                raise
            self._answered(started)
            return answer

    def show(self) -> None:
        """Bring the gauges up to date: after every attempt, and before a scrape, from whatever thread."""
        self._metrics.set(catalogue.DIRECTORY_STALE, float(self.is_stale))
        self._metrics.set(catalogue.DIRECTORY_STALENESS_SECONDS, max(0.0, self.staleness_s))
        self._metrics.set(catalogue.DIRECTORY_BREAKER, float(self._breaker.state))

    def _answered(self, started: float) -> None:
        now = self._clock.monotonic()
        if self._breaker.succeeded():
            self._log.info("directory_returned", away_s=round(self.staleness_s, 3))
        self._answered_at = now
        self._metrics.observe(catalogue.DIRECTORY_SECONDS, max(0.0, now - started))
        self.show()

    async def _failed(self, error: Unavailable) -> None:
        await self._store.drop()
        self._breaker.failed()
        kind = error.facts.get("kind", StoreTrouble.OTHER.value)
        self._metrics.add(catalogue.DIRECTORY_ERRORS, kind=kind)
        written = self._throttled.warning("directory_away", kind=kind, reason=error.message)
        if not written:
            self._metrics.add(catalogue.LOG_EVENTS_DROPPED)
        self.show()
