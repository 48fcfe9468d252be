"""What a model is: every number that decides its tensors and its arithmetic, read from config.json.

The seam for families: one function per architecture turns a config into a ModelSpec, whose fields say how dense
families differ; one decoder class reads them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.kv.layout import PageLayout
from common.model.fields import Fields
from common.model.folder import CONFIG_FILE, load_failed


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Positions are divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Slow rotations are divided by `factor`, fast ones kept, those between blended: see common/model/rope."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding: base and scaling."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A dense decoder. `max_positions` is the longest context it was made for."""

    architecture: str
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    max_positions: int
    norm_epsilon: float
    rope: Rope
    is_tied: bool
    has_attention_bias: bool
    has_mlp_bias: bool

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


def model_spec(config: Mapping[str, object]) -> ModelSpec:
    """The spec of a config. Raises StartupError for an architecture or a variant that is not known, by name."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1 or architectures[0] not in FAMILIES:
        raise load_failed(
            f"{CONFIG_FILE}: architectures is {architectures!r:.80}; known ones are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[architectures[0]](Fields(config, CONFIG_FILE))


def llama_spec(fields: Fields) -> ModelSpec:
    """Llama 2 and 3, and what is shaped like them."""
    if "quantization_config" in fields:
        raise fields.wrong("quantization_config", "asks for quantised weights, which this release does not read")
    if fields.text("hidden_act", "silu") != "silu":
        raise fields.wrong("hidden_act", f"is {fields.text('hidden_act')}; silu is known")
    hidden, num_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    num_kv_heads = fields.size("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise fields.wrong("num_key_value_heads", f"is {num_kv_heads}, which does not divide {num_heads} query heads")
    head_dim = fields.size("head_dim", max(1, hidden // num_heads))
    if head_dim % 2:
        raise fields.wrong("head_dim", f"is {head_dim}; rotary embedding turns pairs of channels")
    return ModelSpec(
        architecture="LlamaForCausalLM",
        num_layers=fields.size("num_hidden_layers"),
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        intermediate=fields.size("intermediate_size"),
        vocab_size=fields.size("vocab_size"),
        max_positions=fields.size("max_position_embeddings", 2048),
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        rope=read_rope(fields),
        is_tied=fields.flag("tie_word_embeddings", False),
        has_attention_bias=fields.flag("attention_bias", False),
        has_mlp_bias=fields.flag("mlp_bias", False),
    )


def read_rope(fields: Fields) -> Rope:
    """Rotary embedding from `rope_parameters` (newer configs), or `rope_theta` with `rope_scaling` (older ones)."""
    newer, older = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    scaling = newer or older
    theta = fields.number("rope_theta", 10_000.0)
    if newer is not None:
        theta = newer.number("rope_theta", theta)
    if scaling is None:
        return Rope(theta=theta, scaling=None)
    if scaling.number("partial_rotary_factor", 1.0) != 1.0:
        raise scaling.wrong("partial_rotary_factor", "is not 1; every channel is turned in this family")
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    match kind:
        case "default":
            return Rope(theta=theta, scaling=None)
        case "linear":
            return Rope(theta=theta, scaling=LinearScaling(factor=scaling.number("factor")))
        case "llama3":
            return Rope(theta=theta, scaling=_llama3_scaling(scaling))
        case _:
            raise scaling.wrong("rope_type", f"is {kind}; known are default, linear and llama3")


def _llama3_scaling(fields: Fields) -> Llama3Scaling:
    scaling = Llama3Scaling(
        factor=fields.number("factor"),
        low_freq_factor=fields.number("low_freq_factor"),
        high_freq_factor=fields.number("high_freq_factor"),
        original_positions=fields.size("original_max_position_embeddings"),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise fields.wrong("low_freq_factor", f"is {scaling.low_freq_factor}, not below high_freq_factor")
    return scaling


FAMILIES: Mapping[str, Callable[[Fields], ModelSpec]] = {"LlamaForCausalLM": llama_spec}
