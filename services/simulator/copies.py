"""Cached pages fetched from one machine to another before a prompt is read: calls, turns and links take their time.

    H keeps what it has -> the prompt is queued on R, and waits -> H's link -> R registers -> it begins

As `common/worker/prefix_desk.py` does it, with two differences: here nobody is impatient, and R lands at once what a
real one lands in pieces beside its steps.
"""

from collections.abc import Callable, MutableMapping
from typing import Protocol

from common.core.cost.model import CostModel
from common.core.ids import WorkerId, WorkerRef
from services.simulator.context import Context
from services.simulator.job import Answer
from services.simulator.pages import CountedPages
from services.simulator.timeline import Timeline


class Machine(Protocol):
    """A machine that lends or receives."""

    @property
    def ref(self) -> WorkerRef: ...
    @property
    def pages(self) -> CountedPages: ...

    def post(self, command: Callable[[], None]) -> None:
        """Run it between two steps."""
        ...


class Copies:
    """Writer: the replay. `links`: until when each machine's link is busy."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        links: MutableMapping[WorkerId, float],
        page_size: int,
        page_bytes: int,
        cost: CostModel,
        hop_s: float,
    ) -> None:
        self._timeline = timeline
        self._links = links
        self._page_size = page_size
        self._page_bytes = page_bytes
        self._cost = cost
        self._hop_s = hop_s
        self.num_pages = 0

    def keep(self, context: Context, holder: Machine, then: Callable[[tuple[int, ...]], None]) -> None:
        """Finds what the holder has of a prompt, and keeps it. `then` hears of it where requests are placed."""
        usable = context.page_names[: (context.prompt_tokens - 1) // self._page_size]

        def keep() -> None:
            kept = usable[: holder.pages.find(usable)]
            holder.pages.retain(kept)
            self._hop(lambda: then(kept))

        self._hop(lambda: holder.post(keep))

    def fetch(
        self,
        context: Context,
        kept: tuple[int, ...],
        holder: Machine,
        reader: Machine,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """On the reader's turn in which the prompt was queued: it waits from now on, unless it has no use for them.
        `then` is called when it waits no more."""
        held = kept[: reader.pages.find(kept)]
        missing = kept[len(held) :]
        reader.pages.retain(held)
        if not missing or not reader.pages.promise(len(missing)):
            reader.pages.release(held, 0)
            holder.pages.release(kept, 0)
            then()
            return
        context.is_awaited, context.num_coming = True, len(kept)
        context.num_found = max(context.num_found, len(kept) * self._page_size)
        self.num_pages += len(missing)

        def landed() -> None:
            reader.pages.fulfil(len(missing))
            named = [page for page in missing if reader.pages.register(page)]
            reader.pages.release((*held, *named), len(missing) - len(named))
            holder.pages.release(kept, 0)
            context.is_awaited = False
            then()

        def send() -> None:
            name, seconds = holder.ref.worker, len(missing) * self._page_bytes * self._cost.transfer_byte_s
            end = self._links[name] = max(self._links.get(name, 0.0), self._timeline.now) + seconds
            self._timeline.at(end + self._cost.transfer_s, lambda: reader.post(landed))

        self._hop(send)

    def queue(
        self, context: Context, holder: Machine, reader: Machine, queue: Callable[[Answer], None], answer: Answer
    ) -> None:
        """Queues a prompt with its reader once the holder has kept its pages; `answer` hears whether it was taken."""

        def kept(pages: tuple[int, ...]) -> None:
            def answered(is_taken: bool) -> None:
                if is_taken:
                    self.fetch(context, pages, holder, reader)
                else:
                    holder.pages.release(pages, 0)
                answer(is_taken)

            self._hop(lambda: reader.post(lambda: queue(answered)))

        self.keep(context, holder, kept)

    def _hop(self, then: Callable[[], None]) -> None:
        self._timeline.at(self._timeline.now + self._hop_s, then)
