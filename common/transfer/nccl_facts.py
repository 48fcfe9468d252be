"""What a GPU is called, and what it reaches, as torch tells it. NOT RUN ON ONE YET."""

import torch
import torch.distributed

from common.transfer.messages import GpuFacts

MAX_PEERS = 64
"""Chosen: above the GPUs of one machine."""


def read_gpu(device: int) -> GpuFacts:
    """`device` is this process's number. Of other GPUs only those are known that the process was given."""
    others = [other for other in range(min(torch.cuda.device_count(), MAX_PEERS)) if other != device]
    peers = {_uuid(other) for other in others if torch.cuda.can_device_access_peer(device, other)}
    return GpuFacts(uuid=_uuid(device), peers=frozenset(peers - {""}), nccl_version=_nccl_version())


def _uuid(device: int) -> str:
    """Empty where torch or the driver does not say."""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


def _nccl_version() -> str:
    if not hasattr(torch.distributed, "ProcessGroupNCCL"):
        return ""
    version: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return ".".join(str(part) for part in version)
