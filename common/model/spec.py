"""What a model is: every number that decides its tensors and its arithmetic.

The seam for families: a function in common/model/families turns a config into a ModelSpec, whose fields say how
families differ. One decoder class reads them; nothing else asks for a family's name.
"""

from dataclasses import dataclass
from enum import StrEnum

from common.kv.layout import PageLayout
from common.model.layer_names import LLAMA_NAMES, LayerNames
from common.model.rope_form import Rope
from kernels.attention_form import AttentionForm
from kernels.gate import Gate


class QueryKeyNorm(StrEnum):
    """What queries and keys are normalised over before they are turned: nothing, one head, or all heads together."""

    NONE = "none"
    HEAD = "head"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """A feed-forward network of which a router chooses parts. `is_normalized`: the shares of the chosen add up to one.

    `shared_intermediate`: one more network that computes every token, through a gate of its own.
    """

    num_experts: int
    num_chosen: int
    intermediate: int
    is_normalized: bool
    shared_intermediate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """How one layer differs from others: what it attends to, how it turns (None: not), dense or of experts."""

    form: AttentionForm
    rope: Rope | None
    experts: ExpertsSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder. `max_positions` is the longest context it was made for.

    Norms multiply by weight + `norm_offset`. The embedding is multiplied by `embedding_scale`, what a half layer adds
    to the residual stream by `residual_scale`, and logits are divided by `logit_divisor`, then bent to at most
    `logit_softcap`.
    """

    architecture: str
    layers: tuple[LayerSpec, ...]
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    max_positions: int
    norm_epsilon: float
    is_tied: bool
    gate: Gate = Gate.SILU
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_mlp_bias: bool = False
    query_key_norm: QueryKeyNorm = QueryKeyNorm.NONE
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    logit_softcap: float | None = None
    names: LayerNames = LLAMA_NAMES

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """Every rotation that some layer uses, once."""
        return tuple(dict.fromkeys(layer.rope for layer in self.layers if layer.rope is not None))

    def page_layout(self, *, page_size: int, dtype: str, model_digest: bytes) -> PageLayout:
        """Geometry of this model's pages. `dtype` is what keys and values are kept in."""
        return PageLayout(
            num_layers=self.num_layers,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            page_size=page_size,
            dtype=dtype,
            model_digest=model_digest,
        )
