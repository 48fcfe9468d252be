"""Staging in a GPU's memory, as the configuration wants it, and how much of that memory transfers may take."""

from common.config.sections.transfer import TransferSection
from common.kv.page_device import MAX_KEYS, PageDevice, key_bytes
from common.kv.staging import MakeBuffer, StagingPool
from common.transfer.dock import Dock
from common.transfer.offload import ThreadOffload

WAITING_THREADS = 2
"""Chosen: one may wait for bytes whose step is not done, and others wait for the device no longer than it takes."""


def build_dock(device: PageDevice | None, transfer: TransferSection, make_host_buffer: MakeBuffer) -> Dock | None:
    """None where pages lie in the host's memory. Half of the buffers are for pushes and probes, as on a host. Raises
    StartupError where there is not enough memory."""
    if device is None:
        return None
    num_leaving = transfer.staging_count // 2
    size = transfer.staging_bytes
    return Dock(
        device=device,
        incoming=StagingPool(transfer.staging_count - num_leaving, size, make_buffer=device.make_buffer),
        leaving=StagingPool(num_leaving, size, make_buffer=device.make_buffer),
        make_host_buffer=make_host_buffer,
        offload=ThreadOffload(WAITING_THREADS),
    )


def staged_bytes(transfer: TransferSection, page_bytes: int, *, exports: bool) -> int:
    """Of the GPU's memory, before pages take theirs: a dock's, as much again in a worker that `exports` what it has
    read, the rings of as many CUDA IPC pairs as may send here, and what digests are made with."""
    staging = transfer.staging_count * transfer.staging_bytes * (2 if exports else 1)
    has_rings = transfer.channel in ("auto", "cuda_ipc")
    rings = transfer.max_communicators * transfer.ring_slots * transfer.staging_bytes if has_rings else 0
    return staging + rings + MAX_KEYS * key_bytes(page_bytes)
