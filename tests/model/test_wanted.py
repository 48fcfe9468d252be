"""What nobody reads is not computed, and nothing else changes by that: logits and pages keep their bits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model import layers
from common.model.load import load_model
from common.model.ragged import RaggedTokens
from common.model.stops import Stops
from kernels import dispatch
from kernels.attention import attention
from kernels.wanted_rows import WantedRows, all_rows
from tests.engine.torch_rig import NAN_BYTE
from tests.model.checkpoint import write_checkpoint

SANDWICH = {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 8, "query_pre_attn_scalar": 64}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {"attention_bias": True},
    "gemma2": {"architectures": ["Gemma2ForCausalLM"], **SANDWICH},
    "olmo2": {"architectures": ["Olmo2ForCausalLM"]},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"]},
    "granite": {"architectures": ["GraniteForCausalLM"], "residual_multiplier": 0.3, "logits_scaling": 4.0},
    "qwen3_moe": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "norm_topk_prob": True,
    },
}
"""Biases, norms on both sides and windows, norms behind half layers alone, norms of heads, a scaled stream, experts."""

PAGE_SIZE, NUM_PAGES = 8, 24
DRAW = Sample(seed=0, position=0, sampling=TokenSampling(temperature=0.0))


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=["native", "torch"])
def dtypes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Types whose rows are exact with these operators."""
    if request.param == "native":
        return ("float32", "bfloat16") if dispatch.native() is not None else ("float32",)
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.TORCH)
    return ("float32",)


def row(name: str, span: range, first_page: int, *, draws: bool = False, num_targets: int = 0) -> StepRow:
    """Tokens of one context on pages of its own."""
    tokens = tuple(TokenId((7 * place + 3 * first_page) % 300) for place in span)
    return StepRow(
        sequence=SequenceId(RequestId(name)),
        tokens=tokens,
        start=span.start,
        pages=tuple(PageId(first_page + page) for page in range(-(-span.stop // PAGE_SIZE))),
        samples=(DRAW,) if draws else (),
        targets=tokens[:num_targets],
    )


FIRST = [row("a", range(19), 0), row("b", range(9), 4), row("c", range(30), 6)]
"""Chunks whose end is not their prompt's: nobody reads a token of them."""
SECOND = [
    row("a", range(19, 20), 0, draws=True),
    row("d", range(21), 10, num_targets=21),
    row("b", range(9, 30), 4, draws=True),
    row("c", range(30, 33), 6),
    row("e", range(17), 14, draws=True, num_targets=16),
    row("f", range(12), 17, draws=True, num_targets=5),
]
"""One decodes; of the prompts one is scored amid itself, one read to its end, one amid itself, one scored to its end,
one scored in part and read to its end."""
PLACES = [0, *range(1, 22), 42, *range(46, 63), *range(63, 68), 74]


class Scene:
    """A model of one family, with pages of NaN."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.decoder = load_model(folder, dtype=dtype).decoder
        layout = self.decoder.spec.page_layout(page_size=PAGE_SIZE, dtype=dtype, model_digest=b"")
        self.storage = TorchStorage(layout, NUM_PAGES)
        self.storage.kv_PL2HSD.view(torch.uint8).fill_(NAN_BYTE)

    def tokens(self, rows: list[StepRow]) -> RaggedTokens:
        return ragged_tokens(rows, self.storage.kv_PL2HSD)

    def forward(self, tokens: RaggedTokens, stops: Stops | None = None) -> Tensor:
        return self.decoder.forward(tokens, self.storage.kv_PL2HSD, stops)

    def pages(self) -> Tensor:
        return self.storage.kv_PL2HSD.view(torch.uint8)


def every(tokens: RaggedTokens) -> RaggedTokens:
    """As if somebody read all of them."""
    return replace(tokens, wanted=all_rows(tokens.rows, len(tokens.tokens_T), tokens.tokens_T.device))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_has_the_bits_it_has_when_all_is_read(
    tmp_path: Path, family: str, dtypes: tuple[str, ...]
) -> None:
    """Chunks that end amid their prompts, then every kind of row beside each other; twice, once with all wanted."""
    folder = write_checkpoint(tmp_path, **FAMILIES[family])  # type: ignore[arg-type]  # changes to a config
    for dtype in dtypes:
        whole, narrow = Scene(folder, dtype), Scene(folder, dtype)
        whole.forward(every(whole.tokens(FIRST)))
        assert narrow.forward(narrow.tokens(FIRST)).shape == (0, narrow.decoder.spec.vocab_size)
        assert torch.equal(narrow.pages(), whole.pages())
        expected_RV = whole.forward(every(whole.tokens(SECOND)))[PLACES]
        found_RV = narrow.forward(narrow.tokens(SECOND))
        assert torch.isfinite(expected_RV).all()
        assert torch.equal(found_RV, expected_RV)
        assert torch.equal(narrow.pages(), whole.pages())


def test_the_last_layer_attends_for_what_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries of each layer's attention: all of the step's in the first, the wanted ones in the second, if any."""
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.TORCH)
    queries: list[int] = []

    def counting(q_THD: Tensor, *rest: Any) -> Tensor:
        queries.append(len(q_THD))
        return attention(q_THD, *rest)

    monkeypatch.setattr(layers, "attention", counting)
    scene = Scene(write_checkpoint(tmp_path), "float32")
    for rows in (FIRST, SECOND, [row("a", range(20, 21), 0, draws=True)]):
        scene.forward(scene.tokens(rows))
    assert queries == [58, 75, len(PLACES), 1, 1]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_forward_that_stops_on_its_way_narrows_at_its_end_alone(
    tmp_path: Path, num_layers: int, dtypes: tuple[str, ...]
) -> None:
    folder = write_checkpoint(tmp_path, num_hidden_layers=4)
    whole, stopped = Scene(folder, dtypes[0]), Scene(folder, dtypes[0])
    said: list[int] = []
    for rows in (FIRST, SECOND):
        expected_RV = whole.forward(whole.tokens(rows))
        stops = Stops(num_layers=num_layers, say=said.append)
        assert torch.equal(stopped.forward(stopped.tokens(rows), stops), expected_RV)
    assert said == 2 * list(range(num_layers, 5, num_layers))
    assert torch.equal(stopped.pages(), whole.pages())


@pytest.mark.parametrize("place", [-1, 19])
def test_a_wanted_token_that_is_not_there_is_refused(tmp_path: Path, place: int, dtypes: tuple[str, ...]) -> None:
    scene = Scene(write_checkpoint(tmp_path), dtypes[0])
    one = scene.tokens([row("a", range(18, 19), 0, draws=True)]).rows
    wanted = WantedRows(places_R=torch.tensor([place]), rows=one, is_all=False)
    with pytest.raises((IndexError, RuntimeError)):
        scene.forward(replace(scene.tokens([row("a", range(19), 0)]), wanted=wanted))
