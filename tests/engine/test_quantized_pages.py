"""Eight-bit pages: a request's tokens are its own in any batch, chunking and worker, natively and with torch."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from common.core.clock import ManualClock
from common.engine.torch_executor import TorchExecutor
from common.model.load import load_model
from kernels.dispatch import Kernels, choose
from models.build.random_weights import write_random_model
from models.build.shape import WeightType
from tests.engine.torch_rig import SHAPE, TorchRig, Walker

PROMPT = [7 * index % 500 for index in range(150)]


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["int8", "fp8"])
def kv_dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rig(dtype: str, kv_dtype: str) -> TorchRig:
    return TorchRig(dtype=dtype, kv_dtype=kv_dtype)


def test_tokens_are_the_same_alone_in_chunks_and_in_a_crowd(dtype: str, kv_dtype: str) -> None:
    alone = rig(dtype, kv_dtype)
    expected = alone.generate(alone.walker("a", PROMPT), 12)
    chunked = rig(dtype, kv_dtype)
    assert chunked.generate(chunked.walker("a", PROMPT), 12, chunk=37) == expected
    crowd = rig(dtype, kv_dtype)
    walkers = [crowd.walker(str(number), PROMPT[: len(PROMPT) - 9 * number]) for number in range(5)]
    for _ in range(12):
        crowd.advance(*walkers)
    assert walkers[0].tokens[-12:] == expected


def test_pages_of_another_worker_go_on_with_the_same_tokens(dtype: str, kv_dtype: str) -> None:
    """Prefill here, decode there: the bytes of the pages, scales among them, are all that travels."""
    here, there = rig(dtype, kv_dtype), rig(dtype, kv_dtype)
    walker = here.walker("a", PROMPT)
    here.advance(walker)
    buffer = bytearray(len(walker.pages) * here.storage.layout.page_bytes)
    here.storage.gather(walker.pages, memoryview(buffer))
    landed = there.walker("a", walker.tokens)
    there.row(Walker(name="b", tokens=landed.tokens[:20]))  # its pages are others than here
    there.row(landed)
    there.storage.scatter(landed.pages[: len(walker.pages)], memoryview(buffer))
    landed.num_computed = walker.num_computed
    assert there.generate(landed, 8) == here.generate(walker, 8)


def test_logits_are_near_those_over_full_pages(dtype: str, kv_dtype: str) -> None:
    full, eight = TorchRig(dtype=dtype), rig(dtype, kv_dtype)
    prompts = [[(number * 31 + 7 * index) % 500 for index in range(60)] for number in range(20)]
    same = [
        full.generate(full.walker(str(number), prompt), 1) == eight.generate(eight.walker(str(number), prompt), 1)
        for number, prompt in enumerate(prompts)
    ]
    assert sum(same) >= 18, same


def test_native_and_torch_operators_store_the_same_bytes(kv_dtype: str) -> None:
    """Of the first layer, whose keys and values come from the same embeddings: later ones differ in their last bits."""
    pages = []
    for kernels in (Kernels.AUTO, Kernels.TORCH):
        choose(kernels)
        try:
            with TemporaryDirectory() as folder:
                write_random_model(Path(folder), SHAPE, seed=3, weight_type=WeightType.FP32)
                model = load_model(Path(folder), dtype="float32")
            own = rig("float32", kv_dtype)
            own.executor = TorchExecutor(model.decoder, own.storage, clock=ManualClock(), num_threads=1)
            walker = own.walker("a", PROMPT)
            own.advance(walker)
            pages.append(own.storage.kv_PL2HSD[walker.pages[:9], 0])
        finally:
            choose(Kernels.AUTO)
    mine, others = (each.view(torch.uint8).flatten(3) for each in pages)
    is_off = (mine != others)[..., : 16 * SHAPE.head_dim]
    assert is_off.float().mean() < 0.01  # projections differ in their last bits, and few numbers lie at an edge
