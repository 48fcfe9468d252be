"""Small tensors on their way between host and device, without waiting for what the device computes meanwhile.

What asks a GPU here was NOT RUN ON ONE YET.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """A host tensor on the device. From pageable memory a copy would wait until the device is idle."""
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """Numbers on their way to the host, in one pinned buffer, behind all that was launched so far.

    Floats travel as the bits of a double, which holds every one of them.
    """

    def __init__(self, parts: Sequence[Tensor], *, is_staged: bool | None = None) -> None:
        """Parts of one dimension. `is_staged` None: only from a GPU. A test may stage on a CPU, too."""
        is_on_gpu = parts[0].device.type == "cuda"
        self._parts = tuple(parts)
        self._packed: Tensor | None = None
        self._done: torch.cuda.Event | None = None
        if not (is_on_gpu if is_staged is None else is_staged):
            return
        packed = torch.cat([_bits(part) for part in parts])
        self._packed = torch.empty(packed.shape, dtype=torch.int64, pin_memory=is_on_gpu)
        self._packed.copy_(packed, non_blocking=True)
        if is_on_gpu:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def parts(self) -> list[Tensor]:
        """Every part as a host tensor, once all are there. Raises RuntimeError where the device failed."""
        if self._packed is None:
            return list(self._parts)
        if self._done is not None:
            self._done.synchronize()
        sizes = [len(part) for part in self._parts]
        return [
            own.view(torch.float64) if part.is_floating_point() else own
            for part, own in zip(self._parts, torch.split(self._packed, sizes), strict=True)
        ]


def _bits(part: Tensor) -> Tensor:
    return part.double().view(torch.int64) if part.is_floating_point() else part.to(torch.int64)
