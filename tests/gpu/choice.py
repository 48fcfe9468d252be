"""Two processes on one GPU, and what would carry their pages: `python -m tests.gpu.choice [--out FILE] [--miniature]`.

NOT RUN YET on a GPU; `--miniature` is on a CPU, and says what two workers without a GPU would take. The child is given
the GPU by its UUID and the parent by its number: both must tell the same name. Then the table must choose CUDA IPC for
them and refuse NCCL, and NCCL itself is asked, for the table says only what it does by default. How long it takes to
say no is a hand-over's time, where the table does not say it first. Frames through both are other parts' business.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from common.core.errors import TransferFailed
from common.transfer.host import read_host
from common.transfer.messages import GpuFacts, HostFacts
from common.transfer.nccl_environment import GUARDS
from common.transfer.nccl_facts import read_gpu
from common.transfer.reach import device_memory_misfit, nccl_misfit
from tests.gpu.nccl_pair import PipeStore, open_end
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0
NCCL_S = 15.0
"""NCCL's first communicator of a process reads its library and looks at the machine."""


def facts_of(*, is_small: bool) -> HostFacts:
    host = read_host(None if is_small else read_gpu(0))
    assert host is not None, "this system does not say which host it is"
    return host


def host_to_json(host: HostFacts) -> bytes:
    told = asdict(host)
    if host.gpu is not None:
        told["gpu"]["peers"] = sorted(host.gpu.peers)
    return json.dumps(told).encode()


def host_from_json(data: bytes) -> HostFacts:
    told = json.loads(data)
    gpu = told.pop("gpu")
    facts = None if gpu is None else GpuFacts(**{**gpu, "peers": frozenset(gpu["peers"])})
    return HostFacts(**told, gpu=facts)


async def ask_nccl(store: PipeStore, *, is_sender: bool) -> dict[str, Any]:
    """What NCCL says to both ranks on one GPU. The process must live on, and so must the GPU's work in it."""
    started = time.perf_counter()
    try:
        channel, _ = await open_end(store, is_sender=is_sender, device=0, timeout_s=NCCL_S)
    except TransferFailed as error:
        found: dict[str, Any] = {"opens": False, "says": error.message, "reason": error.reason.value}
    else:
        await channel.close()
        found = {"opens": True}
    found["seconds"] = time.perf_counter() - started
    found["guards"] = all(os.environ.get(name) == value for name, value in GUARDS.items())
    found["gpu_works_afterwards"] = int((torch.arange(1000, device="cuda:0") * 2).sum()) == 999000
    return found


async def answer(*, is_small: bool) -> None:
    """The child: tells its facts, is the second rank, and goes when it is told to."""
    store = PipeStore(sys.stdin, sys.stdout)
    await store.put("facts", host_to_json(facts_of(is_small=is_small)))
    if not is_small:
        await store.put("nccl", json.dumps(await ask_nccl(store, is_sender=False)).encode())
    await store.get("over", wait_s=WAIT_S)
    store.close()


async def look(child: subprocess.Popen[str], *, is_small: bool) -> dict[str, Any]:
    store = PipeStore(child.stdout, child.stdin)
    here, told = facts_of(is_small=is_small), await store.get("facts", wait_s=WAIT_S)
    assert told is not None, "the child told nothing"
    there = host_from_json(told)
    found: dict[str, Any] = {
        "same_name": here.gpu == there.gpu,
        "cuda_ipc": device_memory_misfit(sender=here, receiver=there),
        "nccl": nccl_misfit(sender=here, receiver=there),
        "same_host": there.difference(here),
    }
    if not is_small:
        found["nccl_says"] = await ask_nccl(store, is_sender=True)
        said = await store.get("nccl", wait_s=NCCL_S + WAIT_S)
        found["nccl_says_there"] = None if said is None else json.loads(said)
    await store.put("over", b"")
    assert child.stdin is not None
    child.stdin.close()  # both read on threads, and each ends when the other has closed
    store.close()
    return found


def is_right(found: dict[str, Any], *, is_small: bool) -> bool:
    """Whether the table says what it should, and nobody was harmed by asking."""
    if is_small:
        return bool(found["same_host"] == "" and "host memory" in found["cuda_ipc"] and "host memory" in found["nccl"])
    asked = [found["nccl_says"], found["nccl_says_there"]]
    unharmed = all(end is not None and end["guards"] and end["gpu_works_afterwards"] for end in asked)
    return bool(found["same_name"] and found["cuda_ipc"] == "" and "two ranks on one" in found["nccl"] and unharmed)


def main() -> int:
    parser = part_parser(__doc__)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    if given.child:
        asyncio.run(answer(is_small=given.miniature))
        return 0
    command = [sys.executable, "-m", "tests.gpu.choice", "--child", *(["--miniature"] if given.miniature else [])]
    # By UUID, where the parent has a number.
    extra = {} if given.miniature else {"CUDA_VISIBLE_DEVICES": f"GPU-{read_gpu(0).uuid.removeprefix('GPU-')}"}
    child = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **extra}
    )
    try:
        found = asyncio.run(look(child, is_small=given.miniature))
        child.wait(timeout=WAIT_S)
    finally:
        child.kill()
        child.wait(timeout=WAIT_S)
    found["right"] = is_right(found, is_small=given.miniature)
    tell(found if given.miniature else {**conditions(device), **found}, given.out)
    return 0 if found["right"] else 1


if __name__ == "__main__":
    sys.exit(main())
