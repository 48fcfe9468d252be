"""What tells whether code would wait for a GPU, on a machine that has none."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("nonzero", "_local_scalar_dense", "_unique", "masked_select", "bincount", "repeat_interleave.Tensor")
"""Operators whose result, or its shape, the host needs."""


class NothingReadBack(TorchDispatchMode):
    """Within, such an operator fails: a recorded step may have none, and a step that is launched ahead neither."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(word in str(func) for word in WAITING), f"{func} waits for the device"
        if "index.Tensor" in str(func):
            assert all(index is None or index.dtype is not torch.bool for index in args[1]), "a mask of unknown count"
        return func(*args, **(kwargs or {}))
