"""Exact with native operators: a request's logits have the same bits alone, in any batch, chunked or whole, on any
number of threads and, in narrow types, on every instruction set."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.inputs import in_forward_order, ragged_tokens
from common.model.decoder import Decoder
from common.model.load import load_model
from kernels import dispatch
from kernels.cpu.library import Native, load_variant
from kernels.cpu.threads import set_native_threads
from kernels.cpu.variants import EMULATED_TILES, VARIANTS, Variant, usable_variants
from models.build.random_weights import write_random_model
from models.build.shape import ModelShape, WeightType

SHAPE = ModelShape(hidden=96, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, intermediate=160, vocab=320)
TYPES = ["float32", "bfloat16", "float16"]
BATCHES = (1, 2, 3, 5, 8, 13, 14, 15, 16, 17, 29, 33, 64)
PAGE_SIZE = 16
PROMPT = tuple((7 * number + 3) % SHAPE.vocab for number in range(75))
SAMPLE = Sample(seed=0, position=0, sampling=TokenSampling(temperature=0.0))
TESTED = [usable_variants()[0], VARIANTS[-1], EMULATED_TILES]
"""What this processor runs best, what runs everywhere, and what only newer ones have."""


@pytest.fixture(params=TESTED, ids=lambda variant: variant.name)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Native:
    return use(request.param, monkeypatch)


def use(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> Native:
    """This variant's operators, from now to the end of the test."""
    loaded = load_variant(variant)
    if loaded.native is None:
        pytest.skip(loaded.reason)
    monkeypatch.setattr(dispatch, "load", lambda: loaded)
    set_native_threads(loaded.native, 1)
    return loaded.native


@cache
def decoder(variant: str, dtype: str) -> Decoder:
    """Random weights, laid out for the variant in use; read once."""
    del variant  # It distinguishes what is remembered.
    with TemporaryDirectory() as folder, torch.inference_mode():
        write_random_model(Path(folder), SHAPE, seed=5, weight_type=WeightType.FP32)
        return load_model(Path(folder), dtype=dtype).decoder


class Pages:
    """Pages of NaN for many sequences, each with a page table of its own, far apart."""

    def __init__(self, model: Decoder, num_sequences: int) -> None:
        self.model = model
        self._columns = -(-len(PROMPT) // PAGE_SIZE)
        shape = (num_sequences * self._columns, SHAPE.num_layers, 2, SHAPE.num_kv_heads, PAGE_SIZE, SHAPE.head_dim)
        self._stride = num_sequences
        self.kv = torch.full(shape, torch.nan, dtype=model.dtype)

    def row(self, sequence: int, start: int, end: int) -> StepRow:
        """Tokens [start, end) of the prompt, wanting the logits after the last."""
        return StepRow(
            sequence=SequenceId(RequestId(str(sequence))),
            tokens=tuple(TokenId(token) for token in PROMPT[start:end]),
            start=start,
            pages=tuple(PageId(sequence + column * self._stride) for column in range(self._columns)),
            samples=(SAMPLE,),
        )

    def forward(self, rows: Sequence[StepRow]) -> Tensor:
        """logits_RV in the order of the rows."""
        order = in_forward_order(rows)
        with torch.inference_mode():
            tokens = ragged_tokens([rows[index] for index in order], self.kv)
            logits_RV = self.model.forward(tokens, self.kv)
        return logits_RV[torch.tensor(order).argsort()]


def alone(model: Decoder) -> Tensor:
    """The logits after the whole prompt, read in one go by nobody else."""
    return Pages(model, 1).forward([Pages(model, 1).row(0, 0, len(PROMPT))])[0]


@pytest.mark.parametrize("dtype", TYPES)
def test_chunks_of_any_size_give_the_bits_of_the_whole_prompt(library: Native, dtype: str) -> None:
    model = decoder(library.variant, dtype)
    expected = alone(model)
    assert torch.isfinite(expected).all()
    for size in (1, 2, 7, 16, 17, 33, 64):
        pages = Pages(model, 1)
        for start in range(0, len(PROMPT), size):
            logits_RV = pages.forward([pages.row(0, start, min(start + size, len(PROMPT)))])
        assert torch.equal(logits_RV[0], expected), f"chunks of {size}"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_among_others_has_the_bits_it_has_alone(library: Native, threads: int, dtype: str) -> None:
    """Decode rows of every batch size, and one that extends beside a neighbour's chunk."""
    model = decoder(library.variant, dtype)
    expected = alone(model)
    set_native_threads(library, threads)
    last = len(PROMPT) - 1
    for batch in BATCHES if library.variant == TESTED[0].name else (1, 3, 17):
        pages = Pages(model, batch)
        pages.forward([pages.row(sequence, 0, last) for sequence in range(batch)])
        logits_RV = pages.forward([pages.row(sequence, last, last + 1) for sequence in range(batch)])
        assert [row for row in range(batch) if not torch.equal(logits_RV[row], expected)] == []
    pages = Pages(model, 3)
    pages.forward([pages.row(0, 0, last), pages.row(1, 0, 20)])
    mixed_RV = pages.forward([pages.row(1, 20, len(PROMPT)), pages.row(0, last, last + 1), pages.row(2, 0, 31)])
    assert torch.equal(mixed_RV[0], expected)
    assert torch.equal(mixed_RV[1], expected)
    set_native_threads(library, 1)


@pytest.mark.parametrize("dtype", TYPES)
def test_pages_that_moved_to_another_worker_give_the_same_bits(library: Native, dtype: str) -> None:
    model = decoder(library.variant, dtype)
    last = len(PROMPT) - 1
    here, there = Pages(model, 4), Pages(model, 9)
    here.forward([here.row(2, 0, last)])
    there.kv[list(there.row(7, 0, 1).pages)] = here.kv[list(here.row(2, 0, 1).pages)]
    assert torch.equal(there.forward([there.row(7, last, last + 1)])[0], alone(model))


@pytest.mark.parametrize("dtype", TYPES)
def test_native_logits_are_those_of_torchs_operators(
    library: Native, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model through layers.py, in fp32: nothing is left out of the native call."""
    actual = alone(decoder(library.variant, dtype)).double()
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.TORCH)
    expected = alone(decoder("torch", "float32")).double()
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error < {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}[dtype]
