"""Logits and greedy tokens equal those of another implementation, however the executor is asked for them.

Bars: fp32 max|difference| / max|reference| below 1e-4; 64 greedy tokens of 20 prompts identical. The cluster's share of
this (batch scheduling, hand-over, preemption by the scheduler) is tested where those live.
"""

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.core.clock import ManualClock
from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, Step, StepRow
from common.engine.inputs import ragged_tokens
from common.engine.torch_executor import TorchExecutor
from common.kv.torch_storage import TorchStorage
from common.model.load import LoadedModel, load_model
from kernels.wanted_rows import all_rows
from tests.oracle.jobs import DEMO, GREEDY_LENGTHS, PAGE_SIZE, SCRIPT, VARIANTS, Answers

pytestmark = pytest.mark.timeout(600)

TOLERANCE = 1e-4
NUM_TOKENS = 64
PROMPTS = range(len(GREEDY_LENGTHS))
GREEDY = TokenSampling(temperature=0.0)


@cache
def loaded(folder: str) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(Path(folder))


def storage_for(model: LoadedModel, num_pages: int) -> TorchStorage:
    """Pages of NaN."""
    layout = model.decoder.spec.page_layout(page_size=PAGE_SIZE, dtype=model.dtype, model_digest=b"")
    storage = TorchStorage(layout, num_pages)
    storage.kv_PL2HSD.fill_(float("nan"))
    return storage


def row(prompt: int, tokens: list[int], start: int, end: int) -> StepRow:
    """Tokens start to end of one prompt's sequence, whose pages are its own thousand's share; draws at the end."""
    pages = tuple(PageId(prompt * 64 + page) for page in range(-(-end // PAGE_SIZE)))
    sample = Sample(seed=0, position=end, sampling=GREEDY)
    return StepRow(
        sequence=SequenceId(RequestId(f"r{prompt}")),
        tokens=tuple(TokenId(token) for token in tokens[start:end]),
        start=start,
        pages=pages,
        samples=(sample,) if end == len(tokens) else (),
    )


def logits(model: LoadedModel, prompt: tuple[int, ...]) -> Tensor:
    """Logits after every token of a prompt."""
    storage = storage_for(model, 64)
    tokens = ragged_tokens([row(0, list(prompt), 0, len(prompt))], storage.kv_PL2HSD)
    with torch.inference_mode():
        every = all_rows(tokens.rows, len(prompt), storage.device)
        return model.decoder.forward(replace(tokens, wanted=every), storage.kv_PL2HSD)


def assert_near(actual: Tensor, expected: Tensor) -> None:
    error = float((actual - expected).abs().max() / expected.abs().max())
    assert error < TOLERANCE, f"relative difference {error:.2e}"


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_of_every_kind_of_model_equal_the_reference(answers: Answers, name: str) -> None:
    job = answers.jobs[name]
    for index, prompt in enumerate(job.prompts):
        assert_near(logits(loaded(job.folder), prompt), answers.logits(name, index))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_of_the_demo_model_equal_the_reference(answers: Answers, prompt: int) -> None:
    assert_near(logits(loaded(str(DEMO)), answers.jobs["demo"].prompts[prompt]), answers.logits("demo", prompt))


class Sequences:
    """The demo model's prompts, walked through an executor in one way or another."""

    def __init__(self, answers: Answers) -> None:
        model = loaded(str(DEMO))
        self.executor = TorchExecutor(model.decoder, storage_for(model, 64 * len(PROMPTS)), clock=ManualClock())
        self.tokens = [list(prompt) for prompt in answers.jobs["demo"].prompts]
        self.computed = [0] * len(self.tokens)
        self.lengths = [len(tokens) + NUM_TOKENS for tokens in self.tokens]

    def step(self, prompts: list[int], chunk: int = 10_000) -> None:
        ends = {prompt: min(len(self.tokens[prompt]), self.computed[prompt] + chunk) for prompt in prompts}
        rows = [row(prompt, self.tokens[prompt], self.computed[prompt], end) for prompt, end in ends.items()]
        result = self.executor.run(Step(rows=tuple(rows)))
        assert not result.failed
        for prompt, drawn in zip(prompts, result.drawn, strict=True):
            self.computed[prompt] = ends[prompt]
            self.tokens[prompt] += drawn

    def unfinished(self, prompts: range) -> list[int]:
        return [prompt for prompt in prompts if len(self.tokens[prompt]) < self.lengths[prompt]]

    def assert_equal(self, answers: Answers) -> None:
        different = [
            f"prompt {prompt} of {GREEDY_LENGTHS[prompt]} tokens"
            for prompt in PROMPTS
            if self.tokens[prompt][-NUM_TOKENS:] != answers.tokens("demo", prompt)
        ]
        assert not different, "; ".join(different)


def test_greedy_tokens_alone_equal_the_reference(answers: Answers) -> None:
    sequences = Sequences(answers)
    for prompt in PROMPTS:
        while sequences.unfinished(range(prompt, prompt + 1)):
            sequences.step([prompt])
    sequences.assert_equal(answers)


def test_greedy_tokens_in_one_batch_equal_the_reference(answers: Answers) -> None:
    """One sequence joins per step, so that long extends share steps with decodes."""
    sequences = Sequences(answers)
    joined = 0
    while waiting := sequences.unfinished(PROMPTS):
        joined += 1
        sequences.step([prompt for prompt in waiting if prompt < joined])
    sequences.assert_equal(answers)


@pytest.mark.parametrize("chunk", [5, 16, 100])
def test_greedy_tokens_after_chunked_prompts_equal_the_reference(answers: Answers, chunk: int) -> None:
    sequences = Sequences(answers)
    while waiting := sequences.unfinished(PROMPTS):
        sequences.step(waiting, chunk)
    sequences.assert_equal(answers)


def test_greedy_tokens_after_preemption_equal_the_reference(answers: Answers) -> None:
    """Half-way every sequence forgets its KV, its memory is poisoned, and it recomputes prompt and output in chunks."""
    sequences = Sequences(answers)
    for _ in range(NUM_TOKENS // 2):
        sequences.step(list(PROMPTS))
    sequences.executor.storage.kv_PL2HSD.fill_(float("nan"))
    sequences.computed = [0] * len(PROMPTS)
    while waiting := sequences.unfinished(PROMPTS):
        sequences.step(waiting, chunk=130)
    sequences.assert_equal(answers)


def test_the_reference_imports_nothing_of_this_repository() -> None:
    """It hides the four names before it imports the library: the comparison is with foreign code alone."""
    source = SCRIPT.read_text(encoding="utf-8")
    imported = {node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} == {"pathlib", "safetensors", "transformers"}
    assert source.index("sys.modules[name] = None") < source.index("from transformers")


def test_the_room_kernels_is_not_taken_for_the_distribution_of_that_name() -> None:
    """Where both are on the path, ours comes first, and transformers asks for a version, which ours does not have."""
    spec = importlib.util.find_spec("kernels")
    assert spec is not None
    assert Path(str(spec.origin)).parents[1] == Path(__file__).parents[2]
    asks = "from transformers.utils.import_utils import is_kernels_available as a; import kernels; print(a())"
    root = str(Path(__file__).parents[2])
    found = subprocess.run([sys.executable, "-c", asks], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
