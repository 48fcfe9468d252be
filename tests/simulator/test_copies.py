"""Fetched pages wait for one turn of their holder, in which they are kept: they are copied out beside its steps."""

from collections.abc import Callable

from common.core.cost.model import DEFAULT
from common.core.ids import Epoch, RequestId, SequenceId, WorkerId, WorkerRef
from common.core.request import Priority
from services.simulator.context import Context
from services.simulator.copies import Copies
from services.simulator.holders import Holders
from services.simulator.pages import CountedPages
from services.simulator.timeline import Timeline

PAGE = 16
NUM_PAGES = 5
HOP_S = 0.001


class Amid:
    """A machine amid a step: it does what it is told when the step ends."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.ref = WorkerRef(WorkerId(name), Epoch(1), name)
        holders = Holders(timeline)
        self.pages = CountedPages(total=20, slot=holders.open(), holders=holders)
        self.commands: list[Callable[[], None]] = []

    def post(self, command: Callable[[], None]) -> None:
        self.commands.append(command)

    def end_step(self) -> None:
        commands, self.commands = self.commands, []
        for command in commands:
            command()


def test_pages_that_were_kept_leave_amid_a_step_of_the_holder() -> None:
    timeline = Timeline()
    holder, reader = Amid("holder", timeline), Amid("reader", timeline)
    names = tuple(range(NUM_PAGES))
    assert holder.pages.allocate(NUM_PAGES)
    for name in names:
        assert holder.pages.register(name)
    holder.pages.release(names, 0)
    copies = Copies(timeline, links={}, page_size=PAGE, page_bytes=1, cost=DEFAULT, hop_s=HOP_S)
    context = Context(
        SequenceId(RequestId("r"), 0),
        page_names=names,
        prompt_tokens=NUM_PAGES * PAGE + 1,
        arrived=0.0,
        deadline=60.0,
        priority=Priority.STANDARD,
    )
    copies.queue(context, holder, reader, lambda answer: answer(True), lambda _is_taken: None)
    timeline.run_until(1.0)
    holder.end_step()
    timeline.run_until(2.0)
    reader.end_step()
    timeline.run_until(3.0)
    assert context.is_awaited
    reader.end_step()
    assert not context.is_awaited
    assert reader.pages.find(names) == NUM_PAGES
