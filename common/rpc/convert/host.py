"""Where a worker runs, spelt in protobuf."""

from collections.abc import Iterable

from common.rpc.convert.fields import require
from common.transfer.messages import GpuFacts, HostFacts
from protos.baton.v1 import kv_pb2

MAX_NAME = 256
MAX_PEERS = 64
"""Chosen: above the GPUs of one machine."""


def host_to_wire(host: HostFacts) -> kv_pb2.HostFacts:
    message = kv_pb2.HostFacts(
        boot_id=host.boot_id,
        network_namespace=host.network_namespace,
        user=host.user,
        ipc_namespace=host.ipc_namespace,
        pid_namespace=host.pid_namespace,
    )
    if host.gpu is not None:
        gpu = host.gpu
        facts = kv_pb2.GpuFacts(uuid=gpu.uuid, peers=sorted(gpu.peers)[:MAX_PEERS], nccl_version=gpu.nccl_version)
        message.gpu.CopyFrom(facts)
    return message


def host_from_wire(message: kv_pb2.HostFacts) -> HostFacts:
    """Raises InvalidRequest for names that are longer, or more, than names are."""
    gpu = message.gpu
    _require_names((message.boot_id,), "meet.host.boot_id")
    _require_names((gpu.uuid, gpu.nccl_version, *gpu.peers), "meet.host.gpu")
    require(len(gpu.peers) <= MAX_PEERS, "meet.host.gpu.peers", f"{len(gpu.peers)} GPUs, at most {MAX_PEERS}")
    facts = GpuFacts(uuid=gpu.uuid, peers=frozenset(gpu.peers), nccl_version=gpu.nccl_version)
    return HostFacts(
        boot_id=message.boot_id,
        network_namespace=message.network_namespace,
        user=message.user,
        ipc_namespace=message.ipc_namespace,
        pid_namespace=message.pid_namespace,
        gpu=facts if message.HasField("gpu") else None,
    )


def _require_names(names: Iterable[str], field: str) -> None:
    for name in names:
        require(len(name) <= MAX_NAME, field, f"{len(name)} characters, at most {MAX_NAME}")
