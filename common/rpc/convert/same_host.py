"""The one value that two ends of a same_host pair put into their rendezvous store, spelt in protobuf."""

from google.protobuf.message import DecodeError

from common.core.errors import InvalidRequest
from common.rpc.convert.fields import require
from common.transfer.messages import DeviceMemory, SameHostInvitation
from protos.baton.v1 import kv_pb2

TOKEN_BYTES = 32
IPC_HANDLE_BYTES = 64
"""The size of a cudaIpcMemHandle_t."""
MAX_SLOTS = 128
MAX_NAME = 100
"""Below the 107 bytes that the kernel takes for an abstract name."""


def invitation_to_bytes(invitation: SameHostInvitation) -> bytes:
    message = kv_pb2.SameHostInvitation(
        socket_name=invitation.socket_name,
        token=invitation.token,
        num_slots=invitation.num_slots,
        slot_bytes=invitation.slot_bytes,
    )
    if invitation.device is not None:
        device = kv_pb2.DeviceMemory(device_uuid=invitation.device.device_uuid, ipc_handle=invitation.device.ipc_handle)
        message.device.CopyFrom(device)
    return message.SerializeToString()


def invitation_from_bytes(data: bytes) -> SameHostInvitation:
    """Raises InvalidRequest for bytes that are no invitation, or one with numbers that make no ring."""
    try:
        message = kv_pb2.SameHostInvitation.FromString(data)
    except DecodeError:
        raise InvalidRequest(message="the rendezvous store holds no same_host invitation") from None
    require(0 < len(message.socket_name) <= MAX_NAME, "invitation.socket_name", "no abstract name")
    require(len(message.token) == TOKEN_BYTES, "invitation.token", f"{len(message.token)} bytes, not {TOKEN_BYTES}")
    require(0 < message.num_slots <= MAX_SLOTS, "invitation.num_slots", f"{message.num_slots} slots")
    require(message.slot_bytes > 0, "invitation.slot_bytes", "empty slots")
    device = None
    if message.HasField("device"):
        handle = message.device.ipc_handle
        require(len(handle) == IPC_HANDLE_BYTES, "invitation.device.ipc_handle", f"{len(handle)} bytes")
        device = DeviceMemory(device_uuid=message.device.device_uuid, ipc_handle=handle)
    return SameHostInvitation(
        socket_name=message.socket_name,
        token=message.token,
        num_slots=message.num_slots,
        slot_bytes=message.slot_bytes,
        device=device,
    )
