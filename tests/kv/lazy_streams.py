"""A device that is as late as it may be: work is done only when the host waits for a mark behind it, or when a stream
that somebody waits for follows such a mark. What no wait brings about has not happened yet.
"""

from collections import deque
from dataclasses import dataclass, field

from common.kv.page_streams import Mark, PageStreams, Work


@dataclass(eq=False, slots=True)
class LazyMark:
    stream: "LazyStream"
    is_reached: bool = False

    def finish(self) -> None:
        while not self.is_reached:
            self.stream.advance()


@dataclass(eq=False, slots=True)
class LazyStream:
    """Its work in order; a mark to be reached, or one of another stream that is followed, is work as well."""

    queue: deque[Work] = field(default_factory=deque)

    def run(self, work: Work) -> None:
        self.queue.append(work)

    def mark(self) -> LazyMark:
        mark = LazyMark(self)

        def reach() -> None:
            mark.is_reached = True

        self.queue.append(reach)
        return mark

    def follow(self, mark: Mark) -> None:
        self.queue.append(mark.finish)

    def advance(self) -> None:
        self.queue.popleft()()


@dataclass(eq=False, slots=True)
class LazyDevice:
    """Three streams, and the order of moves and steps over them."""

    steps: LazyStream = field(default_factory=LazyStream)
    moves: LazyStream = field(default_factory=LazyStream)
    reads: LazyStream = field(default_factory=LazyStream)

    def streams(self) -> PageStreams:
        return PageStreams(steps=self.steps, moves=self.moves, reads=self.reads)
