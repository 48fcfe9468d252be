"""A decoder of random weights, made on the device that runs it: no folder, no file."""

import hashlib

import torch
from torch import Tensor

from common.model.decoder import Decoder
from common.model.rope_form import Rope
from common.model.spec import LayerSpec, ModelSpec
from common.model.tensor_names import expected_tensors
from kernels.attention_form import AttentionForm


def llama(*, hidden: int, layers: int, heads: tuple[int, int], dim: int, inner: int, vocab: int) -> ModelSpec:
    """A Llama of that shape. `heads`: of queries, of keys and values."""
    layer = LayerSpec(form=AttentionForm(scale=dim**-0.5), rope=Rope(theta=500_000.0, scaling=None))
    return ModelSpec(
        architecture="LlamaForCausalLM",
        layers=(layer,) * layers,
        hidden=hidden,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=dim,
        intermediate=inner,
        vocab_size=vocab,
        max_positions=8192,
        norm_epsilon=1e-5,
        is_tied=False,
    )


TINY = llama(hidden=64, layers=2, heads=(4, 2), dim=16, inner=160, vocab=512)
EIGHT_B = llama(hidden=4096, layers=32, heads=(32, 8), dim=128, inner=14_336, vocab=128_256)


def random_decoder(
    spec: ModelSpec, *, dtype: torch.dtype, device: torch.device, max_context: int, made_on: str | None = None
) -> Decoder:
    """The same numbers for the same `made_on`, whatever the device: generators differ between kinds of device."""
    shapes = expected_tensors(spec)
    origin, running = torch.device(made_on or device), dtype

    def read(name: str, dtype: torch.dtype | None = None) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
        generator = torch.Generator(origin).manual_seed(seed)
        noise = torch.randn(shapes[name], generator=generator, device=origin)
        own = 1.0 + 0.1 * noise if noise.dim() == 1 else noise * noise.shape[-1] ** -0.5
        return own.to(device, dtype or running)

    with torch.inference_mode():
        return Decoder(spec, read, max_context=max_context, dtype=dtype, table_dtype=dtype)
