"""Workers and routers around one store, for tests of the directory."""

from collections.abc import Callable

from common.core.clock import Clock
from common.core.ids import Epoch, PrefixHash, WorkerId, WorkerRef
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.directory.guard import Guard
from common.directory.mirror import DirectoryMirror
from common.directory.registration import Registration
from common.directory.settings import DirectorySettings
from common.directory.store import Store
from common.kv.ownership import OwnershipChanges
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics

SETTINGS = DirectorySettings(
    cluster="test", heartbeat_s=0.5, lease_s=3.0, timeout_s=0.25, poll_s=0.05, probe_s=0.75, snapshot_s=2.0
)


class ListLog:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def debug(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    info = warning = error = debug

    def bind(self, **facts: object) -> "ListLog":
        return self


def prefix(number: int) -> PrefixHash:
    """A hash that is different for each number."""
    return PrefixHash(number.to_bytes(16, "little") + bytes(16))


def published(*numbers: int) -> OwnershipChanges:
    return OwnershipChanges(published=(tuple(map(prefix, numbers)),))


def withdrawn(*numbers: int) -> OwnershipChanges:
    return OwnershipChanges(withdrawn=tuple(map(prefix, numbers)))


class Worker:
    """A registration with its guard, metrics and log."""

    def __init__(
        self, store: Store, clock: Clock, name: str = "decode-0", epoch: int = 1, settings: DirectorySettings = SETTINGS
    ) -> None:
        self.ref = WorkerRef(worker=WorkerId(name), epoch=Epoch(epoch), address="127.0.0.1:1")
        self.metrics = Metrics(ProcessRole.DECODE)
        self.log = ListLog()
        self.steps = 0
        self.guard = Guard(store, settings, clock=clock, metrics=self.metrics, log=self.log)
        self.registration = Registration(self.guard, settings, clock=clock, worker=self.ref, describe=self.describe)

    def describe(self) -> Member:
        return Member(
            worker=self.ref,
            role=Role.DECODE,
            state=WorkerState.READY,
            load=LoadReport(pages=PageCounts(total=8, free=8, promised=0, referenced=0, cached=0), steps=self.steps),
            layout_fingerprint=bytes(range(32)),
            metrics_address="127.0.0.1:2",
        )


class Router:
    """A mirror with its guard, metrics and log."""

    def __init__(self, store: Store, clock: Clock, settings: DirectorySettings = SETTINGS) -> None:
        self.metrics = Metrics(ProcessRole.ROUTER)
        self.log = ListLog()
        self.clock = clock
        self.guard = Guard(store, settings, clock=clock, metrics=self.metrics, log=self.log)
        self.mirror = DirectoryMirror(self.guard, settings, clock=clock, metrics=self.metrics)

    @property
    def is_stale(self) -> bool:
        return self.mirror.is_stale

    def runs(self, *numbers: int) -> dict[WorkerId, int]:
        """Leading pages of the prompt `numbers` that each worker holds."""
        return self.mirror.held_runs([prefix(number) for number in numbers])

    async def wait_until(self, holds: Callable[[], bool], within_s: float) -> float:
        """Until the mirror shows what is wanted; how long it took. Fails when the time is up."""
        start = self.clock.monotonic()
        while not holds():
            seen = self.mirror.version
            if holds():
                break
            is_news = await self.mirror.wait_change(seen, start + within_s)
            assert is_news or holds(), f"not seen within {within_s} s: {self.mirror.members()}"
        return self.clock.monotonic() - start
