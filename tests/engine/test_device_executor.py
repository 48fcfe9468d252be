"""An engine on the GPU's operators, in Triton's interpreter, draws the tokens that an engine on the CPU draws."""

from contextlib import nullcontext

import pytest

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling
from kernels.dispatch import interpreted
from tests.engine.torch_rig import GREEDY, TorchRig, small_model

DRAWN = TokenSampling(temperature=0.9, top_p=0.95, top_k=50)
TOLD = TokenSampling(temperature=0.7, min_p=0.02, logprobs=3)


def generated(*, is_interpreted: bool) -> tuple[list[list[TokenId]], list[TokenLogprobs]]:
    """Three sequences side by side: a prompt step, then two decode steps; tokens, and what was told with the last."""
    small_model.cache_clear()  # weights are laid out for the operators that multiply by them
    with interpreted() if is_interpreted else nullcontext():
        rig = TorchRig(num_pages=12)
        walkers = [
            rig.walker(f"{number}", range(5 + 9 * number), sampling=sampling, seeds=(number,))
            for number, sampling in enumerate((GREEDY, DRAWN, TOLD))
        ]
        results = [rig.advance(*walkers) for _ in range(3)]
    small_model.cache_clear()
    return [walker.tokens for walker in walkers], [told for row in results[-1].logprobs for told in row if told]


def test_generated_tokens_and_their_logprobs_are_the_cpus() -> None:
    tokens, told = generated(is_interpreted=True)
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
