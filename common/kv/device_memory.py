"""Memory of the device that holds the pages: a span of it as a tensor, a list brought there, and none left.

Legend: B bytes of a span, N numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch

from common.core.errors import Reason, TransferFailed
from common.kv.span import DeviceSpan


def tensor_of(span: DeviceSpan, device: torch.device) -> torch.Tensor:
    """bytes_B of the span where they lie, without a copy; valid as long as the memory is."""
    if device.type == "cuda":
        bytes_B = torch.as_tensor(span, device=device)
        # Memory of another device would be copied, and nobody would see what is written to the copy.
        assert bytes_B.data_ptr() == span.address, f"{span} does not lie on {device}"
        return bytes_B
    # numpy knows the same description by another name.
    return torch.from_numpy(np.asarray(SimpleNamespace(__array_interface__=span.__cuda_array_interface__)))


def listed_on(device: torch.device, numbers: Sequence[int]) -> torch.Tensor:
    """numbers_N on the device, without waiting for it: from memory that it reads by itself."""
    listed_N = torch.tensor(numbers, dtype=torch.int64)
    return listed_N.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else listed_N


@contextmanager
def memory_for(device: torch.device, what: str) -> Iterator[None]:
    """A GPU that is full is no broken GPU: what wanted memory inside fails, and nothing else. Raises TransferFailed."""
    try:
        yield
    except torch.OutOfMemoryError:
        message = f"{device} has no memory for {what}: lower engine.memory_fraction"
        raise TransferFailed(message=message, reason=Reason.MEMORY_PRESSURE) from None
