"""A router without its front door: the dispatcher and all behind it, on virtual time and played workers."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.core.entropy import SeededEntropy
from common.core.errors import BatonError
from common.core.ids import TokenId
from common.core.request import FinishReason, Priority
from common.observe.lag import LoopLag
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.tracing.tracer import NoTracer
from common.rpc.client import Dialer
from services.router.admission.admission import Admission
from services.router.admission.limits import AdmissionLimits, ClassLimits
from services.router.borrowing import Borrowing
from services.router.budget import RetryBudget
from services.router.cancellations import Cancellations
from services.router.chooser import Chooser
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet, FleetSettings
from services.router.hints import PrefixHints
from services.router.inbox import Switchboard
from services.router.journey import Journey, JourneySettings
from services.router.moves import Moves
from services.router.policy import PolicySettings
from services.router.record import RecentRecords
from services.router.request import Request
from services.router.track import Track
from services.router.workers import Workers
from tests.router.build import ROUTER, spelled_text
from tests.router.cast import Stage, true_token
from tests.sim.network import Network
from tests.sim.timeloop import LoopClock, TimeLoop, simulate
from tests.sim.transport import memory_connect

SUSPECT_S = 2.0


@dataclass(slots=True)
class Answer:
    """What one client got."""

    tokens: defaultdict[int, list[TokenId]] = field(default_factory=lambda: defaultdict(list))
    finishes: dict[int, FinishReason] = field(default_factory=dict)
    stop_strings: dict[int, str] = field(default_factory=dict)
    text: defaultdict[int, str] = field(default_factory=lambda: defaultdict(str))
    times: list[float] = field(default_factory=list)
    error: BatonError | None = None

    def is_exact(self, request: Request) -> bool:
        """Every index once, in order, none missing, with the true token, for every choice."""
        return self.error is None and all(
            self.tokens[choice.index] == [true_token(choice.index, i) for i in range(request.sampling.max_tokens)]
            and choice.index in self.finishes
            for choice in request.choices
        )


class House:
    """Built inside the loop; `live` runs it."""

    def __init__(
        self,
        loop: TimeLoop,
        *,
        max_queue: int = 100,
        max_active: int = 100,
        grace_s: float = 10.0,
        can_fetch: bool = True,
    ) -> None:
        self.loop = loop
        self.clock = LoopClock(loop)
        self.network = Network(loop)
        self.stage = Stage(self.network)
        self.metrics = Metrics(ProcessRole.ROUTER)
        self.lag = LoopLag(self.metrics)
        """Looks once entered."""
        switchboard = Switchboard()
        dialer = Dialer(memory_connect(self.network, "router"))
        workers = Workers(dialer=dialer, router=ROUTER, clock=self.clock, lost_s=self.lag.lost_s)
        self.cancellations = Cancellations(workers)
        self.fleet = Fleet(
            mirror=self.stage.mirror,
            workers=workers,
            switchboard=switchboard,
            cancellations=self.cancellations,
            clock=self.clock,
            settings=FleetSettings(suspect_s=SUSPECT_S, can_fetch=can_fetch),
            lost_s=self.lag.lost_s,
        )
        self.track = Track(
            fleet=self.fleet,
            switchboard=switchboard,
            workers=workers,
            cancellations=self.cancellations,
            hints=PrefixHints(mirror=self.stage.mirror, fleet=self.fleet, page_size=16),
            budget=RetryBudget(clock=self.clock),
            borrowing=Borrowing(workers, self.clock),
            chooser=Chooser(fleet=self.fleet, settings=PolicySettings(local_prompt_tokens=16)),
            moves=Moves(self.clock, self.fleet.warn_again),
            clock=self.clock,
        )
        limits = AdmissionLimits(
            classes=dict.fromkeys(Priority, ClassLimits(max_queue=max_queue)),
            max_active=max_active,
            absence_grace_s=grace_s,
        )
        self.admission = Admission(limits=limits, fleet=self.fleet, clock=self.clock, entropy=SeededEntropy(2))
        self.recent = RecentRecords(64)
        self.dispatcher = Dispatcher(
            router=ROUTER,
            track=self.track,
            admission=self.admission,
            metrics=self.metrics,
            entropy=SeededEntropy(1),
            settings=JourneySettings(max_attempts=4, slow_reader_s=3.0),
            recent=self.recent,
            max_buffered_tokens=64,
            model="test",
            tracer=NoTracer(),
        )

    async def ask(self, request: Request, *, stops: tuple[str, ...] = (), read_every_s: float = 0.0) -> Answer:
        """One client, reading to the end."""
        answer = Answer()
        texts = [spelled_text(stops) for _ in request.choices]
        try:
            with self.dispatcher.enter(request, texts) as journey:
                async with asyncio.TaskGroup() as group:
                    group.create_task(journey.run())
                    group.create_task(self._read(journey, answer, read_every_s))
        except BatonError as error:
            answer.error = error
        return answer

    async def _read(self, journey: Journey, answer: Answer, read_every_s: float) -> None:
        try:
            while (deltas := await journey.stream.read()) is not None:
                answer.times.append(self.loop.time())
                for delta in deltas:
                    got = answer.tokens[delta.choice]
                    assert delta.first_index == len(got), f"index {delta.first_index} after {len(got)} tokens"
                    got += delta.tokens
                    answer.text[delta.choice] += delta.text
                    if delta.finish is not None:
                        assert delta.choice not in answer.finishes, "a choice finished twice"
                        answer.finishes[delta.choice] = delta.finish
                    if delta.stop_string is not None:
                        answer.stop_strings[delta.choice] = delta.stop_string
                await asyncio.sleep(read_every_s)
        except BatonError as error:
            answer.error = error

    def check_clean(self) -> None:
        """Nothing of any request is left anywhere."""
        assert self.dispatcher.num_active == 0
        assert self.admission.num_active == 0
        assert len(self.track.hints) == 0, "prompts are kept alive that nobody will ask about"
        left = {name: list(worker.held) for name, worker in self.stage.workers.items() if worker.held}
        assert not left, f"works left on workers: {left}"
        assert all(view.in_flight == 0 for view in self.fleet.view().workers)


Story = Callable[[House], Awaitable[None]]


def play(story: Story, *, seed: int = 0, limit_s: float = 900.0, **options: float) -> None:
    """Tells one story in virtual time, and checks afterwards that nothing is left behind."""

    async def program(loop: TimeLoop) -> None:
        house = House(loop, **options)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            servants = [
                group.create_task(house.fleet.run()),
                group.create_task(house.dispatcher.run()),
                group.create_task(house.cancellations.run()),
            ]
            await story(house)
            await asyncio.sleep(2.0)
            house.check_clean()
            for servant in servants:
                servant.cancel()

    simulate(program, seed=seed, limit_s=limit_s)
