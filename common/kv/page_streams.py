"""Moves of pages beside the steps that write and read them: streams of a device, and who waits for whom.

    steps   step k ....●k  step k+1 ............●k+1  waits ●moved, step k+2 reads what landed
    moves            waits ●k, gather ●out    bring ●brought, waits ●k, scatter ●moved
    host                   waits ●out               waits ●brought

A gather comes behind the last step that was collected, not behind the one in flight: that one writes other slots. So
does a scatter: no page is promised that a step in flight may still touch (common/engine/flight). The next launch comes
behind every scatter so far, on the device; the host waits for nothing but its own buffers.

Where staging lies on the device as well, nobody waits for a gather but the next step, which may write the pages that
were given back meanwhile, and whoever reads what was gathered:

    steps   step k: layers ◐k  more layers ●k   waits ●moved, step k+1
    moves            waits ◐k, gather ●lifted    waits ●k, gather ●moved
    reads                                digest of what was lifted first, though the step still goes on
    host                    waits ●lifted        waits for the digest

On a host there is one order, that of the calls: HostStream has nothing to do. Free of torch.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from common.kv.span import DeviceSpan

Work = Callable[[], object]


class Mark(Protocol):
    """A place in a stream: it is reached when all that was launched there before it is done."""

    def finish(self) -> None:
        """The host waits until it is reached. Raises RuntimeError where the device failed."""
        ...


class Stream(Protocol):
    """Work of one device in the order of its launches. Any thread may call."""

    def run(self, work: Work) -> None:
        """Launch `work` here; it may be done later."""
        ...

    def mark(self) -> Mark: ...

    def follow(self, mark: Mark) -> None:
        """What is launched here from now on waits, on the device, until `mark` of another stream is reached."""
        ...


class HostMark:
    """Reached when it is made."""

    def finish(self) -> None:
        return


class HostStream:
    """Work is done when it is launched."""

    def run(self, work: Work) -> None:
        work()

    def mark(self) -> HostMark:
        return HostMark()

    def follow(self, mark: Mark) -> None:
        return


@dataclass(frozen=True, slots=True)
class _Lift:
    """What was lifted to one place last: its mark, and the end of the longest lift there."""

    mark: Mark
    end: int


class PageStreams:
    """Writers: the thread that launches steps (`begin_step`, `reach`, `end_step`, `settle`), else any."""

    def __init__(self, *, steps: Stream, moves: Stream, reads: Stream) -> None:
        self._steps = steps
        self._moves = moves
        self._reads = reads
        self._settled: Mark | None = None
        self._reached: Mark | None = None
        self._moved: Mark | None = None
        self._lifted: dict[int, _Lift] = {}
        """By address: as many as there are buffers to lift into."""
        # An order to wait and the work that it is for go into the stream together.
        self._lock = threading.Lock()

    def begin_step(self) -> None:
        """Before a step is launched: it may read whatever was put until now, and write over whatever was lifted."""
        moved = self._moved
        if moved is not None:
            self._steps.follow(moved)

    def end_step(self) -> Mark:
        """Behind all that the step launched."""
        return self._steps.mark()

    def settle(self, mark: Mark) -> None:
        """What was written before `mark` may be taken, and pages that nobody touches behind it may be put."""
        self._settled = mark

    def reach(self) -> None:
        """Amid the launch of a step: what it has launched until now may be taken as well, behind that."""
        self._reached = self._steps.mark()

    def take(self, gather: Work) -> None:
        """Run `gather`, which copies settled pages to the host, and wait until it is done."""
        with self._lock:
            self._follow_settled()
            self._moves.run(gather)
            out = self._moves.mark()
        out.finish()

    def put(self, bring: Work, place: Work) -> None:
        """Run `bring`, which copies the host's buffer to the device, and `place`, which copies from there into pages.

        Returns when the buffer is no longer read; steps that begin from now on find the pages filled.
        """
        with self._lock:
            self._moves.run(bring)
            brought = self._moves.mark()
            self._follow_settled()
            self._moves.run(place)
            self._moved = self._moves.mark()
        brought.finish()

    def lift(self, gather: Work, out: DeviceSpan, *, after: Mark | None = None) -> Mark:
        """Launch `gather`, which copies settled pages to `out`, perhaps with something that was `provide`d. Waits for
        nothing; what is returned is reached when it is done."""
        with self._lock:
            self._follow_settled()
            if after is not None:
                self._moves.follow(after)
            self._moves.run(gather)
            self._moved = mark = self._moves.mark()
            known = self._lifted.get(out.address)
            end = out.address + len(out)
            # What a longer lift left behind this one came before it: one mark tells of both.
            self._lifted[out.address] = _Lift(mark, end if known is None else max(end, known.end))
        return mark

    def read(self, work: Work, data: DeviceSpan) -> None:
        """Run `work`, which reads `data`, behind what was lifted into it, and wait until it is done. What is lifted
        elsewhere meanwhile, perhaps behind a step, is not waited for."""
        start, end = data.address, data.address + len(data)
        with self._lock:
            marks = [lift.mark for begin, lift in self._lifted.items() if begin < end and start < lift.end]
        for mark in marks:
            mark.finish()
        with self._lock:
            self._reads.run(work)
            done = self._reads.mark()
        done.finish()

    def finish_lift(self, out: DeviceSpan) -> None:
        """Until nothing that was lifted to the beginning of `out` is under way, and forget it: its memory may go."""
        with self._lock:
            lift = self._lifted.get(out.address)
        if lift is not None:
            lift.mark.finish()
        with self._lock:
            if self._lifted.get(out.address) is lift:
                self._lifted.pop(out.address, None)

    def provide(self, work: Work) -> Mark:
        """Launch `work`, which makes what later reads, lifts and lowers want beside their data. Waits for no step, nor
        for it; what is returned is reached when it is done."""
        with self._lock:
            self._reads.run(work)
            return self._reads.mark()

    def lower(self, place: Work, *, after: Mark | None = None) -> None:
        """Run `place`, which copies from other memory of the device into pages: as `put`, for what is there already."""
        with self._lock:
            self._follow_settled()
            if after is not None:
                self._moves.follow(after)
            self._moves.run(place)
            placed = self._moves.mark()
        placed.finish()

    def _follow_settled(self) -> None:
        for mark in (self._settled, self._reached):
            if mark is not None:
                self._moves.follow(mark)


def host_streams() -> PageStreams:
    """For pages in the host's memory."""
    return PageStreams(steps=HostStream(), moves=HostStream(), reads=HostStream())
