"""What this device reaches today: shares are of these, not of a data sheet."""

from dataclasses import dataclass

import torch

from kernels.bench.stopwatch import measure

COPY_BYTES = 2**30
MATRIX = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Bytes read and written per second by a large copy; operations per second of a large matrix product."""

    bytes_per_s: float
    flops_per_s: float

    def bound_s(self, num_bytes: int, flops: int) -> float:
        """Seconds that no version can undercut by much."""
        return max(num_bytes / self.bytes_per_s, flops / self.flops_per_s)


def measured_ceilings(device: torch.device, repeats: int, dtype: torch.dtype = torch.bfloat16) -> Ceilings:
    """Of random numbers: zeros multiply faster. `dtype`: of the matrices."""
    source = torch.randint(0, 127, (COPY_BYTES,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copied = measure(lambda _: target.copy_(source), device, repeats)
    a, b = torch.randn(2, MATRIX, MATRIX, device=device).to(dtype)
    product = torch.empty_like(a)
    multiplied = measure(lambda _: torch.mm(a, b, out=product), device, repeats)
    return Ceilings(bytes_per_s=2 * COPY_BYTES / copied.seconds, flops_per_s=2 * MATRIX**3 / multiplied.seconds)
