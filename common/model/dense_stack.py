"""Layers that native code runs in one call: what a decoder's layers are to kernels/cpu/native_layers.

Legend: C hidden channels, E half the turned channels, P positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.model.layer_weights import ExpertWeights, LayerWeights
from common.model.spec import ModelSpec
from kernels.cpu.native_layers import DenseLayer, DenseLayers, Head, Sizes, dense_layers
from kernels.cpu.native_linear import PackedWeight
from kernels.linear import LinearWeight

Rotation = tuple[Tensor, Tensor]
"""cos_PE and sin_PE."""


def dense_stack(
    spec: ModelSpec,
    layers: Sequence[LayerWeights],
    rotations: Sequence[Rotation],
    end: tuple[Tensor, LinearWeight],
    dtype: torch.dtype,
) -> DenseLayers | None:
    """All layers of a model as one stack, or None where one of them is not made of native parts alone.

    `end` is the final norm and the head.
    """
    found = [_dense_layer(spec, number, weights, rotations) for number, weights in enumerate(layers)]
    dense = [layer for layer in found if layer is not None]
    final_norm_C, head = end[0].float().contiguous(), _packed(end[1])
    if head is None or not dense or len(dense) < len(found):
        return None
    sizes = Sizes(
        dtype=dtype,
        hidden=spec.hidden,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        intermediate=spec.intermediate,
        norm_epsilon=spec.norm_epsilon,
        residual_scale=spec.residual_scale,
    )
    return dense_layers(sizes, dense, Head(norm_C=final_norm_C, weight=head))


def _dense_layer(
    spec: ModelSpec, number: int, weights: LayerWeights, rotations: Sequence[Rotation]
) -> DenseLayer | None:
    network = weights.network
    if isinstance(network, ExpertWeights):
        return None
    qkv, output, gate_up, down = map(_packed, (weights.qkv, weights.output, network.gate_up, network.down))
    if qkv is None or output is None or gate_up is None or down is None:
        return None
    return DenseLayer(
        attention_norm_C=_wide(weights.attention_norm_C),
        qkv=qkv,
        head_norms=tuple((first, weight_GD.float().contiguous()) for first, weight_GD in weights.head_norms),
        rotation=None if weights.rope is None else rotations[weights.rope],
        form=spec.layers[number].form,
        output=output,
        attention_output_norm_C=_wide(weights.attention_output_norm_C),
        mlp_norm_C=_wide(weights.mlp_norm_C),
        gate_up=gate_up,
        down=down,
        mlp_output_norm_C=_wide(weights.mlp_output_norm_C),
    )


def _packed(weight: LinearWeight) -> PackedWeight | None:
    """The native layout, where the whole operator is in it: some gates are not."""
    layout = weight.layout
    return layout if isinstance(layout, PackedWeight) and layout.gate is weight.gate else None


def _wide(norm_C: Tensor | None) -> Tensor | None:
    return None if norm_C is None else norm_C.float().contiguous()
