"""Both ends of transfers under random use: two senders, one receiver, a lossy loopback and a lossy control plane.

Goal: whatever is lost, doubled, late or killed, a page that lands is the right page, each transfer ends once on each
side, and nothing stays lent, posted or running. Method: a Hypothesis state machine in virtual time; operations run side
by side in one simulated loop that a rule lets advance.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.core.errors import BatonError, Reason
from common.core.ids import ReservationId, WorkerId
from common.transfer.limits import TransferLimits
from common.transfer.messages import OutcomeState, PageRun
from common.transfer.outbound import OutboundTransfer
from tests.sim.timeloop import LoopClock, TimeLoop
from tests.transfer.rig import REQUEST, Rig, Sink, expect, finale, page_bytes, run_data

SENDERS = ("p1", "p2")
CHANCES = st.sampled_from([0.0, 0.0, 0.05, 0.4])
HOW = st.tuples(st.sampled_from(SENDERS), st.booleans(), st.sampled_from([None, None, 0.0, 0.05, 1.0]))
"""Which sender, whether decode lands slowly, seconds of computation between two runs. None: they are shipped at once,
as runs are that were gathered ahead."""

How = tuple[str, bool, float | None]


@dataclass
class Attempt:
    """One attempt as the test knows it."""

    name: str
    number: int
    total: int
    held: int
    sink: Sink
    transfer: OutboundTransfer


class TransferMachine(RuleBasedStateMachine):
    """Writer of everything: the rules, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TimeLoop(seed=1, limit_s=1e6)
        asyncio.set_event_loop(self.loop)
        self.attempts: list[Attempt] = []
        self.reservations = 0
        self.tasks: list[asyncio.Task[None]] = []

    @initialize(
        seed=st.integers(0, 2**32),
        data=st.fixed_dictionaries(dict.fromkeys(("drop", "flip", "duplicate", "delay_s"), CHANCES)),
        control=st.fixed_dictionaries(
            dict.fromkeys(("lose_request", "lose_response", "duplicate", "delay_s"), CHANCES)
        ),
    )
    def begin(self, seed: int, data: dict[str, float], control: dict[str, float]) -> None:
        self.loop.random.seed(seed)
        self.rig = Rig(seed=seed, clock=LoopClock(self.loop), limits=TransferLimits(idle_timeout_s=10.0))
        self.rig.control.chance = self.loop.random.random
        for name in (*SENDERS, "d"):
            self.run(self.rig.add(name, staging=2))
        for what, chance in data.items():
            setattr(self.rig.network.faults, what, chance)
        for what, chance in control.items():
            setattr(self.rig.control, what, chance)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        async def quietly() -> None:
            try:
                await work
            except BatonError:
                return

        self.tasks.append(self.loop.create_task(quietly()))

    @property
    def decode(self) -> Any:
        return self.rig.ends[WorkerId("d")]

    @property
    def current(self) -> list[Attempt]:
        latest = {attempt.name: attempt for attempt in self.attempts}
        return list(latest.values())

    @rule(total=st.integers(1, 6), held=st.integers(0, 6), step=st.integers(1, 3), how=HOW)
    @precondition(lambda self: len(self.attempts) < 20)
    def promise(self, total: int, held: int, step: int, how: How) -> None:
        self.reservations += 1
        self._attempt(f"res-{self.reservations}", 1, total, min(held, total), step, how)

    @rule(data=st.data(), step=st.integers(1, 3), how=HOW)
    @precondition(lambda self: self.attempts)
    def renew(self, data: st.DataObject, step: int, how: How) -> None:
        old = data.draw(st.sampled_from(self.current))
        self._attempt(old.name, old.number + 1, old.total, old.held, step, how)

    async def _ship(self, attempt: Attempt, step: int, pause_s: float | None) -> None:
        """As prefill does: a run, the next chunk's computation, a run, ..., the finale with the last."""
        starts = range(attempt.held, attempt.total, step)
        runs = [PageRun(first_page=first, num_pages=min(step, attempt.total - first)) for first in starts]
        under_way = []
        for run in runs[:-1]:
            shipping = asyncio.ensure_future(attempt.transfer.ship(run, run_data(run, attempt.name)))
            if pause_s is None:
                under_way.append(shipping)
            else:
                await shipping
                await asyncio.sleep(pause_s)
        last = (runs[-1], run_data(runs[-1], attempt.name)) if runs else ()
        ends = await asyncio.gather(
            *under_way, attempt.transfer.finish(finale(attempt.total), *last), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        await attempt.transfer.wait_outcome(8.0)

    @rule(data=st.data())
    @precondition(lambda self: self.attempts)
    def abort(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.attempts))
        self.run(self._call(lambda: attempt.transfer.abort(Reason.CANCELLED)))

    async def _call(self, function: Any) -> None:
        function()

    @rule()
    def land(self) -> None:
        for attempt in self.attempts:
            attempt.sink.land_all()

    @rule(data=st.data())
    @precondition(lambda self: self.attempts)
    def release(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.current))
        self.decode.inbound.forget(ReservationId(attempt.name))

    @rule(name=st.sampled_from(SENDERS))
    @precondition(lambda self: len(self.rig.retired) < 3)
    def restart_sender(self, name: str) -> None:
        self.run(self.rig.restart(name))

    @rule(sender=st.sampled_from(SENDERS))
    def cut(self, sender: str) -> None:
        self.rig.network.faults.cut ^= {(WorkerId(sender), WorkerId("d"))}

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 2.0, 8.0]))
    def advance(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @invariant()
    def a_page_is_never_wrong(self) -> None:
        for attempt in self.attempts:
            for index, data in attempt.sink.pages.items():
                assert data == page_bytes(index, attempt.name), f"{attempt.name} page {index}"

    @invariant()
    def done_means_every_page_and_one_finale(self) -> None:
        for attempt in self.attempts:
            if attempt.transfer.outcome.state is OutcomeState.DONE:
                assert sorted(attempt.sink.pages) == list(range(attempt.held, attempt.total))
                assert len(attempt.sink.finales) == 1
            assert len(attempt.sink.finales) <= 1
            assert len(attempt.sink.failures) <= 1

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.run(self._end())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _end(self) -> None:
        """The network heals and everybody is told to finish: whatever was begun must end, once, on both sides."""
        self.rig.network.faults = type(self.rig.network.faults)()
        self.rig.control = type(self.rig.control)()
        await asyncio.sleep(30)
        for attempt in self.attempts:
            attempt.sink.land_all()
            if not attempt.transfer.outcome.is_terminal:
                attempt.transfer.abort(Reason.CANCELLED)
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=60)
        assert all(task.done() for task in self.tasks)
        await asyncio.sleep(30)
        for attempt in self.attempts:
            attempt.sink.land_all()
        ends = [*self.rig.retired, *self.rig.ends.values()]
        for end in ends:
            snapshot = end.snapshot()
            assert snapshot.sent.in_flight == 0, snapshot
            assert snapshot.received.in_flight == 0, snapshot
            assert snapshot.lent_arrivals == 0, snapshot
            assert snapshot.free_staging == end._staging.count, snapshot
        await self.rig.close()
        for end in ends:
            assert end._scope.first_bug is None
        assert self.loop.unhandled == []

    def _attempt(self, name: str, number: int, total: int, held: int, step: int, how: How) -> None:
        sender, is_slow, pause_s = how
        sink = Sink(self.decode, lands_at_once=not is_slow)
        try:
            _, transfer_id = expect(self.decode, total, held=held, attempt=number, name=name, sink=sink)
        except BatonError:
            return
        transfer = self.rig.ends[WorkerId(sender)].start(transfer_id, REQUEST, self.decode.me)
        attempt = Attempt(name=name, number=number, total=total, held=held, sink=sink, transfer=transfer)
        self.attempts.append(attempt)
        self.background(self._ship(attempt, step, pause_s))


TestTransfers = TransferMachine.TestCase
TestTransfers.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
