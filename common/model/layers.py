"""One layer of a dense decoder: attention over pages, then the gated feed-forward network, each on a residual stream.

Legend: T tokens, C hidden channels, H query heads, K key-value heads, D head dim, P pages, L layers, 2 key and value,
S slots per page, E = D/2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.model.ragged import RaggedTokens
from common.model.spec import ModelSpec
from common.model.tensor_names import layer_prefix
from kernels.activation import silu_and_multiply
from kernels.attention_decode import attention_decode
from kernels.attention_extend import attention_extend
from kernels.attention_form import AttentionForm
from kernels.cpu.gather import Workspace
from kernels.kv_store import kv_store
from kernels.linear import LinearWeight, linear, prepare
from kernels.norm import rms_norm
from kernels.rotary import rotary_

ReadTensor = Callable[[str], Tensor]
"""A tensor by its name in the checkpoint, in the type and on the device the model runs with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerWeights:
    """`qkv` and `gate_up` are several weights of the checkpoint, one above the other: one product instead of three."""

    attention_norm_C: Tensor
    qkv: LinearWeight
    output: LinearWeight
    mlp_norm_C: Tensor
    gate_up: LinearWeight
    down: LinearWeight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTensors:
    """What every layer of one forward pass shares. `kv_PL2KSD` is written to."""

    tokens: RaggedTokens
    cos_TE: Tensor
    sin_TE: Tensor
    kv_PL2KSD: Tensor
    workspace: Workspace


def read_layer(spec: ModelSpec, layer: int, read: ReadTensor) -> LayerWeights:
    """Read and lay out the weights of one layer."""
    prefix = layer_prefix(layer)

    def fused(names: tuple[str, ...], has_bias: bool) -> LinearWeight:
        weight = torch.cat([read(f"{prefix}{name}.weight") for name in names])
        return prepare(weight, torch.cat([read(f"{prefix}{name}.bias") for name in names]) if has_bias else None)

    has_bias = spec.has_attention_bias
    return LayerWeights(
        attention_norm_C=read(f"{prefix}input_layernorm.weight"),
        qkv=fused(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), has_bias),
        output=fused(("self_attn.o_proj",), has_bias),
        mlp_norm_C=read(f"{prefix}post_attention_layernorm.weight"),
        gate_up=fused(("mlp.gate_proj", "mlp.up_proj"), spec.has_mlp_bias),
        down=fused(("mlp.down_proj",), spec.has_mlp_bias),
    )


def run_layer(spec: ModelSpec, layer: int, weights: LayerWeights, x_TC: Tensor, step: StepTensors) -> Tensor:
    """The residual stream after this layer, (T, C)."""
    normal_TC = rms_norm(x_TC, weights.attention_norm_C, spec.norm_epsilon)
    heads_TXD = linear(normal_TC, weights.qkv).view(x_TC.shape[0], -1, spec.head_dim)
    num_turned = spec.num_heads + spec.num_kv_heads
    rotary_(heads_TXD[:, :num_turned], step.cos_TE, step.sin_TE)
    q_THD, k_TKD, v_TKD = heads_TXD.split_with_sizes([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
    kv_store(step.kv_PL2KSD, layer, step.tokens.slot_rows_2TK, k_TKD, v_TKD)
    form = AttentionForm(scale=spec.head_dim**-0.5)
    x_TC = x_TC + linear(_attention(q_THD, layer, step, form).flatten(1), weights.output)
    normal_TC = rms_norm(x_TC, weights.mlp_norm_C, spec.norm_epsilon)
    return x_TC + linear(silu_and_multiply(linear(normal_TC, weights.gate_up)), weights.down)


def _attention(q_THD: Tensor, layer: int, step: StepTensors, form: AttentionForm) -> Tensor:
    """(T, H, D): decode rows together, then each extend row."""
    tokens, kv, workspace = step.tokens, step.kv_PL2KSD, step.workspace
    outs = []
    if tokens.decode_groups:
        outs.append(attention_decode(q_THD[: tokens.num_decodes], kv, layer, tokens.decode_groups, workspace, form))
    first = tokens.num_decodes
    for row in tokens.extends:
        outs.append(attention_extend(q_THD[first : first + row.num_tokens], kv, layer, row, workspace, form))
        first += row.num_tokens
    return outs[0] if len(outs) == 1 else torch.cat(outs)
