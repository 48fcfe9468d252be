"""config.json becomes a spec, in its old and new spellings, and what is not known is refused by name."""

import pytest

from common.core.errors import Reason, StartupError
from common.model.families.registry import model_spec
from common.model.generation import generation_defaults
from common.model.rope_form import LinearScaling, Llama3Scaling, Rope
from tests.model.checkpoint import CONFIG

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SCALED = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=64)


def test_a_plain_config_gives_every_number() -> None:
    spec = model_spec(CONFIG)
    assert (spec.num_layers, spec.hidden, spec.num_heads, spec.num_kv_heads, spec.head_dim) == (2, 48, 4, 2, 16)
    assert (spec.intermediate, spec.vocab_size, spec.max_positions, spec.norm_epsilon) == (80, 300, 512, 1e-5)
    assert spec.is_tied
    assert not spec.has_qkv_bias
    assert not spec.has_output_bias
    assert spec.ropes == (Rope(theta=10_000.0, scaling=None),)


def test_absent_values_take_the_familys_defaults() -> None:
    absent = {"head_dim", "num_key_value_heads", "rope_theta", "tie_word_embeddings"}
    spec = model_spec({key: value for key, value in CONFIG.items() if key not in absent})
    assert (spec.head_dim, spec.num_kv_heads, spec.ropes[0].theta, spec.is_tied) == (12, 4, 10_000.0, False)


@pytest.mark.parametrize(
    ("changes", "rope"),
    [
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3}}, Rope(theta=10_000.0, scaling=SCALED)),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, Rope(theta=10_000.0, scaling=LinearScaling(factor=2.0))),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, Rope(theta=5e5, scaling=None)),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 7, **LLAMA3}}, Rope(theta=7.0, scaling=SCALED)),
    ],
    ids=["llama3", "linear", "new default", "new llama3"],
)
def test_rope_scaling_is_read_in_both_spellings(changes: dict[str, object], rope: Rope) -> None:
    assert model_spec({**CONFIG, **changes}).ropes == (rope,)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
        ({"architectures": None}, "architectures"),
        ({"architectures": ["LlamaForCausalLM", "Other"]}, "architectures"),
        ({"rope_scaling": {"rope_type": "mrope", "factor": 2.0}}, "mrope"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "low_freq_factor": 4.0}}, "low_freq_factor"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"hidden_act": "relu2"}, "relu2"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 15}, "head_dim"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": 1_000_000_000}, "num_hidden_layers"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config asks for quantised (awq) weights"),
        ({"quantization_config": {}}, "quantization_config asks for quantised weights"),
        ({"quantization_config": 4}, "quantization_config asks for quantised weights"),
        ({"architectures": [["LlamaForCausalLM"]]}, "architectures"),
        ({"rope_theta": 1.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_theta"),
        (
            {
                "original_max_position_embeddings": 1,
                "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
            },
            "original_max_position_embeddings",
        ),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(StartupError) as caught:
        model_spec({**CONFIG, **changes})
    assert caught.value.reason is Reason.MODEL_LOAD_FAILED
    assert named in str(caught.value)


def test_page_layouts_of_two_models_differ_by_digest() -> None:
    spec = model_spec(CONFIG)
    one = spec.page_layout(page_size=16, dtype="float32", model_digest=b"one")
    assert one.page_bytes == 2 * 2 * 2 * 16 * 16 * 4
    assert one.difference(spec.page_layout(page_size=16, dtype="float32", model_digest=b"two"))


@pytest.mark.parametrize(
    ("config", "generation", "eos_ids"),
    [
        ({"eos_token_id": 1}, {}, (1,)),
        ({"eos_token_id": 1}, {"eos_token_id": [2, 3]}, (2, 3)),
        ({"eos_token_id": [4, 5]}, {}, (4, 5)),
        ({}, {}, ()),
    ],
    ids=str,
)
def test_end_tokens_come_from_generation_config_first(
    config: dict[str, object], generation: dict[str, object], eos_ids: tuple[int, ...]
) -> None:
    assert generation_defaults(config, generation).eos_ids == eos_ids


def test_sampling_defaults_are_the_authors_own() -> None:
    said = generation_defaults({}, {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 40})
    assert (said.temperature, said.top_p, said.top_k) == (0.7, 0.95, 40)
    more = generation_defaults({}, {"do_sample": False, "min_p": 0.1, "repetition_penalty": 1.05})
    assert (more.min_p, more.repetition_penalty) == (None, 1.05)  # a penalty holds for greedy answers too
    silent = generation_defaults({}, {})
    assert (silent.temperature, silent.top_p, silent.top_k) == (None, None, None)
    assert generation_defaults({}, {"do_sample": False, "temperature": 0.7}).temperature == 0.0


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 2.5), ("top_p", 1.5), ("min_p", 3), ("repetition_penalty", 11.0)]
)
def test_authors_may_ask_for_what_requests_may_ask_for(field: str, value: float) -> None:
    with pytest.raises(StartupError, match=f"{field} is .*at most"):
        generation_defaults({}, {field: value})


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_zero_of_the_authors_is_what_it_is_in_a_request(zero: float) -> None:
    said = generation_defaults({}, {"temperature": zero, "top_k": zero})
    assert (said.temperature, said.top_k) == (0.0, None)


@pytest.mark.parametrize("eos", ["</s>", [1, "2"], -1, True], ids=str)
def test_end_tokens_of_a_wrong_type_are_refused(eos: object) -> None:
    with pytest.raises(StartupError, match="eos_token_id"):
        generation_defaults({}, {"eos_token_id": eos})
