"""What each family's config becomes, and that no config is half understood."""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import pytest
import torch

from common.core.errors import StartupError
from common.model.description import describe
from common.model.families.registry import FAMILIES, NEUTRAL, model_spec
from common.model.load import load_model
from common.model.rope_form import LinearScaling, LongScaling, YarnScaling
from common.model.spec import QueryKeyNorm
from common.model.tensor_names import expected_tensors
from kernels.gate import Gate
from tests.model.checkpoint import CONFIG, tensors_for, write_checkpoint

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
"""What the configs of well-known models say about numbers, and the millions of their parameters."""
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LONG_FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": 128, **LONG_FACTORS}


def config_of(architecture: str, **changes: object) -> dict[str, object]:
    """CONFIG for another architecture; a value of None becomes null."""
    activation = {"hidden_activation": "gelu_pytorch_tanh"} if "Gemma" in architecture else {}
    return {**CONFIG, "architectures": [architecture], "sliding_window": 8, **activation, **changes}


def windows(config: Mapping[str, object]) -> list[int | None]:
    return [layer.form.window for layer in model_spec(config).layers]


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("MistralForCausalLM", {}, [8] * 4),
        ("MistralForCausalLM", {"sliding_window": None}, [None] * 4),
        ("MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2}, [8] * 4),
        ("Qwen2ForCausalLM", {}, [None] * 4),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 3}, [None, None, None, 8]),
        ("Qwen3MoeForCausalLM", {**MOE, "use_sliding_window": True}, [8] * 4),
        ("Gemma2ForCausalLM", {}, [8, None, 8, None]),
        ("Gemma2ForCausalLM", {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, [None, None, None, 8]),
        ("Gemma3ForCausalLM", {"sliding_window_pattern": 3}, [8, 8, None, 8]),
        ("Phi3ForCausalLM", {}, [8] * 4),
    ],
    ids=str,
)
def test_every_layer_gets_its_familys_window(
    architecture: str, changes: dict[str, object], expected: list[int | None]
) -> None:
    assert windows(config_of(architecture, num_hidden_layers=4, **changes)) == expected


def test_gemma_2_scales_and_bends() -> None:
    spec = model_spec(config_of("Gemma2ForCausalLM", query_pre_attn_scalar=64, final_logit_softcapping=None))
    assert (spec.norm_offset, spec.embedding_scale, spec.gate) == (1.0, 48**0.5, Gate.GELU_TANH)
    assert (spec.layers[0].form.scale, spec.layers[0].form.softcap) == (0.125, 50.0)
    assert spec.logit_softcap is None


def test_gemma_3_turns_its_local_layers_otherwise_in_both_spellings() -> None:
    scaling = {"rope_type": "linear", "factor": 8.0}
    older = config_of("Gemma3ForCausalLM", rope_theta=1e6, rope_local_base_freq=5e3, rope_scaling=scaling)
    ropes = {"full_attention": {**scaling, "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 5e3}}
    newer = {**config_of("Gemma3ForCausalLM", rope_parameters=ropes), "rope_theta": None}
    for config in (older, newer):
        spec = model_spec({**config, "num_hidden_layers": 6})
        whole, local = spec.layers[5].rope, spec.layers[0].rope
        assert whole is not None
        assert local is not None
        assert (whole.theta, whole.scaling) == (1e6, LinearScaling(factor=8.0))
        assert (local.theta, local.scaling) == (5e3, None)
        assert spec.query_key_norm is QueryKeyNorm.HEAD


def test_qwen_routes_every_nth_layer_but_those_it_keeps_dense() -> None:
    config = config_of("Qwen3MoeForCausalLM", **MOE, num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=[3])
    routes = [layer.experts is not None for layer in model_spec(config).layers]
    assert routes == [False, True, False, False, False, True]


def test_yarn_reaches_as_far_as_it_was_stretched() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    spec = model_spec({**CONFIG, "rope_scaling": yarn})
    assert spec.max_positions == 2048
    scaling = spec.ropes[0].scaling
    assert isinstance(scaling, YarnScaling)
    assert scaling.attention_factor == pytest.approx(1.1386, abs=1e-4)


def test_the_longest_context_chooses_the_factors_and_names_the_pages(tmp_path: Path) -> None:
    """Pages of short factors never fit a worker of long ones, though the weights are the same."""
    folder = write_checkpoint(tmp_path, rope_scaling=LONG)
    long, short, shorter = (load_model(folder, max_context=context) for context in (None, 128, 100))
    assert long.digest != short.digest
    assert short.digest == shorter.digest
    scaling = long.decoder.spec.ropes[0].scaling
    assert isinstance(scaling, LongScaling)
    assert (scaling.factors(129), scaling.factors(128)) == ((2.0,) * 8, (1.0,) * 8)


def test_without_such_factors_the_context_names_no_pages(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    assert load_model(folder).digest == load_model(folder, max_context=100).digest == load_model(folder).digest


@pytest.mark.parametrize(
    ("prefix", "vision"), [("language_model.", "vision_tower."), ("model.language_model.", "model.vision_tower.")]
)
def test_the_text_model_of_one_that_sees_is_found_in_its_folder(tmp_path: Path, prefix: str, vision: str) -> None:
    """Old and new names, a config one level deeper; the part that sees is left alone."""
    text = config_of("Gemma3ForCausalLM", head_dim=16)
    tensors = tensors_for(text)

    def inner(name: str) -> str:
        return prefix + (name if prefix == "language_model." else name.removeprefix("model."))

    deeper = {inner(name): tensor for name, tensor in tensors.items()} | {f"{vision}patch.weight": torch.ones(3, 3)}
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text, "eos_token_id": [1, 106]}
    plain = load_model(write_checkpoint(tmp_path / "text", tensors=tensors, **text))
    folder = write_checkpoint(tmp_path / "whole", tensors=deeper, **{**dict.fromkeys(CONFIG), **whole})
    model = load_model(folder)
    assert model.description.generation.eos_ids == (1, 106)
    assert model.decoder.spec == plain.decoder.spec
    assert model.description.num_parameters == plain.description.num_parameters


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_text_model_that_was_saved_without_the_head_above_it_is_the_same_one(tmp_path: Path, num_shards: int) -> None:
    """As transformers saves a base model: its names lack the outermost part."""
    tensors = tensors_for(CONFIG)
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    plain = load_model(write_checkpoint(tmp_path / "plain", tensors=tensors))
    model = load_model(write_checkpoint(tmp_path / "bare", tensors=bare, num_shards=num_shards))
    assert model.decoder.spec == plain.decoder.spec
    for name in ("embed_tokens.weight", "norm.weight", "layers.1.mlp.down_proj.weight"):
        stored = model.description.weights.tensors[f"model.{name}"]
        assert (stored.stored_name, list(stored.shape)) == (name, list(bare[name].shape))


@pytest.mark.parametrize("num_shards", [1, 2])
def test_two_tensors_of_one_name_are_refused(tmp_path: Path, num_shards: int) -> None:
    twice = {**tensors_for(CONFIG), "norm.weight": torch.ones(48)}
    with pytest.raises(StartupError, match=r"norm.weight in .* and .*norm.weight in .* are both model.norm.weight"):
        describe(write_checkpoint(tmp_path, tensors=twice, num_shards=num_shards))


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("LlamaForCausalLM", {}, "sliding_window is 8, which LlamaForCausalLM is not known to have"),
        ("MistralForCausalLM", {"attention_bias": True}, "attention_bias is True"),
        ("MistralForCausalLM", {"layer_types": ["full_attention"]}, "layer_types"),
        (
            "Qwen2ForCausalLM",
            {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": "8"},
            "sliding_window",
        ),
        ("Qwen2ForCausalLM", {"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window"),
        ("Qwen3ForCausalLM", {"use_sliding_window": True, "layer_types": ["chunked", "chunked"]}, "'chunked'; known"),
        ("Qwen3ForCausalLM", {"use_sliding_window": True, "layer_types": ["full_attention"]}, "1 entries for 2 layers"),
        ("Qwen2MoeForCausalLM", {**MOE, "use_sliding_window": True}, "use_sliding_window"),
        ("Qwen2MoeForCausalLM", {**MOE, "layer_types": ["full_attention", "sliding_attention"]}, "layer_types asks"),
        ("Qwen3MoeForCausalLM", {**MOE, "num_experts_per_tok": 5}, "num_experts_per_tok is 5 of 4 experts"),
        ("Qwen3MoeForCausalLM", {**MOE, "mlp_only_layers": [2]}, "mlp_only_layers holds 2"),
        ("MixtralForCausalLM", {}, "num_local_experts is missing"),
        (
            "MixtralForCausalLM",
            {"num_local_experts": 10**9, "num_experts_per_tok": 2},
            "num_local_experts is 1000000000",
        ),
        ("Gemma2ForCausalLM", {"hidden_activation": "relu"}, "hidden_activation is relu; known are silu"),
        ("Gemma3ForCausalLM", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("Gemma3ForCausalLM", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ("Gemma3ForConditionalGeneration", {}, "text_config is missing"),
        ("Gemma3ForConditionalGeneration", {"text_config": {**CONFIG, "clip_qkv": 8.0}}, "text_config: sliding_window"),
        ("Phi3ForCausalLM", {"rope_scaling": {**LONG, "short_factor": [1.0]}}, "short_factor has 1 entries; 8 channel"),
        ("Phi3ForCausalLM", {"rope_scaling": {**LONG, "long_factor": [-1.0] * 8}}, "long_factor is not a list"),
        ("Phi3ForCausalLM", {"rope_scaling": {**LONG, "short_mscale": 1.1}}, "short_mscale is not known for rope_type"),
        ("Phi3ForCausalLM", {"partial_rotary_factor": 0.35}, "head_dim is 16, of which 5"),
        ("Olmo2ForCausalLM", {"sliding_window": None, "clip_qkv": 8.0}, "clip_qkv is 8.0"),
        ("OlmoeForCausalLM", {"sliding_window": None, "clip_qkv": 8.0}, "clip_qkv is 8.0"),
        ("Olmo3ForCausalLM", {"rope_parameters": {"rope_type": "yarn"}}, "neither full_attention nor"),
        ("GemmaForCausalLM", {"sliding_window": None, "hidden_activation": "relu"}, "hidden_activation is relu"),
        ("Exaone4ForCausalLM", {}, "layer_types is missing"),
        (
            "Exaone4ForCausalLM",
            {"sliding_window": None, "layer_types": ["full_attention", "sliding_attention"]},
            "there is no sliding_window",
        ),
        ("SmolLM3ForCausalLM", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries for 2 layers"),
    ],
    ids=str,
)
def test_what_a_family_does_not_have_is_refused_by_name(
    architecture: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(StartupError) as caught:
        model_spec(config_of(architecture, **changes))
    assert said in str(caught.value)


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_field_that_changes_the_numbers_is_never_passed_over(key: str) -> None:
    """A Llama either reads it, so that the spec differs, or refuses it."""
    config = {**CONFIG, key: True if False in NEUTRAL[key] else 17}
    if key in ("attention_bias", "mlp_bias"):
        assert model_spec(config) != model_spec(CONFIG)
        return
    with pytest.raises(StartupError, match=key):
        model_spec(config)


def test_a_field_that_says_nothing_is_no_reason_to_refuse() -> None:
    neutral = {key: values[0] if values else None for key, values in NEUTRAL.items()}
    assert model_spec({**CONFIG, **neutral}) == model_spec(CONFIG)


def test_a_list_of_layers_that_all_see_everything_asks_for_no_windows() -> None:
    """Newer tools write it into configs of families without windows."""
    config = config_of("Qwen2MoeForCausalLM", **MOE, sliding_window=None, layer_types=["full_attention"] * 2)
    assert windows(config) == [None, None]


@pytest.mark.parametrize(
    "architecture", ["Gemma2ForCausalLM", "Gemma3ForCausalLM", "Olmo3ForCausalLM", "MinistralForCausalLM"]
)
def test_a_window_that_no_layer_looks_through_is_no_reason_to_refuse(architecture: str) -> None:
    assert windows(config_of(architecture, layer_types=["full_attention"] * 2, num_hidden_layers=2)) == [None, None]


def test_exaone_turns_only_where_it_slides_and_everywhere_where_it_never_does() -> None:
    mixed = config_of("Exaone4ForCausalLM", sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    assert [layer.rope is None for layer in model_spec(mixed).layers] == [False, True]
    whole = config_of("Exaone4ForCausalLM", sliding_window=None, layer_types=["full_attention"] * 2)
    assert [layer.rope is None for layer in model_spec(whole).layers] == [False, False]


def test_an_unknown_architecture_is_told_all_known_ones() -> None:
    with pytest.raises(StartupError) as caught:
        model_spec({**CONFIG, "architectures": ["RwkvForCausalLM"]})
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_understood_and_gives_the_models_size(name: str) -> None:
    shapes = expected_tensors(model_spec(PUBLISHED[name]["config"])).values()
    assert sum(prod(shape) for shape in shapes) // 10**6 in (
        PUBLISHED[name]["millions"] - 1,
        PUBLISHED[name]["millions"],
    )
