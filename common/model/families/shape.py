"""What all families spell alike: sizes, a plain attention, one rope, and windows by layer."""

from collections.abc import Sequence
from dataclasses import replace

from common.model.fields import Fields
from common.model.rope_fields import read_rope
from common.model.rope_form import Rope, YarnScaling
from common.model.spec import LayerSpec, ModelSpec
from kernels.attention_form import AttentionForm
from kernels.gate import Gate

GATES = {
    "silu": Gate.SILU,
    "swish": Gate.SILU,
    "gelu": Gate.GELU,
    "gelu_pytorch_tanh": Gate.GELU_TANH,
    "gelu_new": Gate.GELU_TANH,
}
DEFAULTS = {"hidden_act": "silu", "max_position_embeddings": 2048}
LAYER_TYPES = ("full_attention", "sliding_attention")


def read_shape(
    fields: Fields,
    architecture: str,
    *,
    gate_key: str = "hidden_act",
    theta: float = 10_000.0,
    is_tied: bool = False,
    head_dim: int | None = None,
    ropes: Sequence[Rope] | None = None,
    turns_all: bool = True,
) -> ModelSpec:
    """The spec of a Llama-shaped config, which families then change. Keywords are what a family takes for granted.

    `ropes`, one per layer, replace the one that is read otherwise.
    """
    fields = fields.with_defaults(DEFAULTS)
    hidden, num_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    num_kv_heads = fields.size("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise fields.wrong("num_key_value_heads", f"is {num_kv_heads}, which does not divide {num_heads} query heads")
    head_dim = fields.size("head_dim", head_dim or max(1, hidden // num_heads))
    num_layers = fields.count("num_hidden_layers")
    if ropes is None:
        ropes = (read_rope(fields, head_dim, theta=theta, turns_all=turns_all),) * num_layers
    form = AttentionForm(scale=head_dim**-0.5)
    return ModelSpec(
        architecture=architecture,
        layers=tuple(LayerSpec(form=form, rope=rope) for rope in ropes),
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        intermediate=fields.size("intermediate_size"),
        vocab_size=fields.size("vocab_size"),
        max_positions=max(fields.size("max_position_embeddings"), *(_reach(rope) for rope in ropes)),
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        is_tied=fields.flag("tie_word_embeddings", is_tied),
        gate=read_gate(fields, gate_key),
    )


def read_gate(fields: Fields, key: str) -> Gate:
    name = fields.text(key)
    if name not in GATES:
        raise fields.wrong(key, f"is {name}; known are {', '.join(GATES)}")
    return GATES[name]


def with_windows(spec: ModelSpec, window: int | None, slides: Sequence[bool]) -> ModelSpec:
    """The layers that slide see only the last `window` keys."""
    layers = [
        replace(layer, form=replace(layer.form, window=window)) if does else layer
        for layer, does in zip(spec.layers, slides, strict=True)
    ]
    return replace(spec, layers=tuple(layers))


def with_scale(spec: ModelSpec, scale: float, softcap: float | None = None) -> ModelSpec:
    """Every layer's scores are scaled, and bent, like this."""
    layers = [replace(layer, form=replace(layer.form, scale=scale, softcap=softcap)) for layer in spec.layers]
    return replace(spec, layers=tuple(layers))


def read_slides(fields: Fields, default: Sequence[bool]) -> tuple[bool, ...]:
    """Which layers slide: by `layer_types`, or else as the family takes for granted."""
    if "layer_types" not in fields:
        return tuple(default)
    kinds = fields.choices("layer_types", LAYER_TYPES)
    if len(kinds) != len(default):
        raise fields.wrong("layer_types", f"has {len(kinds)} entries for {len(default)} layers")
    return tuple(kind == "sliding_attention" for kind in kinds)


def uses_windows(fields: Fields) -> bool:
    """The switch that some families have. While it is off, the size of a window says nothing."""
    has_size = "sliding_window" in fields
    return fields.flag("use_sliding_window", False) and has_size


def read_window(fields: Fields, slides: Sequence[bool]) -> int | None:
    """The size of the window; needed where a layer slides, and of no consequence where none does."""
    window = fields.optional_size("sliding_window")
    if window is None and any(slides):
        raise fields.wrong("sliding_window", "is missing, and layers slide")
    return window if any(slides) else None


def _reach(rope: Rope) -> int:
    """How many positions a rope was stretched to, where it says so itself."""
    scaling = rope.scaling
    return int(scaling.original_positions * scaling.factor) if isinstance(scaling, YarnScaling) else 1
