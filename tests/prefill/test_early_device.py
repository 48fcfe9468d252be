"""Layers that leave a step which has only been launched: the device is as late as it may be, and staging is its own.

Nothing here is computed before somebody waits for it, so a gather that does not come behind its layers shows.
"""

import random
from dataclasses import dataclass, field

import pytest

from common.core.clock import ManualClock
from common.core.ids import PageId, ReservationId, TokenId
from common.core.step import Step, StepResult
from common.engine.batch import Batch
from common.engine.inline import known
from common.engine.layer_news import LayerNews
from common.engine.plan import BatchPlan, Extend
from common.engine.sim import SimExecutor
from common.kv.cache import PageCache
from common.kv.layout import LayerSpan
from common.kv.page_streams import Mark
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import SLOT_BYTES
from common.kv.sim_storage import SimStorage
from common.kv.span import DeviceSpan, Span
from common.kv.staging import StagingPool
from common.worker.engine import Engine
from services.prefill.app import compose
from services.prefill.messages import Destination, RunReady
from services.prefill.scheduler import PrefillLimits
from tests.engine.relay import DECODE
from tests.engine.rig import EOS, LAYOUT, PAGE_SIZE, make_rig, work
from tests.kv.host_page_device import HostPageDevice, read_span, write_span
from tests.kv.lazy_streams import LazyDevice

NUM_PAGES = 64


class LateStorage(SimStorage):
    """Pages of a device that copies when it is waited for."""

    def __init__(self, device: LazyDevice) -> None:
        super().__init__(LAYOUT, NUM_PAGES)
        self.streams = device.streams()

    def gather(self, pages: list[PageId], out: Span, layers: LayerSpan | None = None) -> None:  # type: ignore[override]
        assert isinstance(out, DeviceSpan)

        def copy() -> None:
            found = memoryview(bytearray(len(out)))
            SimStorage.gather(self, pages, found, layers)
            write_span(out, bytes(found))

        self.streams.lift(copy, out)

    def read(self, span: DeviceSpan) -> bytes:
        """As whoever ships it reads it."""
        found: list[bytes] = []
        self.streams.read(lambda: found.append(read_span(span)), span)
        return found[0]


class LateLauncher:
    """Launches a step and tells of its layers; computes when somebody waits for what lies behind."""

    def __init__(self, executor: SimExecutor, storage: LateStorage, device: LazyDevice, news: LayerNews) -> None:
        self._executor = executor
        self._storage = storage
        self._device = device
        self._news = news
        self._last: StepResult | None = None

    def launch(self, step: Step) -> "Flight":
        streams = self._storage.streams
        streams.begin_step()
        results: list[StepResult] = []

        def compute() -> None:
            self._last = self._executor.run(known(step, self._last))
            results.append(self._last)

        self._device.steps.run(compute)
        stops = self._news.stops(step)
        for group in range(self._news.num_groups if stops is not None else 0):
            streams.reach()
            assert stops is not None
            stops.say((group + 1) * stops.num_layers)
        streams.reach()
        return Flight(self._storage, results, streams.end_step())


@dataclass
class Flight:
    storage: LateStorage
    results: list[StepResult]
    end: Mark

    def collect(self) -> StepResult:
        self.end.finish()
        self.storage.streams.settle(self.end)
        return self.results[0]


@dataclass
class Side:
    """A prefill core on such a device, and what it shipped, by request and page."""

    num_staging: int
    is_ahead: bool
    clock: ManualClock = field(default_factory=ManualClock)
    shipped: dict[str, dict[tuple[int, int], bytes]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    waiting: list[RunReady] = field(default_factory=list)

    def __post_init__(self) -> None:
        device, page_device = LazyDevice(), HostPageDevice()
        self.memory = page_device  # it goes with whoever made it
        self.storage = LateStorage(device)
        news = LayerNews(LAYOUT.num_layers, 2)
        executor = SimExecutor(self.storage)
        cache = PageCache(PagePool(NUM_PAGES), PrefixIndex(), page_size=PAGE_SIZE)
        launcher = LateLauncher(executor, self.storage, device, news)
        batch = Batch(cache=cache, executor=executor, layout=LAYOUT, eos_ids=(EOS,), launcher=launcher)
        engine = Engine(
            layout=LAYOUT,
            storage=self.storage,
            executor=executor,
            cache=cache,
            batch=batch,
            is_ahead=self.is_ahead,
            news=news,
            page_device=page_device,
        )
        self.staging = StagingPool(self.num_staging, 3 * LAYOUT.page_bytes, make_buffer=page_device.make_buffer)
        self.core = compose(
            engine,
            staging=self.staging,
            limits=PrefillLimits(page_size=PAGE_SIZE, step_tokens=12, chunk_tokens=8, max_prompts=4),
            max_waiting=16,
            clock=self.clock,
        )

    def submit(self, name: str, prompt: list[int]) -> None:
        destination = Destination(worker=DECODE, reservation=ReservationId(name), held_pages=0, takes_layers=True)
        self.core.submit(work(name, prompt=prompt), destination)
        self.shipped[name] = {}

    def hear(self) -> None:
        self.waiting += [event for event in self.core.take_events() if isinstance(event, RunReady)]

    def ship(self, ready: RunReady) -> None:
        """Its bytes leave, and the staging comes back."""
        parts = self.shipped[str(ready.request)]
        if ready.staging is not None:
            assert isinstance(ready.staging.view, DeviceSpan)
            data, size = self.storage.read(ready.staging.view[: ready.num_bytes]), LAYOUT.part_bytes(ready.run.layers)
            first, num = (0, LAYOUT.num_layers) if ready.run.layers is None else (ready.run.layers.first, 1)
            for place, page in enumerate(range(ready.run.first_page, ready.run.end)):
                part, each = data[place * size : (place + 1) * size], size // num
                for layer in range(num):
                    assert (page, first + layer) not in parts, "shipped twice"
                    parts[page, first + layer] = part[layer * each : (layer + 1) * each]
            ready.staging.release()
        if ready.finale is not None:
            self.done.add(str(ready.request))

    def pages(self, name: str) -> bytes:
        parts = self.shipped[name]
        return b"".join(parts[key] for key in sorted(parts))


def expected(prompt: list[int]) -> bytes:
    """What a prompt's pages hold on a worker that computes at once."""
    rig = make_rig(NUM_PAGES)
    name = rig.batch.add(work("alone", prompt=prompt), arrived=0.0)
    rig.batch.begin(name)
    rig.batch.run(BatchPlan(extend=(Extend(sequence=name, num_tokens=len(prompt)),)))
    return b"".join(bytes(rig.storage.page(ref.page)) for ref in rig.batch[name].pages)


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("num_staging", [2, 4, 16])
@pytest.mark.parametrize("seed", range(4))
def test_every_page_leaves_with_what_its_step_wrote(seed: int, num_staging: int, is_ahead: bool) -> None:
    """Several prompts of random lengths; runs are shipped at random times, so some find no staging amid their step.
    Pages of prompts that are done are soon another's."""
    chance = random.Random(seed)
    side = Side(num_staging, is_ahead)
    prompts = {f"r{number}": [chance.randrange(1, 500) for _ in range(chance.randrange(1, 40))] for number in range(6)}
    for name, prompt in prompts.items():
        side.submit(name, prompt)
    for _ in range(2000):
        side.clock.advance(0.001)
        side.core.advance()
        side.hear()
        while side.waiting and chance.random() < 0.6:
            side.ship(side.waiting.pop(0))
        if side.done == set(prompts) and not side.waiting:
            break
    assert side.done == set(prompts), f"seed {seed}"
    for name, prompt in prompts.items():
        end = len(prompt) * SLOT_BYTES  # slots behind the last token keep what they held
        assert side.pages(name)[:end] == expected(prompt)[:end], f"seed {seed}: {name}"
    assert side.staging.num_free == num_staging
    assert side.core.counters.early_runs > 0


def test_first_layers_leave_before_their_step_is_collected() -> None:
    side = Side(16, is_ahead=True)
    prompt = [TokenId(token) for token in range(3, 3 + 8 * 3)]
    side.submit("a", [int(token) for token in prompt])
    side.core.advance()
    side.hear()
    assert side.core.counters.early_runs == len(side.waiting) > 0
    assert side.core.counters.computed_tokens < len(prompt), "steps are in flight"
