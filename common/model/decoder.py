"""The forward pass of the dense families: embedding, layers, final norm, logits where they are wanted.

Legend: T tokens, C hidden channels, V vocabulary, R wanted rows, P positions or pages, L layers, 2 key and value,
K key-value heads, S slots per page, D head dim, E = D/2.
"""

import torch
from torch import Tensor

from common.model.layers import LayerWeights, ReadTensor, StepTensors, read_layer, run_layer
from common.model.ragged import RaggedTokens
from common.model.rope import rotary_tables
from common.model.spec import ModelSpec
from common.model.tensor_names import EMBEDDING, FINAL_NORM, HEAD
from kernels.cpu.gather import Workspace
from kernels.linear import linear, prepare
from kernels.norm import rms_norm


class Decoder:
    """A model ready to run. Immutable but for its scratch memory: one thread may run it at a time.

    Weights are read once and laid out for the device; tied embeddings are kept twice, as table and as linear weight.
    """

    def __init__(self, spec: ModelSpec, read: ReadTensor, *, max_context: int) -> None:
        self.spec = spec
        self.max_context = max_context
        self._embedding_VC = read(EMBEDDING)
        self._layers: list[LayerWeights] = [read_layer(spec, layer, read) for layer in range(spec.num_layers)]
        self._final_norm_C = read(FINAL_NORM)
        self._head = prepare(self._embedding_VC if spec.is_tied else read(HEAD))
        cos_PE, sin_PE = rotary_tables(spec.rope, spec.head_dim, max_context)
        self._cos_PE = cos_PE.to(self._embedding_VC)
        self._sin_PE = sin_PE.to(self._embedding_VC)
        self._workspace = Workspace()

    @property
    def device(self) -> torch.device:
        return self._embedding_VC.device

    @property
    def dtype(self) -> torch.dtype:
        return self._embedding_VC.dtype

    def forward(self, tokens: RaggedTokens, kv_PL2KSD: Tensor) -> Tensor:
        """logits_RV in fp32 of the wanted tokens; writes the KV of all tokens into their slots.

        Raises IndexError for a token outside the vocabulary or a position outside the context (on the CPU).
        """
        x_TC = torch.index_select(self._embedding_VC, 0, tokens.tokens_T)
        step = StepTensors(
            tokens=tokens,
            cos_TE=torch.index_select(self._cos_PE, 0, tokens.positions_T),
            sin_TE=torch.index_select(self._sin_PE, 0, tokens.positions_T),
            kv_PL2KSD=kv_PL2KSD,
            workspace=self._workspace,
        )
        for layer, weights in enumerate(self._layers):
            x_TC = run_layer(self.spec, layer, weights, x_TC, step)
        if not len(tokens.wanted_R):
            return torch.empty(0, self.spec.vocab_size, device=x_TC.device)
        wanted_RC = torch.index_select(x_TC, 0, tokens.wanted_R)
        return linear(rms_norm(wanted_RC, self._final_norm_C, self.spec.norm_epsilon), self._head).float()
