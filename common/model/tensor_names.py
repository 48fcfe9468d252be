"""Which tensors the weights of a model must hold, by the names Hugging Face gives them."""

from common.model.spec import ModelSpec

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def expected_tensors(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor; a linear weight is (outputs, inputs)."""
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (spec.vocab_size, spec.hidden), FINAL_NORM: (spec.hidden,)}
    if not spec.is_tied:
        shapes[HEAD] = (spec.vocab_size, spec.hidden)
    for layer in range(spec.num_layers):
        shapes |= {f"{layer_prefix(layer)}{name}": shape for name, shape in _layer_tensors(spec).items()}
    return shapes


def is_ignorable(name: str, spec: ModelSpec) -> bool:
    """Tensors that old tools stored though they say nothing: rotary frequencies, and the head of tied embeddings."""
    return name.endswith("rotary_emb.inv_freq") or (name == HEAD and spec.is_tied)


def layer_prefix(layer: int) -> str:
    return f"model.layers.{layer}."


def _layer_tensors(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    query, key_value = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    attention = {
        "self_attn.q_proj": (query, spec.hidden),
        "self_attn.k_proj": (key_value, spec.hidden),
        "self_attn.v_proj": (key_value, spec.hidden),
        "self_attn.o_proj": (spec.hidden, query),
    }
    mlp = {
        "mlp.gate_proj": (spec.intermediate, spec.hidden),
        "mlp.up_proj": (spec.intermediate, spec.hidden),
        "mlp.down_proj": (spec.hidden, spec.intermediate),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (spec.hidden,),
        "post_attention_layernorm.weight": (spec.hidden,),
    }
    for linears, has_bias in ((attention, spec.has_attention_bias), (mlp, spec.has_mlp_bias)):
        for name, shape in linears.items():
            shapes[f"{name}.weight"] = shape
            if has_bias:
                shapes[f"{name}.bias"] = shape[:1]
    return shapes
