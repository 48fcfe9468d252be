"""Staging of a worker on a GPU is made of memory that the GPU copies from and to by itself; the GPU is stood in for."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.config.config import Config
from common.config.sections.engine import EngineSection
from common.config.sections.transfer import TransferSection
from common.core.clock import ManualClock
from common.core.entropy import SeededEntropy
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import Role
from common.engine.device import pinned_memory
from common.kv.page_device import MAX_KEYS, key_bytes
from common.kv.staging import host_memory
from common.kv.torch_device import TorchPageDevice
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.transfer.loopback import LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.transfer.offload import InlineOffload
from common.worker import compute, engine, torch_engine
from common.worker.docking import build_dock, staged_bytes
from common.worker.node import WorkerNode
from common.worker.outside import Outside
from services.prefill.app import make_core
from tests.kv.host_page_device import HostPageDevice

CONFIG = Config(engine=EngineSection(executor="sim"), transfer=TransferSection(staging_count=3, staging_bytes=4096))


@pytest.mark.parametrize(("device", "memory"), [("cuda", pinned_memory), ("cpu", host_memory)])
def test_memory_is_pinned_where_pages_are_on_a_gpu(
    device: str, memory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SimpleNamespace(device=SimpleNamespace(type=device), streams=None, keys=None)
    executor = SimpleNamespace(storage=storage, news=None)
    monkeypatch.setattr(compute, "choose_kernels", lambda *_given: None)
    monkeypatch.setattr(torch_engine, "build_torch", lambda *_given, **_facts: (executor, ()))
    made = engine._torch(CONFIG, print, Role.PREFILL)
    assert made.make_buffer is memory
    assert isinstance(made.page_device, TorchPageDevice) == (device == "cuda")


def test_a_prefill_workers_staging_is_made_of_the_engines_memory() -> None:
    taken: list[int] = []

    def told(num_bytes: int) -> memoryview:
        taken.append(num_bytes)
        return host_memory(num_bytes)

    made = engine.build_engine(CONFIG, print, Role.PREFILL)
    assert made.make_buffer is host_memory
    make_core(CONFIG, replace(made, make_buffer=told), ManualClock(), SeededEntropy(1))
    assert taken == [4096] * 3


def test_where_pages_lie_on_a_gpu_what_leaves_is_staged_there() -> None:
    device = HostPageDevice()
    made = replace(engine.build_engine(CONFIG, print, Role.PREFILL), page_device=device)
    make_core(CONFIG, made, ManualClock(), SeededEntropy(1))
    assert len(device._buffers) == 3


def test_a_dock_takes_what_was_set_aside_for_it() -> None:
    device = HostPageDevice()
    dock = build_dock(device, CONFIG.transfer, host_memory)
    assert dock is not None
    assert (dock.incoming.count, dock.leaving.count) == (2, 1)
    assert sum(len(buffer) for buffer in device._buffers) == 3 * 4096
    assert build_dock(None, CONFIG.transfer, host_memory) is None


@pytest.mark.parametrize(("channel", "rings"), [("auto", 5 * 2), ("cuda_ipc", 5 * 2), ("nccl", 0), ("gloo", 0)])
def test_pages_are_counted_beside_all_that_transfers_may_take(channel: str, rings: int) -> None:
    """Staging, once more where pages are exported, rings of every pair that may open one, and keys of digests."""
    transfer = replace(CONFIG.transfer, channel=channel, max_communicators=5, ring_slots=2)
    keys = MAX_KEYS * key_bytes(1024)
    assert keys == MAX_KEYS * 2048
    assert staged_bytes(transfer, 1024, exports=False) == (3 + rings) * 4096 + keys
    assert staged_bytes(transfer, 1024, exports=True) == (6 + rings) * 4096 + keys


async def test_so_is_what_a_worker_receives_into() -> None:
    taken: list[int] = []

    def told(num_bytes: int) -> memoryview:
        taken.append(num_bytes)
        return host_memory(num_bytes)

    made = engine.build_engine(CONFIG, print, Role.PREFILL)
    clock, entropy, unused = ManualClock(), SeededEntropy(1), cast("Any", None)
    outside = Outside(
        clock=clock,
        entropy=entropy,
        connect=unused,
        make_server=unused,
        store=unused,
        channels=ChannelMenu(LoopbackNetwork(entropy)),
        offload=InlineOffload(),
        make_buffer=told,
    )
    WorkerNode(
        WorkerRef(WorkerId("p"), Epoch(1), "nowhere:1"),
        role=Role.PREFILL,
        config=CONFIG,
        layout=made.layout,
        core=make_core(CONFIG, made, clock, entropy),
        outside=outside,
        metrics=Metrics(ProcessRole.PREFILL),
    )
    assert taken == [4096] * 3
