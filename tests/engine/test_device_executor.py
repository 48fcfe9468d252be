"""An engine on the GPU's operators, in Triton's interpreter, draws the tokens that an engine on the CPU draws."""

from contextlib import nullcontext

import pytest
import torch

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling
from common.engine import torch_executor
from common.engine.buckets import Buckets
from common.engine.decode_graphs import DecodeGraphs
from common.engine.torch_executor import TorchExecutor
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted
from tests.engine.torch_rig import GREEDY, NAN_BYTE, TorchRig, small_model

DRAWN = TokenSampling(temperature=0.9, top_p=0.95, top_k=50)
TOLD = TokenSampling(temperature=0.7, min_p=0.02, logprobs=3)


def with_graphs(rig: TorchRig) -> None:
    """Give the rig an executor that replays decode steps, recorded as functions, over pages with a scratch page."""
    old = rig.executor
    rig.storage = TorchStorage(rig.storage.layout, rig.storage.num_pages, has_scratch=True)
    kv, scratch = rig.storage.kv_PL2HSD, rig.storage.scratch
    assert scratch is not None
    kv.view(torch.uint8).fill_(NAN_BYTE)
    graphs = DecodeGraphs(old._decoder, kv, scratch=scratch, buckets=Buckets(sizes=(1, 4)), record=lambda run: run)
    rig.executor = TorchExecutor(old._decoder, rig.storage, clock=old._clock, num_threads=1, graphs=graphs)


def generated(*, is_interpreted: bool, has_graphs: bool = False) -> tuple[list[list[TokenId]], list[TokenLogprobs]]:
    """Three sequences side by side: a prompt step, then two decode steps; tokens, and what was told with the last."""
    small_model.cache_clear()  # weights are laid out for the operators that multiply by them
    with interpreted() if is_interpreted else nullcontext():
        rig = TorchRig(num_pages=12)
        if has_graphs:
            with_graphs(rig)
        walkers = [
            rig.walker(f"{number}", range(5 + 9 * number), sampling=sampling, seeds=(number,))
            for number, sampling in enumerate((GREEDY, DRAWN, TOLD))
        ]
        results = [rig.advance(*walkers) for _ in range(3)]
    small_model.cache_clear()
    return [walker.tokens for walker in walkers], [told for row in results[-1].logprobs for told in row if told]


@pytest.mark.parametrize("has_graphs", [False, True], ids=["as-it-comes", "recorded"])
def test_generated_tokens_and_their_logprobs_are_the_cpus(has_graphs: bool) -> None:
    """Two decode steps of three rows, padded to four where they are recorded."""
    tokens, told = generated(is_interpreted=True, has_graphs=has_graphs)
    expected, expected_told = generated(is_interpreted=False)
    assert tokens == expected
    ((found,), (wanted,)) = told, expected_told
    assert (found.rank, found.top_ids) == (wanted.rank, wanted.top_ids)
    assert found.top_logprobs == pytest.approx(wanted.top_logprobs, abs=1e-4)


def test_a_token_beyond_the_vocabulary_fails_its_own_row_alone() -> None:
    """On a GPU such an id would end the process."""
    small_model.cache_clear()
    with interpreted():
        rig = TorchRig(num_pages=12)
        good, bad = rig.walker("good", [1, 2, 3]), rig.walker("bad", [1, 512])
        result = rig.step(rig.row(good), rig.row(bad))
    small_model.cache_clear()
    assert [bool(drawn) for drawn in result.drawn] == [True, False]


def test_a_gpu_that_fails_ends_the_process_instead_of_failing_row_after_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of its own a GPU computes nothing for this process, and no row is to blame."""
    rig = TorchRig(num_pages=12)

    def broken(_: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch_executor, "finish_on", broken)
    with pytest.raises(RuntimeError, match="CUDA error"):
        rig.step(rig.row(rig.walker("good", [1, 2, 3])), rig.row(rig.walker("bad", [1, 512])))
