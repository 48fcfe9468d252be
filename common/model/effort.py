"""The least that a model computes and reads to answer: what the bounds of benchmarks are made of. Without torch.

Products of matrices count, two operations each, and nothing else. Every weight that a step needs is read once, and
every key and value that a new token sees. Of the last layer a prompt needs keys and values of all its tokens, and of
its last token alone everything else. Of experts those are read that one token chooses: many rows may choose the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Self

from common.kv.layout import ELEMENT_BYTES, SCALE_BYTES
from common.model.spec import LayerSpec, ModelSpec
from common.model.tensor_names import EMBEDDING, expected_tensors

NETWORK_MATRICES = 3
"""Gate, up and down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Operations in products of matrices, and bytes that are read."""

    flops: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedModel:
    """A model and the bytes of its numbers: of a weight, of a head's key or value of one token (with its scale)."""

    spec: ModelSpec
    weight_bytes: int
    vector_bytes: int

    @classmethod
    def of(cls, spec: ModelSpec, *, dtype: str, kv_dtype: str = "auto") -> Self:
        """As model.dtype and engine.kv_dtype say it; pages of `auto` have the weights' type."""
        stored = dtype if kv_dtype == "auto" else kv_dtype
        vector_bytes = spec.head_dim * ELEMENT_BYTES[stored] + SCALE_BYTES.get(stored, 0)
        return cls(spec=spec, weight_bytes=ELEMENT_BYTES[dtype], vector_bytes=vector_bytes)

    def read_weight_bytes(self) -> int:
        """That every step reads: all but the table of embeddings, unless it is the head, and experts nobody chose."""
        spec = self.spec
        shapes = expected_tensors(spec)
        numbers = sum(prod(shape) for name, shape in shapes.items() if spec.is_tied or name != EMBEDDING)
        for layer in spec.layers:
            if layer.experts is not None:
                idle = layer.experts.num_experts - layer.experts.num_chosen
                numbers -= idle * NETWORK_MATRICES * spec.hidden * layer.experts.intermediate
        return numbers * self.weight_bytes

    def prompt(self, num_tokens: int, *, start: int = 0, num_prompts: int = 1) -> Effort:
        """Read so many tokens each, behind `start` that are known, and draw one. Prompts may share a step."""
        *front, last = self.spec.layers
        end = start + num_tokens
        flops = 2 * num_tokens * sum(self._keys_and_values() + self._rest(layer) for layer in front)
        flops += 2 * (num_tokens * self._keys_and_values() + self._rest(last)) + self._head_flops()
        pairs = sum(_pairs(layer, start, end) for layer in front) + _pairs(last, end - 1, end)
        flops += self._pair_flops(pairs)
        known = self._kv_bytes(_visible(layer, start + 1) - 1 for layer in self.spec.layers)
        return Effort(flops=num_prompts * flops, num_bytes=self.read_weight_bytes() + num_prompts * known)

    def step(self, num_rows: int, context: int) -> Effort:
        """One more token for so many rows, each with `context` tokens by then, its own included."""
        layers = self.spec.layers
        per_row = 2 * sum(self._keys_and_values() + self._rest(layer) for layer in layers) + self._head_flops()
        seen = [_visible(layer, context) for layer in layers]
        flops = num_rows * (per_row + self._pair_flops(sum(seen)))
        return Effort(flops=flops, num_bytes=self.read_weight_bytes() + num_rows * self._kv_bytes(seen))

    def _keys_and_values(self) -> int:
        """Weights that make them, of one layer."""
        return 2 * self.spec.hidden * self.spec.num_kv_heads * self.spec.head_dim

    def _rest(self, layer: LayerSpec) -> int:
        """Weights of queries, output and feed-forward network that a token of this layer meets."""
        spec, experts = self.spec, layer.experts
        outer = 2 * spec.hidden * spec.num_heads * spec.head_dim
        if experts is None:
            return outer + NETWORK_MATRICES * spec.hidden * spec.intermediate
        inner = experts.num_chosen * NETWORK_MATRICES * experts.intermediate + experts.num_experts
        if experts.shared_intermediate is not None:
            inner += NETWORK_MATRICES * experts.shared_intermediate + 1
        return outer + spec.hidden * inner

    def _head_flops(self) -> int:
        return 2 * self.spec.hidden * self.spec.vocab_size

    def _pair_flops(self, pairs: int) -> int:
        """A score and a share of a value, for every head of queries."""
        return 4 * self.spec.head_dim * self.spec.num_heads * pairs

    def _kv_bytes(self, tokens_by_layer: Iterable[int]) -> int:
        return sum(tokens_by_layer) * 2 * self.spec.num_kv_heads * self.vector_bytes


def _visible(layer: LayerSpec, context: int) -> int:
    """Tokens that the last of `context` sees."""
    return context if layer.form.window is None else min(context, layer.form.window)


def _pairs(layer: LayerSpec, start: int, end: int) -> int:
    """Of a token from start to end and one it sees."""

    def upto(num: int) -> int:
        full = _visible(layer, num)
        return full * (full + 1) // 2 + (num - full) * full

    return upto(end) - upto(start)
