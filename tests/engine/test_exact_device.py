"""An exact process on a GPU: a token's bits, whoever is beside it and however its context was cut. Interpreted."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import Sample, StepRow
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from kernels import dispatch
from tests.engine.torch_rig import GREEDY
from tests.gpu.random_decoder import llama, random_decoder

ONE_LAYER = llama(hidden=32, layers=1, heads=(2, 1), dim=16, inner=48, vocab=64)
PAGE_SIZE = 16


@pytest.fixture(autouse=True)
def exact_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.setattr(dispatch, "_is_exact", True)
    with dispatch.interpreted(), torch.inference_mode():
        yield


def row(name: str, start: int, end: int, first_page: int) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId(name)),
        tokens=tuple(TokenId((7 * place + first_page) % 60) for place in range(start, end)),
        start=start,
        pages=tuple(PageId(first_page + page) for page in range(-(-end // PAGE_SIZE))),
        samples=(Sample(seed=0, position=end, sampling=GREEDY),),
    )


def logits(decoder: Decoder, *steps: list[StepRow]) -> Tensor:
    """Of the first row of the last step, after all steps over fresh pages."""
    layout = decoder.spec.page_layout(page_size=PAGE_SIZE, dtype="float32", model_digest=b"")
    kv = TorchStorage(layout, 8).kv_PL2HSD
    found = [decoder.forward(ragged_tokens(rows, kv), kv) for rows in steps]
    return found[-1][0]


def test_the_same_token_has_the_same_logits_alone_beside_others_in_chunks_and_in_a_decode_step() -> None:
    decoder = random_decoder(ONE_LAYER, dtype=torch.float32, device=torch.device("cpu"), max_context=64)
    alone = logits(decoder, [row("r", 0, 20, 0)])
    assert torch.equal(alone, logits(decoder, [row("r", 0, 20, 0), row("other", 0, 19, 4)])), "beside another"
    assert torch.equal(alone, logits(decoder, [row("r", 0, 17, 0)], [row("r", 17, 20, 0)])), "in two chunks"
    decoded = logits(decoder, [row("r", 0, 19, 0)], [row("r", 19, 20, 0), row("other", 0, 3, 4)])
    assert torch.equal(alone, decoded), "read, then written"
