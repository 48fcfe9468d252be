"""One layer of a decoder: attention over pages, then the gated feed-forward network, each on a residual stream.

Legend: T tokens, R wanted tokens, C hidden channels, H query heads, K key-value heads, D head dim, X all heads,
P pages, L layers, 2 key and value, S slots per page, E half the turned channels, 1 one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.model.layer_weights import ExpertWeights, LayerWeights
from common.model.ragged import RaggedTokens
from common.model.spec import ExpertsSpec, ModelSpec
from kernels.attention import attention
from kernels.cpu.gather import Workspace
from kernels.kv_store import kv_store
from kernels.linear import LinearWeight, linear
from kernels.moe import feed_forward, route, routed_experts
from kernels.norm import rms_norm, rms_norm_heads_
from kernels.rotary import rotary_


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTensors:
    """What every layer of one forward pass shares. `kv_PL2KSD` is written to.

    `slot_rows_2TK` says where each token's keys and values are stored (kernels/kv_store), `rotations` are cos_TE and
    sin_TE of each of the model's ropes.
    """

    tokens: RaggedTokens
    slot_rows_2TK: Tensor
    rotations: tuple[tuple[Tensor, Tensor], ...]
    kv_PL2KSD: Tensor
    workspace: Workspace


def run_layer(spec: ModelSpec, layer: int, weights: LayerWeights, x_TC: Tensor, step: StepTensors) -> Tensor:
    """The residual stream after this layer, (T, C); after the last one that of the wanted tokens alone, (R, C)."""
    normal_TC = _norm(spec, x_TC, weights.attention_norm_C)
    q_THD = _store_keys(spec, layer, weights, normal_TC, step)
    rows = step.tokens.rows
    if layer == spec.num_layers - 1:
        # No layer follows that would see the others: their keys and values were all that is wanted of them.
        wanted = step.tokens.wanted
        x_TC, q_THD = wanted.of(x_TC), wanted.of(q_THD)
        if wanted.rows is None:
            return x_TC
        rows = wanted.rows
    form = spec.layers[layer].form
    out_TC = attention(q_THD, step.kv_PL2KSD, layer, rows, step.workspace, form).flatten(1)
    x_TC = _project(spec, out_TC, weights.output, weights.attention_output_norm_C, x_TC)
    normal_TC = _norm(spec, x_TC, weights.mlp_norm_C)
    network, experts = weights.network, spec.layers[layer].experts
    if isinstance(network, ExpertWeights):
        assert experts is not None
        return _add(spec, run_experts(normal_TC, network, experts), weights.mlp_output_norm_C, x_TC)
    return _project(spec, linear(normal_TC, network.gate_up), network.down, weights.mlp_output_norm_C, x_TC)


def _store_keys(spec: ModelSpec, layer: int, weights: LayerWeights, x_TC: Tensor, step: StepTensors) -> Tensor:
    """The queries, (T, H, D); stores the new keys and values."""
    qkv_TC = linear(x_TC, weights.qkv)
    for first, weight_GD in weights.head_norms:
        channels_TGD = qkv_TC[:, first : first + weight_GD.numel()].view(-1, *weight_GD.shape)
        rms_norm_heads_(channels_TGD, weight_GD, spec.norm_epsilon)
    heads_TXD = qkv_TC.view(x_TC.shape[0], -1, spec.head_dim)
    if weights.rope is not None:
        cos_TE, sin_TE = step.rotations[weights.rope]
        rotary_(heads_TXD[:, : spec.num_heads + spec.num_kv_heads, : 2 * cos_TE.shape[1]], cos_TE, sin_TE)
    q_THD, k_TKD, v_TKD = heads_TXD.split_with_sizes([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
    kv_store(step.kv_PL2KSD, layer, step.slot_rows_2TK, k_TKD, v_TKD)
    return q_THD


def run_experts(x_TC: Tensor, weights: ExpertWeights, experts: ExpertsSpec) -> Tensor:
    """The chosen experts, and the one that all tokens share by a share of its own, (T, C)."""
    routing = route(linear(x_TC, weights.router), experts.num_chosen, is_normalized=experts.is_normalized)
    out_TC = routed_experts(x_TC, routing, weights.networks)
    if weights.shared is None or weights.shared_router is None:
        return out_TC
    share_T1 = torch.sigmoid(linear(x_TC, weights.shared_router).double()).to(x_TC.dtype)
    return out_TC + share_T1 * feed_forward(x_TC, weights.shared)


def _norm(spec: ModelSpec, x_TC: Tensor, weight_C: Tensor | None) -> Tensor:
    return x_TC if weight_C is None else rms_norm(x_TC, weight_C, spec.norm_epsilon)


def _project(spec: ModelSpec, x_TC: Tensor, weight: LinearWeight, norm_C: Tensor | None, stream_TC: Tensor) -> Tensor:
    """The stream with what a half layer ends in, in one operator where nothing comes between."""
    if norm_C is None and spec.residual_scale == 1.0:
        return linear(x_TC, weight, residual_TO=stream_TC)
    return _add(spec, linear(x_TC, weight), norm_C, stream_TC)


def _add(spec: ModelSpec, x_TC: Tensor, norm_C: Tensor | None, stream_TC: Tensor) -> Tensor:
    x_TC = _norm(spec, x_TC, norm_C)
    return stream_TC + (x_TC if spec.residual_scale == 1.0 else x_TC * spec.residual_scale)
