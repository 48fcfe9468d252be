"""A forward through the GPU's operators, in Triton's interpreter, gives the logits and the pages of the CPU's."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model.load import load_model
from kernels.dispatch import interpreted
from kernels.quantized_pages import dequantized, is_quantized
from tests.engine.torch_rig import NAN_BYTE
from tests.model.checkpoint import write_checkpoint

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "attention_bias": True},
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 8,
        "query_pre_attn_scalar": 64,
    },
    "olmo2": {"architectures": ["Olmo2ForCausalLM"]},
    "phi3": {"architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 0.5, "sliding_window": None},
    "granite": {"architectures": ["GraniteForCausalLM"], "residual_multiplier": 0.3, "logits_scaling": 4.0},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], **MOE},
}
"""Bias, norms after a half layer and 1 + w, norms over all heads, half-turned heads, a scaled residual, experts with
norms per head."""

PAGE_SIZE, NUM_PAGES = 8, 12


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def rows() -> list[StepRow]:
    """A prompt of 21 tokens, then one token after it beside a prompt and a chunk of a third, then another chunk: three
    steps of one engine. Of the chunks nobody reads a token."""
    greedy = Sample(seed=0, position=0, sampling=TokenSampling(temperature=0.0))

    def row(name: str, start: int, count: int, pages: list[int], *, draws: bool = True) -> StepRow:
        return StepRow(
            sequence=SequenceId(RequestId(name)),
            tokens=tuple(TokenId((7 * place + count) % 300) for place in range(start, start + count)),
            start=start,
            pages=tuple(PageId(page) for page in pages),
            samples=(greedy,) if draws else (),
        )

    chunks = [row("c", 0, 6, [3, 10], draws=False), row("c", 6, 9, [3, 10], draws=False)]
    return [row("a", 0, 21, [9, 2, 5]), row("a", 21, 1, [9, 2, 5]), row("b", 0, 5, [7]), *chunks]


def computed(folder: Path, kv_dtype: str, *, is_interpreted: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all steps, and the pages. Pages start as NaN."""
    with interpreted() if is_interpreted else nullcontext():
        decoder = load_model(folder).decoder
        layout = decoder.spec.page_layout(page_size=PAGE_SIZE, dtype=kv_dtype, model_digest=b"")
        storage = TorchStorage(layout, NUM_PAGES)
        storage.kv_PL2HSD.view(torch.uint8).fill_(NAN_BYTE)
        first, second, third, chunk, last = rows()
        kv = storage.kv_PL2HSD
        steps = ([first], [second, third, chunk], [last])
        logits = [decoder.forward(ragged_tokens(step, kv), kv) for step in steps]
        assert [len(step_RV) for step_RV in logits] == [1, 2, 0]
        values = dequantized(kv.flatten(4).flatten(0, 3), PAGE_SIZE) if is_quantized(kv) else kv
    return torch.cat(logits), values


@pytest.mark.parametrize(
    ("family", "kv_dtype"), [*((name, "float32") for name in FAMILIES), ("llama", "int8"), ("llama", "fp8")]
)
def test_a_forward_on_the_gpus_operators_equals_the_cpus(tmp_path: Path, family: str, kv_dtype: str) -> None:
    """Eight-bit pages: a key between two of its steps may fall to either side."""
    folder = write_checkpoint(tmp_path, **FAMILIES[family])  # type: ignore[arg-type]  # changes to a config
    expected, expected_kv = computed(folder, kv_dtype, is_interpreted=False)
    found, found_kv = computed(folder, kv_dtype, is_interpreted=True)
    tolerance = 2e-5 if kv_dtype == "float32" else 2e-2
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
    assert torch.equal(found_kv.isnan(), expected_kv.isnan())
    difference = (found_kv - expected_kv).nan_to_num().abs().max()
    assert difference <= tolerance * expected_kv.nan_to_num().abs().max()
