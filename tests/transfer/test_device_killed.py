"""A receiver that is killed while its memory is copied into: two real processes, the device's memory is shared memory.

What CUDA does with memory whose owner died while it is mapped elsewhere was not run.
"""

import ctypes
import os
import signal
from dataclasses import dataclass

import pytest

from common.core.errors import TransferFailed
from common.kv.span import DeviceSpan
from common.transfer.messages import DeviceMemory, SameHostInvitation
from common.transfer.same_host.device import DeviceSendingEnd
from common.transfer.same_host.line import Line
from common.transfer.same_host.ring import adopt_ring
from common.transfer.same_host.sending import SendingEnd
from common.transfer.same_host.slots import adopt_slots
from tests.gpu.hand_over import receiver
from tests.gpu.host_runtime import HostRuntime
from tests.gpu.two_ends import PAIR, Words
from tests.steady.patient_loop import now

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


@dataclass(slots=True)
class FatalRuntime(HostRuntime):
    """Its copy stops half way until `victim` is gone, and then goes on: nobody tells a device."""

    victim: int = 0

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        half = num_bytes // 2
        ctypes.memmove(into, source, half)
        os.kill(self.victim, signal.SIGKILL)
        os.waitid(os.P_PID, self.victim, os.WEXITED | os.WNOWAIT)
        ctypes.memmove(into + half, source + half, num_bytes - half)


async def test_a_receiver_killed_amid_a_copy_is_noticed_and_its_memory_let_go() -> None:
    with receiver(is_small=True) as (shape, descriptor, line, words, grip):
        spoken = await Words.over(words)
        told = await spoken.hear()
        assert told is not None
        handle = bytes.fromhex(told["handle"])
        runtime = FatalRuntime(victim=int(handle.partition(b"/")[0]))
        invitation = SameHostInvitation(
            socket_name=b"",
            token=b"",
            num_slots=shape.num_slots,
            slot_bytes=shape.slot_bytes,
            device=DeviceMemory(device_uuid=b"", ipc_handle=handle),
        )
        slots = adopt_slots(runtime, invitation, grip)
        ring = adopt_ring(descriptor, PAIR, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
        os.close(descriptor)
        channel = DeviceSendingEnd(SendingEnd(ring, Line(line, PAIR)), slots)
        source = runtime.allocate(shape.slot_bytes)
        data = DeviceSpan(address=source, num_bytes=shape.slot_bytes, device=0)
        started = now()
        with pytest.raises(TransferFailed, match=r"is over|gone|closed"):
            await channel.send_device(0, data, timeout_s=10.0)
        assert now() - started < 2.0
        with pytest.raises(TransferFailed):
            await channel.send_device(1, data, timeout_s=10.0)
        await channel.close()
        assert list(runtime._memory) == [source], "the dead process's memory is still mapped"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(grip)
        runtime.free(source)
        spoken.close()
