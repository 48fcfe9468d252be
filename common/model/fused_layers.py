"""The layers of a decoder where a launch costs as much as a small operator: what one half layer adds to the residual
stream is added when the next one normalises it, across layers too.

    layers.py computes the same, one operator at a time.

Legend: T tokens, R wanted tokens, C hidden channels, H query heads, K key-value heads, D head dim, X all heads,
P pages, L layers, 2 key and value, S slots per page, E half the turned channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from common.model.layer_weights import ExpertWeights, LayerWeights
from common.model.layers import run_experts
from common.model.spec import ModelSpec, QueryKeyNorm
from common.model.stops import Stops
from kernels.attention import AttentionRows, attention
from kernels.cpu.gather import Workspace
from kernels.kv_store import Slots
from kernels.linear import linear
from kernels.moe import feed_forward
from kernels.norm import HeadNorm, add_norm_, rms_norm_heads_
from kernels.rotary_store import rotary_store
from kernels.wanted_rows import WantedRows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedStep:
    """What every layer of one forward pass shares. `kv_PL2KSD` is written to.

    `rotations` are cos_TE and sin_TE of each of the model's ropes.
    """

    rows: AttentionRows
    wanted: WantedRows
    slots: Slots
    rotations: tuple[tuple[Tensor, Tensor], ...]
    kv_PL2KSD: Tensor
    workspace: Workspace


@dataclass(slots=True, eq=False)
class ResidualStream:
    """`x_TC`, and what is still to be added to it: `added_TC`, normalised before by `post_C` where there is one."""

    spec: ModelSpec
    x_TC: Tensor
    added_TC: Tensor | None = None
    post_C: Tensor | None = None

    def normal(self, weight_C: Tensor | None) -> Tensor:
        """The stream with everything added, normalised for the next half layer; as it is where `weight_C` is None."""
        added_TC, self.added_TC = self.added_TC, None
        epsilon, scale = self.spec.norm_epsilon, self.spec.residual_scale
        return add_norm_(self.x_TC, weight_C, epsilon, added_TC=added_TC, post_C=self.post_C, scale=scale)

    def add(self, added_TC: Tensor, post_C: Tensor | None) -> None:
        """What a half layer ends in."""
        assert self.added_TC is None, "two half layers without a norm between them"
        self.added_TC, self.post_C = added_TC, post_C

    def keep(self, wanted: WantedRows) -> None:
        """Go on with the wanted tokens only."""
        assert self.added_TC is None, "what a half layer added belongs to all tokens"
        self.x_TC = wanted.of(self.x_TC)


def run_layers(
    spec: ModelSpec, layers: Sequence[LayerWeights], x_TC: Tensor, step: FusedStep, stops: Stops | None = None
) -> ResidualStream:
    """The residual stream of the wanted tokens after all layers. `x_TC` is written to. `stops` hear of layers that were
    launched."""
    stream = ResidualStream(spec, x_TC)
    for layer, weights in enumerate(layers):
        q_THD = _store_keys(spec, layer, weights, stream.normal(weights.attention_norm_C), step)
        rows: AttentionRows | None = step.rows
        if layer == spec.num_layers - 1:
            # No layer follows that would see the others: their keys and values were all that is wanted of them.
            stream.keep(step.wanted)
            q_THD, rows = step.wanted.of(q_THD), step.wanted.rows
        if rows is not None:
            form = spec.layers[layer].form
            heads_THD = attention(q_THD, step.kv_PL2KSD, layer, rows, step.workspace, form)
            _finish(spec, layer, weights, heads_THD, stream)
        if stops is not None and (layer + 1) % stops.num_layers == 0:
            stops.say(layer + 1)
    return stream


def _finish(spec: ModelSpec, layer: int, weights: LayerWeights, heads_THD: Tensor, stream: ResidualStream) -> None:
    """What a layer does with what its heads saw."""
    stream.add(linear(heads_THD.flatten(1), weights.output), weights.attention_output_norm_C)
    normal_TC = stream.normal(weights.mlp_norm_C)
    network, experts = weights.network, spec.layers[layer].experts
    if isinstance(network, ExpertWeights):
        assert experts is not None
        out_TC = run_experts(normal_TC, network, experts)
    else:
        out_TC = feed_forward(normal_TC, network)
    stream.add(out_TC, weights.mlp_output_norm_C)


def _store_keys(spec: ModelSpec, layer: int, weights: LayerWeights, x_TC: Tensor, step: FusedStep) -> Tensor:
    """The queries, (T, H, D); stores the new keys and values."""
    qkv_TC = linear(x_TC, weights.qkv)
    norm = None
    if spec.query_key_norm is QueryKeyNorm.HEAD:
        ((_, weight_GD),) = weights.head_norms
        norm = HeadNorm(weight_GD=weight_GD, epsilon=spec.norm_epsilon)
    else:
        for first, weight_GD in weights.head_norms:
            channels_TGD = qkv_TC[:, first : first + weight_GD.numel()].view(-1, *weight_GD.shape)
            rms_norm_heads_(channels_TGD, weight_GD, spec.norm_epsilon)
    return rotary_store(
        qkv_TC.view(x_TC.shape[0], -1, spec.head_dim),
        step.kv_PL2KSD,
        layer,
        step.slots,
        rotation=None if weights.rope is None else step.rotations[weights.rope],
        norm=norm,
    )
