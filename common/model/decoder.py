"""The forward pass of all families: embedding, layers, final norm, logits where they are wanted.

Legend: T tokens, C hidden channels, V vocabulary, R wanted rows, P positions or pages, L layers, 2 key and value,
K key-value heads, S slots per page, D head dim, E half the turned channels.
"""

import torch
from torch import Tensor

from common.model.dense_stack import dense_stack
from common.model.fused_layers import FusedStep, run_layers
from common.model.layer_weights import ExpertWeights, LayerReader, LayerWeights, ReadTensor
from common.model.layers import StepTensors, run_layer
from common.model.ragged import RaggedTokens
from common.model.rope import rotary_tables
from common.model.rope_form import Rope
from common.model.spec import ModelSpec
from common.model.stops import Stops
from common.model.tensor_names import EMBEDDING, FINAL_NORM, HEAD
from kernels.cpu.gather import Workspace
from kernels.cpu.native_attention import NativeRows
from kernels.dispatch import Backend, backend
from kernels.kv_store import Slots, slot_rows
from kernels.linear import linear, prepare
from kernels.norm import rms_norm


class Decoder:
    """A model ready to run. Immutable but for its scratch memory: one thread may run it at a time.

    Weights are read once and laid out for the device; tied embeddings are kept twice, as linear weight and as table.
    The table is of `table_dtype`, which may be narrower than the type the model runs in: its rows are widened.
    """

    def __init__(
        self, spec: ModelSpec, read: ReadTensor, *, max_context: int, dtype: torch.dtype, table_dtype: torch.dtype
    ) -> None:
        self.spec = spec
        self.max_context = max_context
        self.dtype = dtype
        reader = LayerReader(spec, read)
        self._layers: list[LayerWeights] = [reader.layer(layer) for layer in range(spec.num_layers)]
        self._final_norm_C = reader.norm(FINAL_NORM)
        self._head = prepare(read(EMBEDDING if spec.is_tied else HEAD))
        self._embedding_VC = read(EMBEDDING, table_dtype)
        self._embedding_scale = float(torch.tensor(spec.embedding_scale, dtype=dtype))
        self._rotations = [self._rotation(rope) for rope in spec.ropes]
        self._workspace = Workspace()
        self._stack = dense_stack(spec, self._layers, self._rotations, (self._final_norm_C, self._head), dtype)

    @property
    def device(self) -> torch.device:
        return self._embedding_VC.device

    @property
    def is_fixed_in_shape(self) -> bool:
        """Whether a decode step's shapes depend on how many rows it has alone, and on no number that was computed."""
        networks = [layer.network for layer in self._layers]
        return all(not isinstance(each, ExpertWeights) or each.networks.are_stacked for each in networks)

    def forward(self, tokens: RaggedTokens, kv_PL2KSD: Tensor, stops: Stops | None = None) -> Tensor:
        """logits_RV in fp32 of the wanted tokens; writes the KV of all tokens into their slots. Of the others the last
        layer computes nothing else.

        On a GPU `stops` hear of layers that were launched: the host is long past a layer when the device comes to it.
        Raises IndexError for a token outside the vocabulary or a position outside the context.
        """
        self.check(tokens.num_positions, tokens.ids)
        x_TC = self._embed(tokens.tokens_T)
        if backend(x_TC) is Backend.TRITON:
            return self._forward_fused(x_TC, tokens, kv_PL2KSD, stops)
        stack = self._stack
        if stack is not None and isinstance(tokens.rows, NativeRows) and stack.can_run(kv_PL2KSD):
            for layers in self._groups(stops):
                x_TC = stack.run_(x_TC, kv_PL2KSD, tokens.rows, tokens.wanted, layers)
                if stops is not None:
                    stops.say(layers.stop)
            return self._bend(stack.logits(x_TC))
        wanted_RC = self._run_layers(x_TC, tokens, kv_PL2KSD, stops)
        normal_RC = rms_norm(wanted_RC, self._final_norm_C, self.spec.norm_epsilon)
        return self._bend(linear(normal_RC, self._head, is_wide=True))

    def check(self, num_positions: int, ids: range) -> None:
        """Raises IndexError for what native code and kernels, which read tables unasked, would not notice."""
        if num_positions > self.max_context:
            raise IndexError(f"position {num_positions - 1} of a context of {self.max_context}")
        if ids.start < 0 or ids.stop > len(self._embedding_VC):
            raise IndexError(f"ids {ids.start} to {ids.stop - 1} of {len(self._embedding_VC)}")

    def _forward_fused(
        self, x_TC: Tensor, tokens: RaggedTokens, kv_PL2KSD: Tensor, stops: Stops | None = None
    ) -> Tensor:
        """Nothing here waits for the device."""
        slots = Slots(pages_T=tokens.pages_T, offsets_T=tokens.positions_T % kv_PL2KSD.shape[4])
        step = FusedStep(
            rows=tokens.rows,
            wanted=tokens.wanted,
            slots=slots,
            rotations=self._turned(tokens.positions_T),
            kv_PL2KSD=kv_PL2KSD,
            workspace=self._workspace,
        )
        stream = run_layers(self.spec, self._layers, x_TC, step, stops)
        return self._bend(linear(stream.normal(self._final_norm_C), self._head, is_wide=True))

    def _turned(self, positions_T: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """cos_TE and sin_TE of each rope."""
        return tuple(
            (torch.index_select(cos_PE, 0, positions_T), torch.index_select(sin_PE, 0, positions_T))
            for cos_PE, sin_PE in self._rotations
        )

    def _groups(self, stops: Stops | None) -> list[range]:
        """The layers between one stop and the next: all of them where there is none."""
        num_layers, each = len(self._layers), len(self._layers) if stops is None else stops.num_layers
        return [range(first, first + each) for first in range(0, num_layers, each)]

    def _run_layers(self, x_TC: Tensor, tokens: RaggedTokens, kv_PL2KSD: Tensor, stops: Stops | None) -> Tensor:
        """The wanted tokens' residual stream after all layers."""
        step = StepTensors(
            tokens=tokens,
            slot_rows_2TK=slot_rows(kv_PL2KSD, tokens.pages_T, tokens.positions_T % kv_PL2KSD.shape[4]),
            rotations=self._turned(tokens.positions_T),
            kv_PL2KSD=kv_PL2KSD,
            workspace=self._workspace,
        )
        for layer, weights in enumerate(self._layers):
            x_TC = run_layer(self.spec, layer, weights, x_TC, step)
            if stops is not None and (layer + 1) % stops.num_layers == 0:
                stops.say(layer + 1)
        return x_TC

    def _rotation(self, rope: Rope) -> tuple[Tensor, Tensor]:
        cos_PE, sin_PE = rotary_tables(rope, self.spec.head_dim, self.max_context)
        return cos_PE.to(self.device, self.dtype), sin_PE.to(self.device, self.dtype)

    def _embed(self, tokens_T: Tensor) -> Tensor:
        x_TC = torch.index_select(self._embedding_VC, 0, tokens_T).to(self.dtype)
        return x_TC if self._embedding_scale == 1.0 else x_TC * self._embedding_scale

    def _bend(self, logits_RV: Tensor) -> Tensor:
        if self.spec.logit_divisor != 1.0:
            logits_RV = logits_RV / self.spec.logit_divisor
        softcap = self.spec.logit_softcap
        return logits_RV if softcap is None else (logits_RV / softcap).tanh_().mul_(softcap)
