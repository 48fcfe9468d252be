"""The extend budget keeps time between tokens, and never starves a local prompt."""

from services.decode.budget import ExtendBudget


def budget() -> ExtendBudget:
    return ExtendBudget(itl_budget_s=0.050, ceiling=64, floor=8)


def test_the_ceiling_applies_before_anything_was_measured() -> None:
    assert budget().tokens == 64


def test_expensive_tokens_shrink_the_share_of_local_prompts() -> None:
    learning = budget()
    learning.observe(num_decoding=8, num_extended=0, seconds=0.030)
    learning.observe(num_decoding=8, num_extended=10, seconds=0.040)
    assert learning.tokens == 20


def test_a_step_that_is_already_too_slow_still_leaves_the_floor() -> None:
    learning = budget()
    learning.observe(num_decoding=8, num_extended=0, seconds=0.080)
    learning.observe(num_decoding=8, num_extended=10, seconds=0.180)
    assert learning.tokens == 8
