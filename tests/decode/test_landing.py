"""Pages land a slice at a time, at the pace that their copies and the steps beside them were seen to take."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from common.core.clock import ManualClock
from common.core.ids import PageId, ReservationId
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_storage import SimStorage
from services.decode.landing import Landing, LandingStrip
from services.decode.pace import SHARE
from tests.engine.rig import LAYOUT, PAGE_SIZE

NUM_PAGES, CEILING = 200, 50
STEP_S = 0.010


class SlowStorage(SimStorage):
    """Every page takes `page_s` to copy."""

    def __init__(self, clock: ManualClock, page_s: float) -> None:
        super().__init__(LAYOUT, NUM_PAGES)
        self.clock = clock
        self.page_s = page_s

    def scatter(self, pages: Sequence[PageId], data: memoryview) -> None:
        super().scatter(pages, data)
        self.clock.advance(len(pages) * self.page_s)


@dataclass
class Scene:
    page_s: float
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.storage = SlowStorage(self.clock, self.page_s)
        self.cache = PageCache(PagePool(NUM_PAGES), PrefixIndex(), page_size=PAGE_SIZE)
        self.strip = LandingStrip(
            cache=self.cache, storage=self.storage, slice_bytes=CEILING * LAYOUT.page_bytes, clock=self.clock
        )

    def add(self, num_pages: int) -> Landing:
        pages = self.cache.promise(num_pages)
        assert pages is not None
        data = bytes(place % 251 for place in range(num_pages * LAYOUT.page_bytes))
        landing = Landing(reservation=ReservationId("res"), attempt=1, first_page=0, pages=pages, data=memoryview(data))
        self.strip.add(landing)
        return landing

    def slice_pages(self, step_s: float | None) -> int:
        """How many pages one slice copies."""
        before = self.strip.landed_bytes
        self.strip.advance(step_s)
        return (self.strip.landed_bytes - before) // LAYOUT.page_bytes


def test_what_was_measured_keeps_the_next_slice_within_its_share_of_a_step() -> None:
    scene = Scene(page_s=STEP_S / 40)
    scene.add(NUM_PAGES)
    scene.slice_pages(STEP_S)
    began = scene.clock.monotonic()
    assert scene.slice_pages(STEP_S) == int(SHARE * 40)
    assert scene.clock.monotonic() - began <= SHARE * STEP_S


def test_a_worker_that_runs_nothing_lands_up_to_the_ceiling() -> None:
    scene = Scene(page_s=STEP_S)
    scene.add(NUM_PAGES)
    assert scene.slice_pages(None) == CEILING
    assert scene.slice_pages(None) == CEILING


def test_a_slice_crosses_from_one_landing_to_the_next_and_every_byte_lands_in_its_page() -> None:
    scene = Scene(page_s=STEP_S / 100)
    landings = [scene.add(num_pages) for num_pages in (7, 1, 40)]
    finished: list[Landing] = []
    for _ in range(100):
        finished += scene.strip.advance(STEP_S)
    assert finished == landings
    for landing in landings:
        assert b"".join(scene.storage.page(ref.page) for ref in landing.pages) == bytes(landing.data)
    assert scene.strip.landing_s > 0
    scene.cache.audit()
