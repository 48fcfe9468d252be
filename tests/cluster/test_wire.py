"""A bad network between real workers: bits flip on the data plane, control messages come twice, late, out of order."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from services.local.topology import Kind
from tests.cluster.drive import PAGE_BYTES, PAGE_SIZE, SLOW_SIM, check_all, counter, prompts
from tests.cluster.house import House
from tests.cluster.ports import stable_port
from tests.cluster.relay import AddressSwap, GrpcRelay, Weather
from tests.cluster.wire import Damage, FlippingProxy, listen_first

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

SEED = 10_101
TRANSFER_DEADLINE_S = 2.0
NAMES = ("prefill-0", "decode-0")
LISTEN = {name: stable_port() for name in NAMES}
ADVERTISED = {name: stable_port() for name in NAMES}
HOUSE = {
    # What can be damaged on its way: shared memory passes no switch.
    "settings": (*SLOW_SIM, "transfer.channel=gloo"),
    "of_process": {
        name: (f"listen.port={LISTEN[name]}", f"listen.advertise=127.0.0.1:{ADVERTISED[name]}") for name in NAMES
    },
}


@dataclass(slots=True)
class Network:
    """What stands between the processes. Calm until a test says otherwise."""

    relays: dict[str, GrpcRelay]
    is_walled: bool = False
    """New data-plane connections lead nowhere."""
    wires: list[FlippingProxy] = field(default_factory=list)
    damage: Damage = field(default_factory=Damage)

    async def forwarded(self, port: int) -> int:
        """A forwarder in front of a data-plane port."""
        if self.is_walled:
            return AddressSwap.LAST_PORT
        wire = FlippingProxy(port, self.damage, min_bytes=PAGE_BYTES)
        await wire.start(listen_first())
        self.wires.append(wire)
        return wire.port


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def network() -> AsyncIterator[Network]:
    """In place before the cluster starts: its processes know each other by these addresses only."""
    relays = {name: GrpcRelay(ADVERTISED[name], LISTEN[name], weather=Weather(random.Random(SEED))) for name in NAMES}
    made = Network(relays)
    swap = AddressSwap(made.forwarded)
    relays["decode-0"].rewrite_request, relays["decode-0"].rewrite_answer = swap.sender, swap.receiver
    for relay in relays.values():
        await relay.start()
    yield made
    for relay in relays.values():
        await relay.stop()
    for wire in made.wires:
        await wire.stop()


async def test_one_flipped_bit_is_seen_before_the_first_token_and_sent_again(cluster: House, network: Network) -> None:
    """F9: the digest finds it, the counter grows, the prompt is shipped again, and no token is wrong."""
    control = prompts(4, length=6 * PAGE_SIZE, max_tokens=4, seed=SEED)
    asks = prompts(4, length=6 * PAGE_SIZE, max_tokens=4, seed=SEED + 1)
    check_all(control, await cluster.ask_all(control))
    assert network.wires, "the data plane does not pass the forwarder"
    assert await counter(cluster, Kind.DECODE, "received_transfers_digest_mismatch") == 0
    for ask in asks:
        network.damage.due += 1
        check_all([ask], [await cluster.ask(ask)])
    found = await counter(cluster, Kind.DECODE, "received_transfers_digest_mismatch")
    print(f"F9: {network.damage.done} bits flipped, {found:.0f} pages refused")
    assert found == network.damage.done == len(asks)


async def test_control_messages_that_come_twice_late_or_out_of_order_change_nothing(
    cluster: House, network: Network
) -> None:
    """F10: every call between router and workers, and between workers. Late is 5 s, when nobody waits for it."""
    print(f"seed {SEED}")
    asks = [
        *prompts(16, length=6 * PAGE_SIZE, max_tokens=20, seed=SEED + 2),
        *prompts(8, length=10, max_tokens=20, seed=SEED + 3),
    ]
    before = [relay.weather for relay in network.relays.values()]
    for number, relay in enumerate(network.relays.values()):
        relay.weather = Weather(random.Random(SEED + number), duplicate=0.2, delay=0.3, late=0.1)
    told = await cluster.ask_all(asks, at_once=8)
    for relay, calm in zip(network.relays.values(), before, strict=True):
        await relay.settle()
        relay.weather = calm
    print({name: dict(relay.happened) for name, relay in network.relays.items()})
    check_all(asks, told)
    happened = sum((relay.happened for relay in network.relays.values()), start=type(relay.happened)())
    assert min(happened[fate] for fate in ("duplicate", "delay", "late")) > 0


async def test_a_data_plane_that_leads_nowhere_costs_one_deadline(cluster: House, network: Network) -> None:
    """Pages cannot travel from a new prefill worker: the prompt is read on decode instead."""
    ask = prompts(1, length=6 * PAGE_SIZE, max_tokens=4, seed=SEED + 4)[0]
    network.is_walled = True
    cluster.kill(Kind.PREFILL)
    await cluster.wait_whole()
    told = await cluster.ask(ask)
    network.is_walled = False
    check_all([ask], [told])
    print(f"silence behind a wall: {told.longest_wait_s:.2f} s (deadline {TRANSFER_DEADLINE_S:.0f} s)")
    assert told.longest_wait_s <= TRANSFER_DEADLINE_S + 1.5
