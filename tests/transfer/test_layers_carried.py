"""Runs of some layers over the channels themselves, sockets and shared memory among them: in real time."""

import asyncio

import pytest

from common.core.errors import Reason
from common.transfer.host import read_host
from common.transfer.menu import ChannelMenu
from common.transfer.messages import OutcomeState
from common.transfer.plan import split_layers
from tests.transfer.rig import REQUEST, UNHURRIED, finale, page_bytes, rigged
from tests.transfer.test_channel_conformance import NOTICED_S, make_factory
from tests.transfer.test_layers import LAYERED, NUM_LAYERS, layered, part_data, run_of


@pytest.mark.parametrize("channel", ["gloo", "same_host", "loopback"])  # NCCL's fake joins no two endpoints
@pytest.mark.parametrize("is_cut_short", [False, True])
async def test_every_channel_carries_layers_and_tells_when_they_end(channel: str, is_cut_short: bool) -> None:
    """The sender's end amid the layers reaches the receiver long before any deadline."""
    async with rigged(limits=UNHURRIED) as rig:
        made = make_factory(channel)
        menu = [ChannelMenu(made, host=read_host()) for _ in range(2)]
        prefill = await rig.add("p", layout=LAYERED, channels=menu[0])
        decode = await rig.add("d", layout=LAYERED, channels=menu[1])
        sink, transfer_id = layered(decode, 4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        low, high = split_layers(run_of(0, 4), num_layers=NUM_LAYERS, num_groups=2)
        await transfer.ship(low, part_data(low))
        if is_cut_short:
            transfer.abort(Reason.CANCELLED)
            async with asyncio.timeout(NOTICED_S):
                while not sink.failures:
                    await asyncio.sleep(0.01)
            assert (await decode.outcome(transfer.ref, 0.0, None)).state is OutcomeState.FAILED
        else:
            await transfer.finish(finale(4), high, part_data(high))
            assert (await transfer.wait_outcome(NOTICED_S)).state is OutcomeState.DONE
            assert sink.pages == {index: page_bytes(index) for index in range(4)}
