"""A stack of dense decoder layers as one native call: native/layer.cpp computes, native/layer.h names every number.

Legend: T tokens, R wanted tokens, C hidden channels, K key-value heads, D head dim, P pages or positions, L layers,
2 key and value, S slots per page, E half the turned channels, G heads of a norm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from kernels.attention import AttentionRows
from kernels.attention_form import AttentionForm
from kernels.cpu.library import Native
from kernels.cpu.native_attention import KINDS, NativeRows, can_attend
from kernels.cpu.native_linear import GATES, TYPES, PackedWeight
from kernels.quantized_pages import is_quantized
from kernels.wanted_rows import WantedRows

MAX_HEAD_NORMS = 2
WANTED_ELSEWHERE = 2
"""native/layer.cpp: a wanted token is not one of the step's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseLayer:
    """The parts of one layer; norms are fp32 (C,) or None. `head_norms` begin at a channel of `qkv`, fp32 (G, D).

    `rotation` is cos_PE and sin_PE in the model's type, contiguous.
    """

    attention_norm_C: Tensor | None
    qkv: PackedWeight
    head_norms: tuple[tuple[int, Tensor], ...]
    rotation: tuple[Tensor, Tensor] | None
    form: AttentionForm
    output: PackedWeight
    attention_output_norm_C: Tensor | None
    mlp_norm_C: Tensor | None
    gate_up: PackedWeight
    down: PackedWeight
    mlp_output_norm_C: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """What turns the residual stream into logits; the norm is fp32."""

    norm_C: Tensor
    weight: PackedWeight


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What all layers of a model share."""

    dtype: torch.dtype
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    norm_epsilon: float
    residual_scale: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseLayers:
    """All layers of a model in the form that native code reads; keeps the tensors behind the addresses alive."""

    native: Native
    sizes: Sizes
    layers: tuple[DenseLayer, ...]
    head: Head
    _model: "np.ndarray[tuple[int], np.dtype[np.int64]]" = field(repr=False)
    _table: "np.ndarray[tuple[int, int], np.dtype[np.int64]]" = field(repr=False)
    _end: "np.ndarray[tuple[int], np.dtype[np.int64]]" = field(repr=False)

    def run_(self, x_TC: Tensor, kv_PL2KSD: Tensor, rows: NativeRows, wanted: WantedRows, layers: range) -> Tensor:
        """The residual stream after these layers; writes the KV of all tokens into their slots, and to `x_TC`.

        `layers` are some of them, one after the other, on the stream that those before them left. After the model's
        last one it is the stream of the `wanted` tokens, (R, C). Raises IndexError for a wanted token that is not in
        the step.
        """
        assert 0 <= layers.start < layers.stop <= len(self.layers), f"{layers} of {len(self.layers)} layers"
        assert x_TC.dtype is self.sizes.dtype
        assert x_TC.is_contiguous()
        assert x_TC.shape == (rows.num_tokens, self.sizes.hidden)
        assert kv_PL2KSD.shape[3] == self.sizes.num_kv_heads
        assert len(self.layers) == kv_PL2KSD.shape[1]
        is_narrowing = layers.stop == len(self.layers) and not wanted.is_all
        kept = _tokens_words(wanted.rows if is_narrowing else None)
        out_RC = x_TC.new_empty(kept[0], x_TC.shape[1]) if is_narrowing else x_TC
        assert not is_narrowing or len(wanted.places_R) == kept[0]
        step = np.array(
            [
                kv_PL2KSD[:, layers.start :].data_ptr(),
                kv_PL2KSD.shape[1],
                kv_PL2KSD.shape[4],
                KINDS[kv_PL2KSD.dtype],
                *_tokens_words(rows),
                x_TC.data_ptr(),
                is_narrowing,
                wanted.places_R.data_ptr(),
                *kept,
                out_RC.data_ptr(),
            ],
            dtype=np.int64,
        )
        run = _functions(self.native).layers
        table = self._table[layers.start :]
        refused = run(self._model.ctypes.data, table.ctypes.data, len(layers), step.ctypes.data)
        if refused == WANTED_ELSEWHERE:
            raise IndexError(f"wanted tokens beyond the {rows.num_tokens} of this step")
        assert refused == 0, f"attention refuses {self.sizes}"
        return out_RC

    def logits(self, x_RC: Tensor) -> Tensor:
        """logits_RV in fp32 of final streams."""
        logits_RV = torch.empty(len(x_RC), self.head.weight.num_results)
        _functions(self.native).logits(
            self._model.ctypes.data, self._end.ctypes.data, x_RC.data_ptr(), len(x_RC), logits_RV.data_ptr()
        )
        return logits_RV

    def can_run(self, kv_PL2KSD: Tensor) -> bool:
        """Whether pages of this kind are read and written where they lie."""
        return (kv_PL2KSD.dtype is self.sizes.dtype or is_quantized(kv_PL2KSD)) and can_attend(kv_PL2KSD)


@dataclass(frozen=True, slots=True)
class _Functions:
    layers: Callable[..., int]
    logits: Callable[..., int]


def dense_layers(sizes: Sizes, layers: Sequence[DenseLayer], head: Head) -> DenseLayers:
    """Lay the parts out for native code. They must fit each other: sizes are asserted, not asked."""
    for layer in layers:
        _check(sizes, layer)
    assert head.weight.num_channels == sizes.hidden
    assert head.norm_C.dtype is torch.float32
    return DenseLayers(
        native=head.weight.native,
        sizes=sizes,
        layers=tuple(layers),
        head=head,
        _model=np.array(
            [
                TYPES[sizes.dtype],
                sizes.hidden,
                sizes.num_heads,
                sizes.num_kv_heads,
                sizes.head_dim,
                sizes.intermediate,
                _bits(sizes.norm_epsilon),
                _bits(sizes.residual_scale),
            ],
            dtype=np.int64,
        ),
        _table=np.array([_layer_words(layer) for layer in layers], dtype=np.int64),
        _end=np.array([_address(head.norm_C), *_linear_words(head.weight)], dtype=np.int64),
    )


def _check(sizes: Sizes, layer: DenseLayer) -> None:
    width = (sizes.num_heads + 2 * sizes.num_kv_heads) * sizes.head_dim
    _check_linear(layer.qkv, sizes.hidden, width)
    _check_linear(layer.output, sizes.num_heads * sizes.head_dim, sizes.hidden)
    _check_linear(layer.gate_up, sizes.hidden, sizes.intermediate)
    _check_linear(layer.down, sizes.intermediate, sizes.hidden)
    assert len(layer.head_norms) <= MAX_HEAD_NORMS
    for norm in (layer.attention_norm_C, layer.attention_output_norm_C, layer.mlp_norm_C, layer.mlp_output_norm_C):
        assert norm is None or (norm.dtype is torch.float32 and norm.shape == (sizes.hidden,))
    for table in layer.rotation or ():
        assert table.dtype is sizes.dtype
        assert table.is_contiguous()


def _check_linear(weight: PackedWeight, num_channels: int, num_results: int) -> None:
    actual, expected = (weight.num_channels, weight.num_results), (num_channels, num_results)
    assert actual == expected, f"a linear layer from {actual[0]} to {actual[1]} channels where {expected} fit"


def _tokens_words(rows: AttentionRows | None) -> list[int]:
    """native/layer.h, struct Tokens."""
    if rows is None:
        return [0, 0, 0, 0]
    assert isinstance(rows, NativeRows)
    return [rows.num_tokens, len(rows.rows_R4), rows.rows_R4.data_ptr(), rows.tables_X.data_ptr()]


def _layer_words(layer: DenseLayer) -> list[int]:
    cos, sin, turned = (0, 0, 0)
    if layer.rotation is not None:
        cos_PE, sin_PE = layer.rotation
        cos, sin, turned = cos_PE.data_ptr(), sin_PE.data_ptr(), cos_PE.shape[1]
    head_norms = [
        word for first, weight_GD in layer.head_norms for word in (first, *weight_GD.shape, _address(weight_GD))
    ]
    return [
        _address(layer.attention_norm_C),
        *_linear_words(layer.qkv),
        len(layer.head_norms),
        *head_norms,
        *[0] * (4 * MAX_HEAD_NORMS - len(head_norms)),
        *(cos, sin, turned),
        *(_bits(layer.form.scale), layer.form.window or 0, _bits(layer.form.softcap or 0.0)),
        *_linear_words(layer.output),
        _address(layer.attention_output_norm_C),
        _address(layer.mlp_norm_C),
        *_linear_words(layer.gate_up),
        *_linear_words(layer.down),
        _address(layer.mlp_output_norm_C),
    ]


def _linear_words(weight: PackedWeight) -> list[int]:
    gate = GATES[weight.gate]
    return [weight.num_outputs, weight.num_channels, gate, _address(weight.packed), _address(weight.bias)]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


@cache
def _functions(native: Native) -> _Functions:
    return _Functions(native.bind("baton_layers", "ppip"), native.bind("baton_logits", "pppip"))
