"""The machines of a simulated cluster, made for one play."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.core.ids import WorkerId
from common.core.worker import Role
from services.simulator.cluster import ClusterShape
from services.simulator.holders import Holders
from services.simulator.job import Told
from services.simulator.outcome import Gaps
from services.simulator.pages import CountedPages
from services.simulator.reader import SteppedReader
from services.simulator.timeline import Timeline
from services.simulator.writer import SteppedWriter

Machine = SteppedReader | SteppedWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """By name. Readers are prefill machines; writers are decode machines and dual ones."""

    readers: Mapping[WorkerId, SteppedReader]
    writers: Mapping[WorkerId, SteppedWriter]

    @property
    def by_name(self) -> Mapping[WorkerId, Machine]:
        """All of them."""
        return {**self.readers, **self.writers}


def make_machines(
    shape: ClusterShape, *, page_size: int, holders: Holders, timeline: Timeline, told: Told, gaps: Gaps
) -> Machines:
    """Each with an empty cache of the shape's size, known to `holders`."""
    readers: dict[WorkerId, SteppedReader] = {}
    writers: dict[WorkerId, SteppedWriter] = {}
    for ref, role, _is_dual in shape.roles():
        slot = holders.open()
        pages = CountedPages(total=shape.cache_tokens // page_size, slot=slot, holders=holders)
        if role is Role.PREFILL:
            readers[ref.worker] = SteppedReader(
                ref, slot=slot, pages=pages, page_size=page_size, shape=shape, timeline=timeline, told=told
            )
        else:
            writers[ref.worker] = SteppedWriter(
                ref, slot=slot, pages=pages, page_size=page_size, shape=shape, timeline=timeline, told=told, gaps=gaps
            )
    return Machines(readers=readers, writers=writers)
