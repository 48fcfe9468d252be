"""What NCCL, and torch around it, read from the environment: written before the first communicator is made."""

import math

from common.config.environment import environment, put, set_defaults
from common.transfer.interface import find_interface

GUARDS = {
    # No watchdog takes the process down: a lost peer is the channel's business, and costs one pair.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "TORCH_NCCL_RETHROW_CUDA_ERRORS": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
    "TORCH_NCCL_DESYNC_DEBUG": "0",
    "TORCH_NCCL_PROPAGATE_ERROR": "0",
    "TORCH_NCCL_BLOCKING_WAIT": "0",
    # Making a communicator can be given up, instead of waiting for ever for a peer that does not come.
    "TORCH_NCCL_USE_COMM_NONBLOCKING": "1",
}
"""They win over what is set: images and clusters set others, for training, where a lost peer is to end the job."""
TUNING = {
    # One stream of large frames needs few channels, and each takes device memory.
    "NCCL_MAX_NCHANNELS": "8",
    "NCCL_CUMEM_ENABLE": "0",
}
"""What the operator has set stays."""


def prepare_environment(address: str, timeout_s: float) -> dict[str, str]:
    """What was set and is overruled, by name.

    `address` is where the data plane is: NCCL's sockets, too, are neither encrypted nor authenticated, and left to
    itself it takes an interface of its own choice. `timeout_s` is the longest opening.
    """
    # Whole seconds: how long torch waits for a communicator that is made without blocking.
    guards = {**GUARDS, "TORCH_NCCL_NONBLOCKING_TIMEOUT": str(math.ceil(timeout_s))}
    before = environment()
    put(guards)
    interface = find_interface(address)
    set_defaults(TUNING if interface is None else {**TUNING, "NCCL_SOCKET_IFNAME": f"={interface}"})
    return {name: before[name] for name, value in guards.items() if before.get(name, value) != value}
