"""Which tensors the weights of a model must hold, by the names Hugging Face gives them."""

from collections.abc import Sequence

from common.model.layer_names import ExpertNames
from common.model.spec import ExpertsSpec, ModelSpec, QueryKeyNorm

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"

Shapes = dict[str, tuple[int, ...]]

INNER_PREFIXES = ("language_model.", "model.language_model.")
"""Where a model that also sees images keeps its text model, in older and in newer checkpoints."""
BARE_PREFIXES = ("embed_tokens.", "layers.", "norm.")
"""What a text model's own names begin with where it was saved without the head above it."""
OTHER_PARTS = ("vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector.")


def expected_tensors(spec: ModelSpec) -> Shapes:
    """Name and shape of every tensor; a linear weight is (outputs, inputs)."""
    shapes: Shapes = {EMBEDDING: (spec.vocab_size, spec.hidden), FINAL_NORM: (spec.hidden,)}
    if not spec.is_tied:
        shapes[HEAD] = (spec.vocab_size, spec.hidden)
    for layer in range(spec.num_layers):
        shapes |= {f"{layer_prefix(layer)}{name}": shape for name, shape in _layer_tensors(spec, layer).items()}
    return shapes


def plain_name(stored: str) -> str:
    """The name of a tensor as if the text model were the whole model."""
    for prefix in INNER_PREFIXES:
        if stored.startswith(prefix):
            inner = stored.removeprefix(prefix)
            return inner if inner.startswith(("model.", "lm_head.")) else f"model.{inner}"
    return f"model.{stored}" if stored.startswith(BARE_PREFIXES) else stored


def is_ignorable(name: str, spec: ModelSpec) -> bool:
    """Tensors that say nothing here: rotary frequencies that old tools stored, the head of tied embeddings, and the
    part of a model that sees.
    """
    return name.endswith("rotary_emb.inv_freq") or (name == HEAD and spec.is_tied) or name.startswith(OTHER_PARTS)


def layer_prefix(layer: int) -> str:
    return f"model.layers.{layer}."


def _layer_tensors(spec: ModelSpec, layer: int) -> Shapes:
    names, experts = spec.names, spec.layers[layer].experts
    query, key_value = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    shapes: Shapes = {f"{name}.weight": (spec.hidden,) for name in names.norms}
    shapes |= _linears(names.qkv, (query, key_value, key_value), spec.hidden, has_bias=spec.has_qkv_bias)
    shapes |= _linears((names.output,), (spec.hidden,), query, has_bias=spec.has_output_bias)
    if spec.query_key_norm is not QueryKeyNorm.NONE:
        is_single = spec.query_key_norm is QueryKeyNorm.HEAD
        shapes[f"{names.query_norm}.weight"] = (spec.head_dim if is_single else query,)
        shapes[f"{names.key_norm}.weight"] = (spec.head_dim if is_single else key_value,)
    if experts is None:
        return shapes | _network(names.gate_up, names.down, spec.hidden, spec.intermediate, has_bias=spec.has_mlp_bias)
    return shapes | _experts(names.experts, experts, spec.hidden)


def _experts(names: ExpertNames, experts: ExpertsSpec, hidden: int) -> Shapes:
    shapes = _linears((names.router,), (experts.num_experts,), hidden)
    for expert in range(experts.num_experts):
        gate_up, down = expert_names(names, expert)
        shapes |= _network(gate_up, down, hidden, experts.intermediate)
    if experts.shared_intermediate is not None:
        shapes |= _linears((names.shared_router,), (1,), hidden)
        shapes |= _network(names.shared_gate_up, names.shared_down, hidden, experts.shared_intermediate)
    return shapes


def expert_names(names: ExpertNames, expert: int) -> tuple[tuple[str, ...], str]:
    """Gate and up, and down, of one expert."""
    return tuple(name.format(expert) for name in names.gate_up), names.down.format(expert)


def _network(gate_up: Sequence[str], down: str, hidden: int, intermediate: int, *, has_bias: bool = False) -> Shapes:
    return _linears(gate_up, (intermediate, intermediate), hidden, has_bias=has_bias) | _linears(
        (down,), (hidden,), intermediate, has_bias=has_bias
    )


def _linears(names: Sequence[str], outputs: Sequence[int], inputs: int, *, has_bias: bool = False) -> Shapes:
    """Linear layers with these outputs each; a single name stands for all of them in one matrix."""
    shapes: Shapes = {}
    for name, size in zip(names, outputs if len(names) == len(outputs) else [sum(outputs)], strict=True):
        shapes[f"{name}.weight"] = (size, inputs)
        if has_bias:
            shapes[f"{name}.bias"] = (size,)
    return shapes
