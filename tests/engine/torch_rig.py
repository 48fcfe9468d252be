"""A torch executor on a small random model, and sequences that walk through it one step at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from common.core.clock import ManualClock
from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import PageCopy, Sample, Step, StepResult, StepRow
from common.engine.torch_executor import TorchExecutor
from common.kv.torch_storage import TorchStorage
from common.model.load import LoadedModel, load_model
from models.build.random_weights import write_random_model
from models.build.shape import ModelShape, WeightType

SHAPE = ModelShape(hidden=96, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=16, intermediate=160, vocab=512)
GREEDY = TokenSampling(temperature=0.0)
NAN_BYTE = 0xFF
"""A number of nothing but these is NaN in every float type, and so is the scale of an eight-bit page."""


@cache
def small_model(dtype: str = "float32") -> LoadedModel:
    """Three layers, three query heads per key-value head, vocabulary 512. Read once per test process."""
    with TemporaryDirectory() as folder:
        write_random_model(Path(folder), SHAPE, seed=3, weight_type=WeightType.FP32)
        return load_model(Path(folder), dtype=dtype)


@dataclass(slots=True)
class Walker:
    """One sequence: its tokens so far, and the pages it was given."""

    name: str
    tokens: list[TokenId]
    pages: list[PageId] = field(default_factory=list)
    num_computed: int = 0
    sampling: TokenSampling = GREEDY
    seeds: tuple[int, ...] = (0,)


class TorchRig:
    """Pages start as NaN: whoever reads a slot that nobody wrote gets no finite logits."""

    def __init__(
        self, *, num_pages: int = 400, page_size: int = 16, dtype: str = "float32", kv_dtype: str | None = None
    ) -> None:
        model = small_model(dtype)
        layout = model.decoder.spec.page_layout(page_size=page_size, dtype=kv_dtype or dtype, model_digest=b"")
        self.storage = TorchStorage(layout, num_pages)
        self.storage.kv_PL2HSD.view(torch.uint8).fill_(NAN_BYTE)
        self.executor = TorchExecutor(model.decoder, self.storage, clock=ManualClock(), num_threads=1)
        self._free = [PageId(page) for page in reversed(range(num_pages))]

    def walker(self, name: str, tokens: Sequence[int], shared: Sequence[PageId] = (), **facts: object) -> Walker:
        """A sequence whose first pages, all full, are `shared`: a cached prefix."""
        computed = len(shared) * self.storage.layout.page_size
        own = [TokenId(token) for token in tokens]
        return Walker(name=name, tokens=own, pages=list(shared), num_computed=computed, **facts)  # type: ignore[arg-type]

    def row(self, walker: Walker, count: int | None = None) -> StepRow:
        """The next `count` tokens without KV, all by default; samples when they reach the end."""
        end = len(walker.tokens) if count is None else min(walker.num_computed + count, len(walker.tokens))
        while len(walker.pages) * self.storage.layout.page_size < end:
            walker.pages.append(self._free.pop())
        samples = tuple(Sample(seed=seed, position=end, sampling=walker.sampling) for seed in walker.seeds)
        return StepRow(
            sequence=SequenceId(RequestId(walker.name)),
            tokens=tuple(walker.tokens[walker.num_computed : end]),
            start=walker.num_computed,
            pages=tuple(walker.pages),
            samples=samples if end == len(walker.tokens) else (),
        )

    def step(self, *rows: StepRow, copies: tuple[PageCopy, ...] = ()) -> StepResult:
        return self.executor.run(Step(rows=rows, copies=copies))

    def advance(self, *walkers: Walker, count: int | None = None) -> StepResult:
        """One step for all walkers; a drawn token is appended."""
        rows = [self.row(walker, count) for walker in walkers]
        result = self.step(*rows)
        for walker, row, drawn in zip(walkers, rows, result.drawn, strict=True):
            walker.num_computed = row.end
            walker.tokens += drawn[:1]
        return result

    def generate(self, walker: Walker, num_tokens: int, chunk: int | None = None) -> list[TokenId]:
        """Tokens of a sequence on its own."""
        end = len(walker.tokens) + num_tokens
        while len(walker.tokens) < end:
            self.advance(walker, count=chunk)
        return walker.tokens[-num_tokens:]

    def kv(self, walker: Walker) -> torch.Tensor:
        """Keys and values of the computed tokens, (layers, 2, heads, tokens, head dim)."""
        pages = self.storage.kv_PL2HSD[list(walker.pages)]
        return pages.permute(1, 2, 3, 0, 4, 5).flatten(3, 4)[:, :, :, : walker.num_computed]
