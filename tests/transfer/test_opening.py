"""Better channels that do not open: hand-overs go on over the next one, in time, and the better one comes back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto

import pytest

from common.core.entropy import SeededEntropy
from common.core.errors import Reason, Refused, TransferFailed
from common.core.ids import WorkerId
from common.transfer.channel import Channel, Side
from common.transfer.limits import TransferLimits
from common.transfer.loopback import LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.transfer.messages import HostFacts, OutcomeState, PageRun, Pair
from common.transfer.opening import share_s
from common.transfer.rendezvous import RendezvousStore
from common.transfer.setbacks import MAX_IN_ROW, SetbackCause
from tests.sim.timeloop import LoopClock, TimeLoop, simulate
from tests.transfer.rig import REQUEST, Rig, expect, rigged, run_data, ship_all

LIMITS = TransferLimits()
P, D = WorkerId("p"), WorkerId("d")


class Mood(StrEnum):
    """What an opening of the better channel does."""

    WORKS = auto()
    SILENT = auto()
    REFUSES = auto()
    CRASHES = auto()
    RECEIVER_CRASHES = auto()


class Better(LoopbackNetwork):
    """A channel that is better than the rig's, in a mood. `num_waiting`: ends that are opening now."""

    name = "nccl"

    def __init__(self, mood: Mood = Mood.WORKS, *, max_pairs: int | None = None) -> None:
        super().__init__(SeededEntropy(3))
        self.max_pairs = max_pairs
        self.mood = mood
        self.moods: dict[WorkerId, Mood] = {}
        self.num_tries = 0
        self.num_waiting = 0

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        self.num_tries += side is Side.SENDER
        mood = self.moods.get(pair.receiver.worker, self.mood)
        self.num_waiting += 1
        try:
            match mood:
                case Mood.WORKS:
                    return await super().open(pair, side, store, timeout_s=timeout_s)
                case Mood.REFUSES:
                    raise TransferFailed(message="NCCL error: duplicate GPU", reason=Reason.CHANNEL_BROKEN)
                case Mood.CRASHES:
                    raise ValueError("not a CUDA device\nat 0x7f")
                case Mood.RECEIVER_CRASHES if side is Side.RECEIVER:
                    raise OSError("out of device memory")
                case Mood.SILENT | Mood.RECEIVER_CRASHES:
                    await store.get("nccl/never", wait_s=timeout_s)
                    raise TransferFailed(message="nothing came", reason=Reason.TRANSFER_TIMEOUT)
        finally:
            self.num_waiting -= 1


@dataclass
class Scene:
    """One sender and some receivers, all with the better channel before the rig's own."""

    rig: Rig
    loop: TimeLoop
    better: Better
    num_sent: int = 0
    names: list[str] = field(default_factory=list)

    async def add(self, *names: str) -> None:
        for name in names:
            await self.rig.add(name, channels=ChannelMenu(self.better, self.rig.network))

    async def send(self, receiver: str = "d") -> float:
        """Seconds that one hand-over took."""
        self.num_sent += 1
        sender, target = self.rig.ends[P], self.rig.ends[WorkerId(receiver)]
        started = self.loop.time()
        _, promised = expect(target, 2, name=f"res-{self.num_sent}")
        transfer = sender.start(promised, REQUEST, target.me)
        await ship_all(transfer, 2)
        assert (await transfer.wait_outcome(20.0)).state is OutcomeState.DONE
        took = self.loop.time() - started
        await asyncio.sleep(0.1)  # what is done between two hand-overs is done
        return took

    def channel(self, receiver: str = "d") -> tuple[str, str]:
        """What carries pages to it, and why nothing better does."""
        link = self.rig.ends[P]._links._links[WorkerId(receiver)]
        return link.pair.channel, link.passed_over

    def passed_over(self) -> dict[tuple[str, SetbackCause], int]:
        return self.rig.ends[P].snapshot().sent.passed_over


def in_virtual_time(test: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
    """A scene on a simulated loop: deadlines and rests cost nothing."""

    def run() -> None:
        async def program(loop: TimeLoop) -> None:
            async with rigged(clock=LoopClock(loop), limits=LIMITS) as rig:
                scene = Scene(rig, loop, Better())
                await scene.add("p", "d")
                await test(scene)

        simulate(program, seed=7, limit_s=100_000)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def test_better_channels_share_the_time_and_leave_some() -> None:
    assert share_s(5.0, 0) == 5.0
    left, shares = 5.0, []
    for num_after in (3, 2, 1, 0):
        shares.append(share_s(left, num_after))
        left -= shares[-1]
    assert shares == [2.5, 1.25, 0.625, 0.625]


@in_virtual_time
async def test_a_silent_channel_takes_its_share_of_the_time_and_no_more(scene: Scene) -> None:
    """Ports that a firewall drops: the first hand-over waits for half of an opening, the next ones for nothing."""
    scene.better.mood = Mood.SILENT
    assert 0.5 * LIMITS.open_timeout_s <= await scene.send() < LIMITS.open_timeout_s
    assert scene.channel() == ("loopback", "nccl (silent): p->d#d5f4b3b2 did not open within 2.5 s")
    assert await scene.send() < 0.1
    assert (scene.better.num_tries, scene.better.num_waiting) == (1, 0)
    assert scene.passed_over() == {("nccl", SetbackCause.SILENT): 1}


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        (Mood.REFUSES, "duplicate GPU"),
        (Mood.CRASHES, "ValueError: not a CUDA device"),
        (Mood.RECEIVER_CRASHES, "did not open at the receiver: out of device memory"),
    ],
)
def test_a_channel_that_fails_at_either_end_costs_no_time(mood: Mood, why: str) -> None:
    @in_virtual_time
    async def program(scene: Scene) -> None:
        scene.better.mood = mood
        assert await scene.send() < 0.1
        channel, told = scene.channel()
        assert channel == "loopback"
        assert why in told
        assert "0x7f" not in told, "one line of what a library says"
        assert scene.passed_over() == {("nccl", SetbackCause.BROKEN): 1}

    program()


@in_virtual_time
async def test_the_better_channel_comes_back_between_two_hand_overs(scene: Scene) -> None:
    scene.better.mood = Mood.SILENT
    await scene.send()
    scene.better.mood = Mood.WORKS
    await scene.send()
    assert scene.channel()[0] == "loopback", "it rests"
    await asyncio.sleep(LIMITS.channel_retry_s)
    assert await scene.send() < 0.1, "over the link that is there"
    assert scene.channel() == ("nccl", "")
    assert scene.rig.ends[P].snapshot().sent.incidents["link_improved"] == 1
    assert await scene.send() < 0.1


def test_how_long_it_rests_is_configured() -> None:
    async def program(loop: TimeLoop) -> None:
        async with rigged(clock=LoopClock(loop), limits=TransferLimits(channel_retry_s=3.0)) as rig:
            scene = Scene(rig, loop, Better(Mood.REFUSES))
            await scene.add("p", "d")
            await scene.send()
            scene.better.mood = Mood.WORKS
            await asyncio.sleep(3.0)
            await scene.send()
            assert scene.channel()[0] == "nccl"

    simulate(program, seed=7, limit_s=100)


@in_virtual_time
async def test_a_channel_that_stays_silent_is_tried_ever_more_rarely(scene: Scene) -> None:
    """A hand-over every half a minute for an hour: after 30, 60, 120 seconds and so on."""
    scene.better.mood = Mood.SILENT
    for _ in range(80):
        await scene.send()
        await asyncio.sleep(30)
    assert 5 <= scene.better.num_tries <= 7
    assert scene.channel()[0] == "loopback"


@in_virtual_time
async def test_a_link_in_use_is_not_taken_away_for_a_better_one(scene: Scene) -> None:
    scene.better.mood = Mood.REFUSES
    _, promised = expect(scene.rig.ends[D], 4, name="long")
    long = scene.rig.ends[P].start(promised, REQUEST, scene.rig.ends[D].me)
    await long.open()
    scene.better.mood = Mood.WORKS
    await asyncio.sleep(LIMITS.channel_retry_s)
    await scene.send()
    assert scene.channel()[0] == "loopback"
    await ship_all(long, 4)
    assert (await long.wait_outcome(20.0)).state is OutcomeState.DONE
    await asyncio.sleep(0.1)
    assert scene.channel()[0] == "nccl"


@in_virtual_time
async def test_a_hand_over_amid_the_try_waits_for_its_end_and_no_longer(scene: Scene) -> None:
    scene.better.mood = Mood.SILENT
    await scene.send()
    await asyncio.sleep(LIMITS.channel_retry_s)
    await scene.send()
    assert scene.better.num_waiting > 0, "the try is under way"
    assert await scene.send() <= 0.5 * LIMITS.open_timeout_s
    assert scene.better.num_tries == 2


@in_virtual_time
async def test_a_storm_of_silent_openings_is_bounded(scene: Scene) -> None:
    """Forty decode workers restart behind a firewall, again and again: silences are few, and nothing piles up."""
    scene.better.mood = Mood.SILENT
    names = [f"d{number}" for number in range(40)]
    await scene.add(*names)
    for _ in range(3):
        for name in names:
            await scene.send(name)
            assert scene.better.num_waiting == 0
        for name in names:
            await scene.rig.restart(name, channels=ChannelMenu(scene.better, scene.rig.network))
    assert scene.better.num_tries <= MAX_IN_ROW + 2
    assert ("nccl", SetbackCause.RESTING) in scene.passed_over()


@in_virtual_time
async def test_openings_that_begin_together_are_all_in_time(scene: Scene) -> None:
    scene.better.mood = Mood.SILENT
    names = [f"d{number}" for number in range(8)]
    await scene.add(*names)
    took = await asyncio.gather(*(scene.send(name) for name in names))
    assert max(took) < LIMITS.open_timeout_s
    assert scene.better.num_waiting == 0


@in_virtual_time
async def test_a_new_incarnation_is_tried_afresh(scene: Scene) -> None:
    scene.better.mood = Mood.REFUSES
    await scene.send()
    scene.better.mood = Mood.WORKS
    scene.better.kill(D)
    await scene.rig.restart("d", channels=ChannelMenu(scene.better, scene.rig.network))
    await scene.send()
    assert scene.channel() == ("nccl", "")


@in_virtual_time
async def test_a_peer_that_does_not_answer_is_held_against_no_channel(scene: Scene) -> None:
    """It dies under the opening: when it is back, the better channel is tried at once."""
    scene.better.mood = Mood.SILENT
    sending = asyncio.ensure_future(scene.send())
    await asyncio.sleep(0.5)
    scene.rig.control.dead = {D}
    with pytest.raises(TransferFailed):
        await sending
    scene.rig.control.dead = set()
    scene.better.mood = Mood.WORKS
    await scene.send()
    assert scene.channel() == ("nccl", "")


@in_virtual_time
async def test_pairs_that_are_all_in_use_fall_to_the_next_channel(scene: Scene) -> None:
    """And go back once there is room: a communicator that nobody uses makes it."""
    scene.better.max_pairs = 1
    await scene.add("d1")
    _, promised = expect(scene.rig.ends[D], 2, name="held")
    held = scene.rig.ends[P].start(promised, REQUEST, scene.rig.ends[D].me)
    await held.open()
    await scene.send("d1")
    assert scene.channel("d1") == ("loopback", "nccl (full): all 1 nccl links are in use")
    assert scene.channel("d")[0] == "nccl"
    await ship_all(held, 2)
    await held.wait_outcome(20.0)
    await asyncio.sleep(LIMITS.channel_retry_s)
    await scene.send("d1")
    assert scene.channel("d1")[0] == "nccl"


@in_virtual_time
async def test_openings_under_way_take_room_too(scene: Scene) -> None:
    scene.better.max_pairs = 2
    names = [f"d{number}" for number in range(5)]
    await scene.add(*names)
    scene.rig.control.delay_s = 0.05
    await asyncio.gather(*(scene.send(name) for name in names))
    links = scene.rig.ends[P]._links._links.values()
    assert sum(link.pair.channel == "nccl" for link in links) <= 2
    assert len(links) == 5


@in_virtual_time
async def test_a_receiver_without_room_lets_the_sender_take_the_next(scene: Scene) -> None:
    """Also when a pair of another channel gives way to the better one: what is scarce is counted all the same."""
    scene.better.max_pairs = 1
    await scene.add("p2")
    decode = scene.rig.ends[D]
    _, promised = expect(decode, 3, name="held")
    held = scene.rig.ends[WorkerId("p2")].start(promised, REQUEST, decode.me)
    for number in range(3):
        run = PageRun(first_page=number, num_pages=1)
        await held.ship(run, run_data(run))
        await scene.send()
        assert scene.channel()[0] == "loopback"
        assert "all 1 inlets are in use" in scene.channel()[1]
        assert decode.snapshot().inlets_over == {"nccl": 1, "loopback": 1}
        await asyncio.sleep(0.8 * LIMITS.channel_retry_s)
    assert scene.passed_over() == {("nccl", SetbackCause.FULL): 2}
    # A sender whose word that it left comes late, or never.
    opener = scene.rig.ends[P]._links._opener
    pair = Pair(sender=scene.rig.ends[P].me, receiver=decode.me, nonce=opener._next_nonce(), channel="nccl")
    with pytest.raises(Refused, match="all 1 inlets are in use"):
        await decode.meet(pair, opener._meet)
    assert decode.snapshot().inlets_over == {"nccl": 1, "loopback": 1}
    held.abort(Reason.CANCELLED)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_better_channel_does_hand_overs_go_on(seed: int) -> None:
    """A storm: its mood changes per receiver, receivers restart, senders overlap. No hand-over fails for it, none takes
    longer than an opening and its own deadlines, and nothing is left open at the end."""
    print(f"seed {seed}")

    async def program(loop: TimeLoop) -> None:
        chance = random.Random(seed)
        async with rigged(clock=LoopClock(loop), limits=LIMITS, seed=seed) as rig:
            scene = Scene(rig, loop, Better(max_pairs=2))
            names = ["d", "d1", "d2", "d3"]
            await scene.add("p", *names)
            for _ in range(50):
                scene.better.moods[WorkerId(chance.choice(names))] = chance.choice(list(Mood))
                if chance.random() < 0.05:
                    name = chance.choice(names)
                    scene.better.kill(WorkerId(name))
                    await rig.restart(name, channels=ChannelMenu(scene.better, rig.network))
                took = await asyncio.gather(*(scene.send(chance.choice(names)) for _ in range(chance.randrange(1, 4))))
                assert max(took) < LIMITS.open_timeout_s
                await asyncio.sleep(chance.choice([0.0, 1.0, 40.0]))
                links = rig.ends[P]._links._links.values()
                assert sum(link.pair.channel == "nccl" for link in links) <= 2
            await asyncio.sleep(LIMITS.open_timeout_s)
            assert scene.better.num_waiting == 0
            carried = rig.ends[P].snapshot().sent.channels
            assert carried["nccl"].done > 0
            assert carried["loopback"].done > 0
            assert sum(channel.failed for channel in carried.values()) == 0

    simulate(program, seed=seed, limit_s=100_000)
