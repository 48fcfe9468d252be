"""The shape of a Llama-family model, the shapes this room knows by name, and how a shape is spelled in config.json."""

from dataclasses import dataclass
from enum import StrEnum


class WeightType(StrEnum):
    """Number format in which weights are stored; the values are the spellings of config.json."""

    BF16 = "bfloat16"
    FP32 = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Llama 3 frequency scaling: how a model trained on `original_max_positions` reaches longer contexts."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """All numbers that decide which tensors a model has and how large they are."""

    hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int = 4096
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    is_tied: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that no Llama network can have; the caller built it from flags."""
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embedding turns pairs of channels")

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor, in file order; a weight is stored (out, in)."""
        query, key_value = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, self.hidden)}
        for layer in range(self.num_layers):
            prefix = f"model.layers.{layer}."
            shapes |= {
                prefix + "input_layernorm.weight": (self.hidden,),
                prefix + "self_attn.q_proj.weight": (query, self.hidden),
                prefix + "self_attn.k_proj.weight": (key_value, self.hidden),
                prefix + "self_attn.v_proj.weight": (key_value, self.hidden),
                prefix + "self_attn.o_proj.weight": (self.hidden, query),
                prefix + "post_attention_layernorm.weight": (self.hidden,),
                prefix + "mlp.gate_proj.weight": (self.intermediate, self.hidden),
                prefix + "mlp.up_proj.weight": (self.intermediate, self.hidden),
                prefix + "mlp.down_proj.weight": (self.hidden, self.intermediate),
            }
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.is_tied:
            shapes["lm_head.weight"] = (self.vocab, self.hidden)
        return shapes


NAMED_SHAPES: dict[str, ModelShape] = {
    "demo": ModelShape(
        hidden=256, num_layers=8, num_heads=8, num_kv_heads=4, head_dim=32, intermediate=704, vocab=4096
    ),
    "tiny": ModelShape(hidden=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, intermediate=160, vocab=512),
    "S": ModelShape(
        hidden=768, num_layers=12, num_heads=12, num_kv_heads=4, head_dim=64, intermediate=2560, vocab=32_000
    ),
    "M": ModelShape(
        hidden=1024, num_layers=28, num_heads=16, num_kv_heads=8, head_dim=128, intermediate=3072, vocab=32_000
    ),
    "8B": ModelShape(
        hidden=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        intermediate=14_336,
        vocab=128_256,
        max_positions=8192,
        rope_theta=500_000.0,
        is_tied=False,
    ),
}
