"""Gemma: norms of weight + 1, a scaled embedding. Gemma 2 and 3 also normalise after each half of a layer, have windows
by layer, and bend scores and logits.

Of a Gemma 3 that sees images the text model is read; its config and its weights lie one level deeper.
"""

from dataclasses import replace

from common.model.families.shape import read_shape, read_slides, read_window, with_scale, with_windows
from common.model.fields import Fields
from common.model.layer_names import LayerNames
from common.model.rope_fields import read_ropes
from common.model.spec import ModelSpec, QueryKeyNorm
from kernels.gate import Gate

NAMES = LayerNames(
    attention_output_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_output_norm="post_feedforward_layernorm",
)
TANH = "gelu_pytorch_tanh"
GEMMA_DEFAULTS = {"hidden_act": TANH, "max_position_embeddings": 8192}
GEMMA2_DEFAULTS = {
    "hidden_activation": TANH,
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
GEMMA3_DEFAULTS = {
    "hidden_activation": TANH,
    "max_position_embeddings": 131_072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 262_208,
}
"""Published configs of larger models leave sizes out."""
GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0


def gemma(fields: Fields) -> ModelSpec:
    """The first one. Its authors wrote gelu and meant the approximation by tanh, which a later field says outright."""
    fields = fields.with_defaults(GEMMA_DEFAULTS)
    if (meant := fields.text("hidden_activation", TANH)) != TANH:
        raise fields.wrong("hidden_activation", f"is {meant}; known is {TANH}")
    spec = read_shape(fields, "GemmaForCausalLM", is_tied=True, head_dim=256)
    if spec.gate is Gate.GELU:
        spec = replace(spec, gate=Gate.GELU_TANH)
    return _with_biases(_scaled(spec), fields)


def gemma2(fields: Fields) -> ModelSpec:
    """Every other layer slides, the first one does."""
    fields = fields.with_defaults(GEMMA2_DEFAULTS)
    spec = _gemma(read_shape(fields, "Gemma2ForCausalLM", gate_key="hidden_activation", is_tied=True, head_dim=256))
    spec = _with_attention(spec, fields, softcap=fields.optional_number("attn_logit_softcapping"))
    spec = replace(spec, logit_softcap=fields.optional_number("final_logit_softcapping"))
    slides = read_slides(fields, [layer % 2 == 0 for layer in range(spec.num_layers)])
    return with_windows(spec, read_window(fields, slides), slides)


def gemma3(fields: Fields) -> ModelSpec:
    """Every sixth layer sees all of the context, with a rope of its own; the others slide."""
    fields = fields.with_defaults(GEMMA3_DEFAULTS)
    num_layers = fields.count("num_hidden_layers")
    pattern = fields.size("sliding_window_pattern", 6)
    slides = read_slides(fields, [(layer + 1) % pattern != 0 for layer in range(num_layers)])
    whole, local = read_ropes(
        fields,
        fields.size("head_dim", 256),
        whole_theta=fields.number("rope_theta", GLOBAL_THETA),
        local_theta=fields.number("rope_local_base_freq", LOCAL_THETA),
    )
    spec = read_shape(
        fields,
        "Gemma3ForCausalLM",
        gate_key="hidden_activation",
        is_tied=True,
        head_dim=256,
        ropes=[local if does else whole for does in slides],
    )
    spec = replace(
        _with_attention(_gemma(spec), fields, softcap=None),
        query_key_norm=QueryKeyNorm.HEAD,
        logit_softcap=fields.optional_number("final_logit_softcapping"),
    )
    return with_windows(spec, read_window(fields, slides), slides)


def gemma3_text(fields: Fields) -> ModelSpec:
    """The text model of one that sees images too."""
    text = fields.nested("text_config")
    if text is None:
        raise fields.wrong("text_config", "is missing")
    if "tie_word_embeddings" in fields:
        text = text.with_defaults({"tie_word_embeddings": fields.flag("tie_word_embeddings", True)})
    return gemma3(text)


def _gemma(spec: ModelSpec) -> ModelSpec:
    return replace(_scaled(spec), names=NAMES)


def _scaled(spec: ModelSpec) -> ModelSpec:
    return replace(spec, norm_offset=1.0, embedding_scale=spec.hidden**0.5)


def _with_biases(spec: ModelSpec, fields: Fields) -> ModelSpec:
    has_bias = fields.flag("attention_bias", False)
    return replace(spec, has_qkv_bias=has_bias, has_output_bias=has_bias)


def _with_attention(spec: ModelSpec, fields: Fields, *, softcap: float | None) -> ModelSpec:
    spec = _with_biases(spec, fields)
    return with_scale(spec, fields.number("query_pre_attn_scalar", 256.0) ** -0.5, softcap)
