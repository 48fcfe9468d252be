"""One thread, so that results and times do not depend on what else the machine does; every library of this machine."""

from collections.abc import Iterator

import pytest
import torch

from kernels.cpu.library import Native, load_variant
from kernels.cpu.variants import usable_variants


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture(params=usable_variants(), ids=lambda variant: variant.name)
def native(request: pytest.FixtureRequest) -> Native:
    """Native operators, by each instruction set that this processor has."""
    loaded = load_variant(request.param)
    if loaded.native is None:
        pytest.skip(loaded.reason)
    return loaded.native
