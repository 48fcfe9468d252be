"""Every family: logits and greedy tokens equal those of another implementation, and narrower types stay near them.

Bars: fp32 max|difference| below 1e-4; 64 greedy tokens of 20 prompts identical, while prompts are read in chunks and
join a running batch one by one.
"""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.core.clock import ManualClock
from common.core.step import Step
from common.engine.torch_executor import TorchExecutor
from common.model.load import LoadedModel, load_model
from tests.oracle.families import FAMILIES, MAX_CONTEXT, write_family
from tests.oracle.jobs import Answers
from tests.oracle.test_oracle import logits, row, storage_for

pytestmark = pytest.mark.timeout(600)

TOLERANCE = 1e-4
HALF_TOLERANCE = 0.1
"""Of the largest logit. Random weights are harder on bf16 than trained ones; a wrong rule differs by all of it."""
CHUNK = 23


@cache
def loaded(folder: str, max_context: int | None, dtype: str) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(Path(folder), max_context=max_context, dtype=dtype)


def family(answers: Answers, name: str, dtype: str = "float32") -> LoadedModel:
    return loaded(answers.jobs[name].folder, MAX_CONTEXT.get(name), dtype)


def greedy(model: LoadedModel, prompts: tuple[tuple[int, ...], ...], num_tokens: int) -> list[list[int]]:
    """Greedy tokens after every prompt; one prompt joins per step and is read in chunks."""
    executor = TorchExecutor(model.decoder, storage_for(model, 64 * len(prompts)), clock=ManualClock())
    tokens, computed = [list(prompt) for prompt in prompts], [0] * len(prompts)
    joined = 0
    while running := [index for index, prompt in enumerate(prompts) if len(tokens[index]) < len(prompt) + num_tokens]:
        joined += 1
        own = [index for index in running if index < joined]
        ends = [min(len(tokens[index]), computed[index] + CHUNK) for index in own]
        rows = [row(index, tokens[index], computed[index], end) for index, end in zip(own, ends, strict=True)]
        result = executor.run(Step(rows=tuple(rows)))
        assert not result.failed
        for index, end, drawn in zip(own, ends, result.drawn, strict=True):
            computed[index] = end
            tokens[index] += [int(each) for each in drawn]
    return [own[len(prompt) :] for own, prompt in zip(tokens, prompts, strict=True)]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_every_family_equal_the_reference(family_answers: Answers, name: str) -> None:
    model = family(family_answers, name)
    for index, prompt in enumerate(family_answers.jobs[name].prompts):
        difference = float((logits(model, prompt) - family_answers.logits(name, index)).abs().max())
        assert difference < TOLERANCE, f"prompt {index} of {len(prompt)} tokens: {difference:.2e}"


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_of_every_family_equal_the_reference(family_answers: Answers, name: str) -> None:
    job = family_answers.jobs[name]
    written = greedy(family(family_answers, name), job.prompts, job.num_tokens)
    different = [index for index, own in enumerate(written) if own != family_answers.tokens(name, index)]
    assert not different, f"prompts {different}"


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_stays_near_the_reference(family_answers: Answers, name: str) -> None:
    """The model is run in bf16, pages too; the reference in fp32."""
    model = family(family_answers, name, "bfloat16")
    job = family_answers.jobs[name]
    for index in (0, len(job.prompts) - 1):
        expected = family_answers.logits(name, index)
        assert_near_half(logits(model, job.prompts[index]), expected)


@pytest.mark.parametrize("name", ["gemma3", "qwen3_moe"])
def test_fp16_weights_are_computed_in_fp32(tmp_path: Path, name: str) -> None:
    """`auto` takes the wider type, whose logits are those of the same numbers stored as fp32."""
    narrow = load_model(write_family(tmp_path / "narrow", name, torch.float16), dtype="auto")
    assert (narrow.dtype, narrow.description.stored_dtype) == ("float32", "float16")
    wide = load_model(write_family(tmp_path / "wide", name))
    assert_near_half(logits(narrow, (5, 6, 7, 8)), logits(wide, (5, 6, 7, 8)), tolerance=0.01)


def assert_near_half(actual: Tensor, expected: Tensor, tolerance: float = HALF_TOLERANCE) -> None:
    """Root mean square of the difference, relative to that of what is expected."""
    error = float((actual - expected).square().mean().sqrt() / expected.square().mean().sqrt())
    assert error < tolerance, f"relative difference {error:.3f}"
