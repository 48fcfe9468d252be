"""The weights of one layer, read from a checkpoint and laid out for the device.

Legend: C hidden channels, H query heads, K key-value heads, D head dim, G heads of a norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from common.model.layer_names import ExpertNames
from common.model.spec import ExpertsSpec, ModelSpec, QueryKeyNorm
from common.model.tensor_names import expert_names, layer_prefix
from kernels.gate import Gate
from kernels.linear import LinearWeight, prepare
from kernels.moe import Experts, FeedForward, gathered


class ReadTensor(Protocol):
    """A tensor by its name in the checkpoint, on the model's device, in the type the model runs with or in another."""

    def __call__(self, name: str, dtype: torch.dtype | None = None) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertWeights:
    """A router, its networks, and one that computes every token, with the router of its share."""

    router: LinearWeight
    networks: Experts
    shared: FeedForward | None
    shared_router: LinearWeight | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerWeights:
    """`qkv` and the networks' `gate_up` are several weights of the checkpoint, one above the other: one product.

    `head_norms` are norms inside the result of `qkv`: the channel each begins at, and its weight (G, D). `rope` is the
    place of the layer's rotation among the model's.
    """

    attention_norm_C: Tensor | None
    qkv: LinearWeight
    head_norms: tuple[tuple[int, Tensor], ...]
    rope: int | None
    output: LinearWeight
    attention_output_norm_C: Tensor | None
    mlp_norm_C: Tensor | None
    network: FeedForward | ExpertWeights
    mlp_output_norm_C: Tensor | None


class LayerReader:
    """Reads the layers of one model."""

    def __init__(self, spec: ModelSpec, read: ReadTensor) -> None:
        self._spec = spec
        self._read = read
        self._ropes = spec.ropes

    def layer(self, layer: int) -> LayerWeights:
        """Read and lay out the weights of one layer. What is laid out is not kept twice."""
        spec, names, own = self._spec, self._spec.names, self._spec.layers[layer]
        prefix = layer_prefix(layer)
        return LayerWeights(
            attention_norm_C=self._optional_norm(prefix, names.attention_norm),
            qkv=self._linear(prefix, names.qkv, has_bias=spec.has_qkv_bias),
            head_norms=self._head_norms(prefix),
            rope=None if own.rope is None else self._ropes.index(own.rope),
            output=self._linear(prefix, (names.output,), has_bias=spec.has_output_bias),
            attention_output_norm_C=self._optional_norm(prefix, names.attention_output_norm),
            mlp_norm_C=self._optional_norm(prefix, names.mlp_norm),
            network=self._network(prefix, names.gate_up, names.down, has_bias=spec.has_mlp_bias)
            if own.experts is None
            else self._experts(prefix, names.experts, own.experts),
            mlp_output_norm_C=self._optional_norm(prefix, names.mlp_output_norm),
        )

    def norm(self, name: str) -> Tensor:
        """A norm's weight. Where something is added to it the sum stays in fp32: beside one, small weights vanish."""
        if self._spec.norm_offset == 0.0:
            return self._read(name)
        return self._read(name, torch.float32) + self._spec.norm_offset

    def _optional_norm(self, prefix: str, name: str | None) -> Tensor | None:
        return None if name is None else self.norm(f"{prefix}{name}.weight")

    def _head_norms(self, prefix: str) -> tuple[tuple[int, Tensor], ...]:
        spec, names = self._spec, self._spec.names
        if spec.query_key_norm is QueryKeyNorm.NONE:
            return ()
        query_norm, key_norm = (self.norm(f"{prefix}{name}.weight") for name in (names.query_norm, names.key_norm))
        if spec.query_key_norm is QueryKeyNorm.ALL:
            return ((0, query_norm[None]), (spec.num_heads * spec.head_dim, key_norm[None]))
        heads = (query_norm.expand(spec.num_heads, -1), key_norm.expand(spec.num_kv_heads, -1))
        return ((0, torch.cat(heads)),)

    def _linear(
        self, prefix: str, names: Sequence[str], *, has_bias: bool = False, gate: Gate | None = None
    ) -> LinearWeight:
        weight = torch.cat([self._read(f"{prefix}{name}.weight") for name in names])
        bias = torch.cat([self._read(f"{prefix}{name}.bias") for name in names]) if has_bias else None
        return prepare(weight, bias, gate=gate)

    def _network(self, prefix: str, gate_up: Sequence[str], down: str, *, has_bias: bool = False) -> FeedForward:
        return FeedForward(
            gate_up=self._linear(prefix, gate_up, has_bias=has_bias, gate=self._spec.gate),
            down=self._linear(prefix, (down,), has_bias=has_bias),
        )

    def _experts(self, prefix: str, names: ExpertNames, experts: ExpertsSpec) -> ExpertWeights:
        has_shared = experts.shared_intermediate is not None
        return ExpertWeights(
            router=self._linear(prefix, (names.router,)),
            networks=gathered(
                [self._network(prefix, *expert_names(names, expert)) for expert in range(experts.num_experts)]
            ),
            shared=self._network(prefix, names.shared_gate_up, names.shared_down) if has_shared else None,
            shared_router=self._linear(prefix, (names.shared_router,)) if has_shared else None,
        )
