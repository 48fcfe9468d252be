"""Where this process runs, in words that another process can compare with its own."""

import os
from pathlib import Path

from common.transfer.messages import GpuFacts, HostFacts

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACES = Path("/proc/self/ns")


def read_host(gpu: GpuFacts | None = None) -> HostFacts | None:
    """`gpu`: where this process keeps its pages, if not in host memory. None where the system does not say: channels
    that need a common host are not offered then."""
    try:
        return HostFacts(
            boot_id=BOOT_ID.read_text().strip(),
            network_namespace=_namespace("net"),
            user=os.geteuid(),
            ipc_namespace=_namespace("ipc"),
            pid_namespace=_namespace("pid"),
            gpu=gpu,
        )
    except OSError:
        return None


def _namespace(name: str) -> int:
    """Its number: one per namespace, for as long as the machine runs."""
    return (NAMESPACES / name).stat().st_ino
