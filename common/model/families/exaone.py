"""EXAONE 4: norms after each half of a layer and of every head. Where some layers slide, only those turn."""

from dataclasses import replace

from common.model.families.olmo import NAMES
from common.model.families.shape import read_shape, read_slides, read_window, with_windows
from common.model.fields import Fields
from common.model.spec import ModelSpec, QueryKeyNorm


def exaone4(fields: Fields) -> ModelSpec:
    fields = fields.with_defaults({"rms_norm_eps": 1e-5, "sliding_window": 4096})
    spec = replace(read_shape(fields, "Exaone4ForCausalLM"), query_key_norm=QueryKeyNorm.HEAD, names=NAMES)
    slides = _slides(fields, spec.num_layers)
    if "sliding_window" not in fields:
        if any(slides):
            raise fields.wrong("layer_types", "has sliding layers, but there is no sliding_window")
        return spec
    own = zip(spec.layers, slides, strict=True)
    spec = replace(spec, layers=tuple(layer if does else replace(layer, rope=None) for layer, does in own))
    return with_windows(spec, read_window(fields, slides), slides)


def _slides(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """A pattern of letters stands beside the list of layers that it made, which then holds."""
    has_pattern = "sliding_window_pattern" in fields
    if "layer_types" in fields or "sliding_window" not in fields:
        return read_slides(fields, [False] * num_layers)
    if not has_pattern:
        raise fields.wrong("layer_types", "is missing, and there is no sliding_window_pattern")
    pattern = fields.size("sliding_window_pattern")
    return tuple((layer + 1) % pattern != 0 for layer in range(num_layers))
