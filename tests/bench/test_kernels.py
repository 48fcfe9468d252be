"""`baton bench kernels` where there is no GPU: a sentence, not a trace; its figures are tested in tests/kernels/gpu."""

import pytest
import torch

from common.core.clock import ManualClock
from common.core.errors import StartupError
from services.local.bench.kernels import measure_kernels


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so() -> None:
    with pytest.raises(StartupError, match="no NVIDIA GPU"):
        measure_kernels("", 2, None, ManualClock())
