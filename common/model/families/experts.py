"""Which layers of a model are networks of experts."""

from collections.abc import Sequence
from dataclasses import replace

from common.model.fields import Fields
from common.model.spec import ExpertsSpec, ModelSpec


def with_experts(spec: ModelSpec, fields: Fields, experts: ExpertsSpec, routes: Sequence[bool]) -> ModelSpec:
    """The layers that route have these experts, the others stay dense."""
    if experts.num_chosen > experts.num_experts:
        raise fields.wrong("num_experts_per_tok", f"is {experts.num_chosen} of {experts.num_experts} experts")
    layers = [
        replace(layer, experts=experts) if does else layer for layer, does in zip(spec.layers, routes, strict=True)
    ]
    return replace(spec, layers=tuple(layers))


def read_routes(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """Qwen's way: every `decoder_sparse_step`-th layer, but for those in `mlp_only_layers`."""
    step = fields.size("decoder_sparse_step", 1)
    dense = fields.choices("mlp_only_layers", range(num_layers)) if "mlp_only_layers" in fields else ()
    return tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(num_layers))
