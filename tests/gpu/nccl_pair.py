"""Two processes, one NCCL communicator: `python -m tests.gpu.nccl_pair [--mib 64] [--one-gpu]`. Prints one JSON object.

NOT RUN YET: it was written on a machine without a GPU. With one GPU (`--one-gpu`) both ranks are on it and each claims
to be a host of its own (NCCL_HOSTID), over loopback sockets: NCCL may refuse that, and then the object says how.

What is checked is what the conformance suite checks: bytes arrive as they left, a missed deadline and an abort end a
call, a killed peer costs the pair and not the process. What is measured: making a pair, its device memory, bytes per
second of device and of pinned host memory.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
CHILD_S = 60.0


class PipeStore:
    """The pair's store over the pipe between parent and child: `put` writes a line, `get` waits for one."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._writer = writer
        self._values: dict[str, bytes] = {}
        self._changed = asyncio.Condition()
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def put(self, key: str, value: bytes) -> None:
        line = json.dumps({"key": key, "value": value.hex()}) + "\n"
        await asyncio.to_thread(self._write, line)

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: key in self._values)
        except TimeoutError:
            return None
        return self._values[key]

    def close(self) -> None:
        self._reading.cancel()

    def _write(self, line: str) -> None:
        self._writer.write(line)
        self._writer.flush()

    async def _read(self, reader: Any) -> None:
        while line := await asyncio.to_thread(reader.readline):
            said = json.loads(line)
            async with self._changed:
                self._values[said["key"]] = bytes.fromhex(said["value"])
                self._changed.notify_all()


async def open_end(store: PipeStore, *, is_sender: bool, device: int, timeout_s: float = 30.0) -> tuple[Any, Any]:
    """The channel and its factory."""
    from common.core.ids import Epoch, WorkerId, WorkerRef
    from common.transfer.channel import Side
    from common.transfer.messages import Pair
    from common.transfer.nccl import NcclFactory
    from common.transfer.nccl_group import NcclMaker

    sender = WorkerRef(worker=WorkerId("p"), epoch=Epoch(1), address="p:1")
    receiver = WorkerRef(worker=WorkerId("d"), epoch=Epoch(2), address="d:1")
    pair = Pair(sender=sender, receiver=receiver, nonce=1, channel="nccl")
    factory = NcclFactory(NcclMaker(device, timeout_s=timeout_s), max_pairs=4, die=os._exit)
    side = Side.SENDER if is_sender else Side.RECEIVER
    return await factory.open(pair, side, store, timeout_s=timeout_s), factory


def span(tensor: Any) -> Any:
    from common.kv.span import DeviceSpan

    return DeviceSpan(address=tensor.data_ptr(), num_bytes=tensor.numel(), device=tensor.device.index)


def pattern(num_bytes: int, device: str) -> Any:
    import torch

    return (torch.arange(num_bytes, device=device) * 31 % 251).to(torch.uint8)


async def receive_all(num_mib: int, device: int) -> None:
    """The child: receives what the parent sends in the same order, and says whether it was right."""
    import torch

    store = PipeStore(sys.stdin, sys.stdout)
    channel, _ = await open_end(store, is_sender=False, device=device)
    wanted = pattern(num_mib * MIB, f"cuda:{device}")
    out = torch.zeros_like(wanted)
    for frame in range(5):
        await channel.receive_device(frame, span(out), timeout_s=30.0)
    await store.put("right/device", b"\1" if bool((out == wanted).all()) else b"\0")
    host = torch.zeros(num_mib * MIB, dtype=torch.uint8).pin_memory()
    for frame in range(5, 10):
        await channel.receive(frame, memoryview(host.numpy()), timeout_s=30.0)
    await store.put("right/host", b"\1" if bool((host == wanted.cpu()).all()) else b"\0")
    await asyncio.sleep(CHILD_S)  # to be killed, or to leave a deadline unmet


async def send_all(child: subprocess.Popen[str], num_mib: int) -> dict[str, object]:
    import torch

    found: dict[str, object] = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "frame_mib": num_mib,
    }
    store = PipeStore(child.stdout, child.stdin)
    started = time.perf_counter()
    channel, factory = await open_end(store, is_sender=True, device=0)
    found["open_s"] = time.perf_counter() - started
    found["communicator_mib"] = factory.num_bytes / MIB
    data = pattern(num_mib * MIB, "cuda:0")
    torch.cuda.synchronize()
    found["device_gb_s"] = await rate(lambda frame: channel.send_device(frame, span(data), timeout_s=30.0), 0, num_mib)
    found["device_right"] = await store.get("right/device", wait_s=10.0) == b"\1"
    host = data.cpu().pin_memory()
    view = memoryview(host.numpy())
    found["host_gb_s"] = await rate(lambda frame: channel.send(frame, view, timeout_s=30.0), 5, num_mib)
    found["host_right"] = await store.get("right/host", wait_s=10.0) == b"\1"
    found.update(await deadline(channel, data, child))
    await channel.close()
    found["open_after_close"] = factory.num_open
    torch.cuda.synchronize()
    found["device_works_afterwards"] = bool((data + 1 - 1 == data).all())
    store.close()
    return found


async def rate(send: Callable[[int], Any], first: int, num_mib: int) -> float:
    """The best of five frames, in GB/s."""
    best = 0.0
    for frame in range(first, first + 5):
        started = time.perf_counter()
        await send(frame)
        best = max(best, num_mib * MIB / (time.perf_counter() - started) / 1e9)
    return best


async def deadline(channel: Any, data: Any, child: subprocess.Popen[str]) -> dict[str, object]:
    """The peer is killed under a frame that nobody receives: the call must end at its deadline, by an abort."""
    from common.core.errors import TransferFailed

    child.send_signal(signal.SIGKILL)
    started = time.perf_counter()
    try:
        await channel.send_device(10, span(data), timeout_s=1.0)
    except TransferFailed as error:
        return {"killed_peer": error.reason.value, "killed_peer_s": time.perf_counter() - started}
    return {"killed_peer": "not noticed"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--one-gpu", action="store_true")
    parser.add_argument("--child", action="store_true")
    arguments = parser.parse_args()
    second = 0 if arguments.one_gpu else 1
    if arguments.child:
        asyncio.run(receive_all(arguments.mib, second))
        return
    extra: dict[str, str] = {}
    if arguments.one_gpu:
        extra = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_SOCKET_IFNAME": "lo"}
        os.environ.update({**extra, "NCCL_HOSTID": "baton-a"})
    command = [sys.executable, "-m", "tests.gpu.nccl_pair", "--child", "--mib", str(arguments.mib)]
    command += ["--one-gpu"] if arguments.one_gpu else []
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **extra, **({"NCCL_HOSTID": "baton-b"} if arguments.one_gpu else {})},
    )
    try:
        print(json.dumps(asyncio.run(send_all(child, arguments.mib))))
    except Exception as error:
        print(json.dumps({"not_run": f"{type(error).__name__}: {error}"[:500]}))
        raise
    finally:
        child.kill()
        child.wait(timeout=10)


if __name__ == "__main__":
    main()
