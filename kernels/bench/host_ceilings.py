"""What this machine's processors reach today: ceilings.py for a CPU. It sets the threads of its process."""

from collections.abc import Callable

import torch
from torch import Tensor

from kernels.bench.ceilings import Ceilings
from kernels.linear import linear, prepare
from kernels.threads import use_threads

MOVED_BYTES = 2**29
"""Chosen: beyond the caches that one machine's cores share, and a tenth of a second on a slow one."""

MATRIX = 2048
REPEATS = 5


def host_ceilings(
    dtype: torch.dtype,
    *,
    num_threads: int,
    now: Callable[[], float],
    moved_bytes: int = MOVED_BYTES,
    matrix: int = MATRIX,
) -> Ceilings:
    """The best run of the best way, where a GPU's are medians: others use these cores, and what is passed is no bound.

    Bytes by a copy, and by a product with one vector, which only reads; operations by torch's product and by our own.
    """
    with torch.inference_mode():
        torch.set_num_threads(num_threads)
        bytes_per_s = _moved_per_s(torch.ones(moved_bytes // 4 // matrix, matrix), now)
        a, b = torch.randn(2, matrix, matrix).to(dtype)
        product_s = _best_s(lambda: torch.mm(a, b), now)
        use_threads(num_threads)
        weight = prepare(b)
        product_s = min(product_s, _best_s(lambda: linear(a, weight), now))
    return Ceilings(bytes_per_s=bytes_per_s, flops_per_s=2 * matrix**3 / product_s)


def _moved_per_s(source: Tensor, now: Callable[[], float]) -> float:
    target, vector, result = torch.empty_like(source), torch.ones(source.shape[1]), torch.empty(len(source))
    copied_s = _best_s(lambda: target.copy_(source), now)
    read_s = _best_s(lambda: torch.mv(source, vector, out=result), now)
    return max(2 * source.nbytes / copied_s, source.nbytes / read_s)


def _best_s(run: Callable[[], object], now: Callable[[], float]) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        began = now()
        run()
        times.append(now() - began)
    return min(times)
