"""The steps a GPU's memory is measured with."""

import pytest

from common.core.ids import PageId
from common.engine.rehearsal import rehearsal_pages, rehearsal_steps
from common.kv.layout import PageLayout
from tests.engine.torch_rig import TorchRig

LAYOUT = PageLayout(num_layers=3, num_kv_heads=2, head_dim=16, page_size=16, dtype="float32")


@pytest.mark.parametrize(
    ("num_tokens", "max_context", "lengths"),
    [(512, 4096, [512]), (512, 200, [200, 200, 112]), (400, 200, [200, 200]), (1, 1, [1])],
)
def test_prompts_fill_the_token_budget_and_no_context_is_exceeded(
    num_tokens: int, max_context: int, lengths: list[int]
) -> None:
    prompts, singles = rehearsal_steps(LAYOUT, num_tokens=num_tokens, num_rows=7, max_context=max_context)
    assert [len(row.tokens) for row in prompts.rows] == lengths
    assert [len(row.tokens) for row in singles.rows] == [1] * 7
    named = {page for step in (prompts, singles) for row in step.rows for page in row.pages}
    assert named == {
        PageId(page) for page in range(rehearsal_pages(LAYOUT, num_tokens=num_tokens, max_context=max_context))
    }


def test_an_executor_computes_them() -> None:
    rig = TorchRig(num_pages=rehearsal_pages(LAYOUT, num_tokens=70, max_context=50))
    for step in rehearsal_steps(LAYOUT, num_tokens=70, num_rows=3, max_context=50):
        result = rig.executor.run(step)
        assert not result.failed
        assert all(len(drawn) == 1 for drawn in result.drawn)
