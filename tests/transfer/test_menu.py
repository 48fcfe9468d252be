"""The sender asks for its best channel and takes the next where that does not fit; the reason is there to be read."""

from dataclasses import replace
from typing import Any

import pytest

from common.core.entropy import SeededEntropy
from common.core.errors import Mismatch, Reason, TransferFailed
from common.core.ids import WorkerId
from common.transfer.channel import Channel, Side
from common.transfer.loopback import LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.transfer.messages import HostFacts, OutcomeState, Pair
from common.transfer.rendezvous import RendezvousStore
from tests.transfer.rig import REQUEST, Rig, expect, rigged, ship_all

pytestmark = pytest.mark.virtual_time

HERE = HostFacts(boot_id="this boot", network_namespace=7, user=1000)


class Near(LoopbackNetwork):
    """A better channel, for ends on one host."""

    name = "same_host"

    def __init__(self, host: HostFacts, *, failure: TransferFailed | None = None) -> None:
        super().__init__(SeededEntropy(3))
        self.host = host
        self.failure = failure
        self.tries = 0

    def misfit(self, there: HostFacts | None) -> str:
        return self.host.difference(there)

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        self.tries += 1
        if self.failure is not None and side is Side.SENDER:
            raise self.failure
        return await super().open(pair, side, store, timeout_s=timeout_s)


async def deliver(rig: Rig, name: str = "res-1") -> Any:
    prefill, decode = rig.ends[WorkerId("p")], rig.ends[WorkerId("d")]
    _, promised = expect(decode, 2, name=name)
    transfer = prefill.start(promised, REQUEST, decode.me)
    await ship_all(transfer, 2)
    assert (await transfer.wait_outcome(2.0)).state is OutcomeState.DONE
    return await prefill.probe(decode.me, 64)


async def test_two_ends_of_one_host_take_the_better_channel() -> None:
    near = Near(HERE)
    async with rigged() as rig:
        for name in "pd":
            await rig.add(name, channels=ChannelMenu(near, rig.network, host=HERE))
        report = await deliver(rig)
        assert (report.channel, report.passed_over) == ("same_host", "")
        sent = rig.ends[WorkerId("p")].snapshot().sent
        assert list(sent.channels) == ["same_host"]
        assert sent.channels["same_host"].done == 1


async def test_ends_of_two_hosts_take_the_next_and_say_why() -> None:
    elsewhere = replace(HERE, network_namespace=8)
    async with rigged() as rig:
        await rig.add("p", channels=ChannelMenu(Near(HERE), rig.network, host=HERE))
        await rig.add("d", channels=ChannelMenu(Near(elsewhere), rig.network, host=elsewhere))
        report = await deliver(rig)
        assert report.channel == "loopback"
        assert "another network namespace" in report.passed_over


async def test_facts_that_agree_prove_nothing_memory_that_opens_does() -> None:
    """The better channel is not tried again at the next link: it rests."""
    near = Near(HERE, failure=TransferFailed(message="cannot be reached", reason=Reason.CHANNEL_BROKEN))
    async with rigged() as rig:
        for name in "pd":
            await rig.add(name, channels=ChannelMenu(near, rig.network, host=HERE))
        report = await deliver(rig)
        assert (report.channel, report.passed_over) == ("loopback", "same_host (broken): cannot be reached")
        tries = near.tries
        await rig.ends[WorkerId("p")].drop_peer(WorkerId("d"), "so that it opens again")
        await deliver(rig, name="res-2")
        assert near.tries == tries


async def test_a_channel_that_is_asked_for_by_name_is_the_only_one() -> None:
    async with rigged() as rig:
        await rig.add("p", channels=ChannelMenu(Near(HERE), host=HERE))
        await rig.add("d")
        with pytest.raises(Mismatch, match="channel same_host there, loopback here"):
            await deliver(rig)
