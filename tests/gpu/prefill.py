"""How fast prompts are read: `python -m tests.gpu.prefill [--out FILE] [--miniature]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` checks in Triton's interpreter, as CI does, and times nothing. The check: a prompt
in chunks ends in the token that it ends in whole. Times are of whole steps of the 8B shape in bf16 with the draw,
beside their bound: operations over the rate of a large matrix product of the same run. From a bare checkout.
"""

import sys
from contextlib import nullcontext

import torch

from common.model.effort import SizedModel
from kernels.bench.ceilings import measured_ceilings
from kernels.dispatch import interpreted
from tests.gpu.engine import Engine, Span
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.random_decoder import EIGHT_B, TINY, random_decoder
from tests.gpu.step_times import seconds_of

CASES = ((1, 8192), (8, 1024), (1, 1024))
"""Prompts of a step, and tokens of each."""

CEILING_REPEATS = 10


def chunks_are_equal(device: torch.device, *, is_interpreted: bool) -> bool:
    """Whole and in chunks, the same token."""
    with interpreted() if is_interpreted else nullcontext():
        decoder = random_decoder(TINY, dtype=torch.float32, device=device, max_context=256)
        engine = Engine(decoder, max_lengths=[96] * 2)
        whole = engine.extend([Span(context=0, first=0, end=80)])
        cut = [engine.extend([Span(context=0, first=first, end=end)]) for first, end in ((0, 33), (33, 50), (50, 80))]
    return whole == cut[-1]


def timed_prompts(device: torch.device) -> list[dict[str, object]]:
    ceilings, sized = measured_ceilings(device, CEILING_REPEATS), SizedModel.of(EIGHT_B, dtype="bfloat16")
    longest = max(tokens for _, tokens in CASES)
    decoder = random_decoder(EIGHT_B, dtype=torch.bfloat16, device=device, max_context=longest)
    engine = Engine(decoder, max_lengths=[longest] * max(prompts for prompts, _ in CASES))
    found: list[dict[str, object]] = [{"matmul_tflops": ceilings.flops_per_s / 1e12}]
    for num_prompts, num_tokens in CASES:
        spans = [Span(context=place, first=0, end=num_tokens) for place in range(num_prompts)]
        took_s = seconds_of(lambda spans=spans: engine.extend(spans), device)  # type: ignore[misc]  # bound at once
        bound_s = sized.prompt(num_tokens, num_prompts=num_prompts).flops / ceilings.flops_per_s
        found.append(
            {
                "prompts": num_prompts,
                "tokens": num_tokens,
                "bound_ms": bound_s * 1e3,
                "time_ms": took_s * 1e3,
                "share_of_bound": bound_s / took_s,
            }
        )
    return found


def main() -> int:
    """0 when the check passed, 1 when not, 2 without a GPU."""
    given = part_parser(__doc__).parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    with torch.inference_mode():
        is_right = chunks_are_equal(device, is_interpreted=given.miniature)
        found: dict[str, object] = {"chunks_are_equal": is_right}
        if is_right and not given.miniature:
            found |= conditions(device)
            found["prompts"] = timed_prompts(device)
    tell(found, given.out)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
