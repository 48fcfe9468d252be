"""Rows of a step and the pages that they lie in, as the parts of the measurements make them."""

import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.spec import ModelSpec

PAGE_SIZE = 16
GREEDY = TokenSampling(temperature=0.0)


def step_row(place: int, start: int, count: int, pages: list[PageId]) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId(f"row-{place}")),
        tokens=tuple(TokenId((7 * position + place) % 500) for position in range(start, start + count)),
        start=start,
        pages=tuple(pages),
        samples=(Sample(seed=0, position=start + count, sampling=GREEDY),),
    )


def contexts(lengths: list[int]) -> list[list[PageId]]:
    """Pages of each context, in turns, so that no context lies in one piece."""
    free = iter(range(sum(-(-length // PAGE_SIZE) for length in lengths)))
    tables: list[list[PageId]] = [[] for _ in lengths]
    while any(len(table) * PAGE_SIZE < length for table, length in zip(tables, lengths, strict=True)):
        for table, length in zip(tables, lengths, strict=True):
            if len(table) * PAGE_SIZE < length:
                table.append(PageId(next(free)))
    return tables


def storage_for(spec: ModelSpec, dtype: str, num_pages: int, device: torch.device) -> TorchStorage:
    layout = spec.page_layout(page_size=PAGE_SIZE, dtype=dtype, model_digest=b"")
    return TorchStorage(layout, num_pages, device, has_scratch=True)


def eager(decoder: Decoder, storage: TorchStorage, rows: list[StepRow]) -> Tensor:
    """Logits of a step as it comes."""
    return decoder.forward(ragged_tokens(rows, storage.kv_PL2HSD), storage.kv_PL2HSD)
