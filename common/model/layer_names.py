"""How a checkpoint names the tensors of a layer, and which norms a layer has."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertNames:
    """A router and the networks it chooses from; `{}` is an expert's number."""

    router: str = "mlp.gate"
    gate_up: tuple[str, str] = ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj")
    down: str = "mlp.experts.{}.down_proj"
    shared_gate_up: tuple[str, str] = ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj")
    shared_down: str = "mlp.shared_expert.down_proj"
    shared_router: str = "mlp.shared_expert_gate"


QWEN_EXPERTS = ExpertNames()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNames:
    """Names without prefix and suffix. Where several make one matrix they lie one above the other, in this order.

    A norm that is None does not exist. Those of outputs come before the residual is added.
    """

    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    query_norm: str = "self_attn.q_norm"
    key_norm: str = "self_attn.k_norm"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    attention_norm: str | None = "input_layernorm"
    attention_output_norm: str | None = None
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_output_norm: str | None = None
    experts: ExpertNames = QWEN_EXPERTS

    @property
    def norms(self) -> tuple[str, ...]:
        """Those that exist."""
        every = (self.attention_norm, self.attention_output_norm, self.mlp_norm, self.mlp_output_norm)
        return tuple(name for name in every if name is not None)


LLAMA_NAMES = LayerNames()
"""Most families', too."""
