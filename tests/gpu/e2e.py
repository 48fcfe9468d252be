"""Output tokens per second beside transformers: `python -m tests.gpu.e2e [--out FILE] [--miniature]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` compares tokens on a CPU, as CI does, and times nothing. Both read the same random
weights and the same prompts, greedily, on the same GPU, one after the other: 64 prompts of 1,024 tokens at once, 256
tokens answered to each, transformers by its continuous batching. The check: a small model in float32 draws the same
tokens in both. Without transformers only Baton's side is timed, and the file says so. Baton's side is its decoder,
pages, recorded steps and draw in one process, without the wire. From a bare checkout but for transformers.
"""

import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.engine.decode_graphs import Record
from common.engine.device_graph import recorder
from common.model.decoder import Decoder
from common.model.spec import ModelSpec
from kernels.dispatch import interpreted
from tests.gpu.engine import Engine, Span, finish
from tests.gpu.part import NO_GPU, conditions, keep, part_device, part_parser, tell
from tests.gpu.random_decoder import EIGHT_B, TINY, random_decoder
from tests.gpu.rows import step_row

PROMPT_TOKENS_PER_STEP = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many prompts at once, all of one length, and tokens answered to each."""

    streams: int
    prompt: int
    answer: int


FULL = Load(streams=64, prompt=1024, answer=256)
SMALL = Load(streams=3, prompt=9, answer=6)


def rival_model(spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> Any | None:
    """transformers' Llama of this shape with random weights; None where transformers is not there."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    torch.manual_seed(1)
    rope = spec.layers[0].rope
    assert rope is not None
    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        max_position_embeddings=spec.max_positions,
        rms_norm_eps=spec.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": rope.theta},
        tie_word_embeddings=False,
    )
    with device:
        model: Any = LlamaForCausalLM(config)
    return model.to(dtype).eval()


def prompts_of(load: Load) -> list[list[int]]:
    return [[int(token) for token in step_row(place, 0, load.prompt, []).tokens] for place in range(load.streams)]


def own_decoder(spec: ModelSpec, model: Any, dtype: torch.dtype, max_context: int) -> Decoder:
    """Over the rival's own weights; fused ones are copies."""
    weights: dict[str, Tensor] = model.state_dict()

    def read(name: str, dtype: torch.dtype | None = None) -> Tensor:
        return weights[name] if dtype is None else weights[name].to(dtype)

    return Decoder(spec, read, max_context=max_context, dtype=dtype, table_dtype=dtype)


def answered(engine: Engine, load: Load) -> list[list[int]]:
    """Prompts as many to a step as fit, then everybody's next token."""
    per_step = max(1, PROMPT_TOKENS_PER_STEP // load.prompt)
    places = list(range(load.streams))
    for first in range(0, load.streams, per_step):
        engine.extend([Span(context=place, first=0, end=load.prompt) for place in places[first : first + per_step]])
    tokens = [[int(token)] for token in engine.drawn]
    for _ in range(load.answer - 1):
        for own, token in zip(tokens, engine.decode(places), strict=True):
            own.append(int(token))
    return tokens


def rivals(model: Any, load: Load, *, is_batched: bool) -> list[list[int]]:
    """By continuous batching; one after the other for the check."""
    from transformers import GenerationConfig

    config: Any = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers'
        max_new_tokens=load.answer, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    prompts = prompts_of(load)
    if is_batched:
        found = model.generate_batch(prompts, generation_config=config)
        return [list(each.generated_tokens) for each in found.values()]
    found = []
    for prompt in prompts:
        prompt_1T = torch.tensor([prompt], device=model.device)
        everything = torch.ones_like(prompt_1T)
        told_1T = model.generate(prompt_1T, attention_mask=everything, generation_config=config)
        found.append(told_1T[0, load.prompt :].tolist())
    return found


def tokens_are_equal(device: torch.device, record: Record | None, *, is_interpreted: bool) -> bool | None:
    """None: nobody to compare with."""
    model = rival_model(TINY, torch.float32, device)
    if model is None:
        return None
    with interpreted() if is_interpreted else nullcontext():
        engine = Engine(
            own_decoder(TINY, model, torch.float32, 64),
            max_lengths=[SMALL.prompt + SMALL.answer] * SMALL.streams,
            record=record,
        )
        own = answered(engine, SMALL)
    return own == rivals(model, SMALL, is_batched=False)


def timed(device: torch.device, out: Path | None) -> dict[str, object]:
    """Tokens per second of both; ours are kept before the rival begins."""
    model = rival_model(EIGHT_B, torch.bfloat16, device)
    found = conditions(device) | {"streams": FULL.streams, "prompt": FULL.prompt, "answer": FULL.answer}
    found["baton_tokens_per_s"] = own_tokens_per_s(model, device)
    keep(found, out)
    if model is None:
        return found | {"transformers": "not installed"}
    # Baton's pages and fused weights are gone: the rival's cache takes what is free.
    gc.collect()
    torch.cuda.empty_cache()
    found["transformers_tokens_per_s"] = tokens_per_s(lambda: rivals(model, FULL, is_batched=True), device)
    return found


def own_tokens_per_s(model: Any | None, device: torch.device) -> float:
    """Over the rival's weights, or random ones where there is no rival."""
    max_context, dtype = FULL.prompt + FULL.answer, torch.bfloat16
    if model is None:
        decoder = random_decoder(EIGHT_B, dtype=dtype, device=device, max_context=max_context)
    else:
        decoder = own_decoder(EIGHT_B, model, dtype, max_context)
    engine = Engine(decoder, max_lengths=[max_context] * FULL.streams, record=recorder(device))
    return tokens_per_s(lambda: answered(engine, FULL), device)


def tokens_per_s(run: Callable[[], list[list[int]]], device: torch.device) -> float:
    """Of the second of two runs."""
    run()
    finish(device)
    began = time.perf_counter()
    num_tokens = sum(map(len, run()))
    finish(device)
    return num_tokens / (time.perf_counter() - began)


def main() -> int:
    """0 when tokens agree, 1 when not, 2 without a GPU."""
    given = part_parser(__doc__).parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        record = None if given.miniature else recorder(device)
        are_equal = tokens_are_equal(device, record, is_interpreted=given.miniature)
        found: dict[str, object] = {"tokens_are_equal": "not compared" if are_equal is None else are_equal}
        if are_equal is not False and not given.miniature:
            found |= timed(device, given.out)
    tell(found, given.out)
    return 1 if are_equal is False else 0


if __name__ == "__main__":
    sys.exit(main())
