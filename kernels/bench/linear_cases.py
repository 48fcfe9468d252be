"""What exactness costs: products whose rows do not know of each other, beside the library's. And experts by pairs.

Legend: T tokens, C channels in, O channels out, E experts, P pairs of a token and an expert.
"""

from functools import partial

import torch
from torch.nn import functional

from kernels.bench.case import Case, Planned, relative_error
from kernels.gpu.exact_linear import exact_linear
from kernels.gpu.expert_linear import expert_linear

TOLERANCE = 1e-2
CHANNELS, OUT = 4096, 14_336
EXPERT_CHANNELS, EXPERT_OUT, NUM_EXPERTS, NUM_CHOSEN = 2048, 1536, 128, 8
"""One layer of a model of 30 B parameters, 3 B of them active: gate and up of 768 inner channels."""


def exact(name: str, tokens: int, device: torch.device, *, is_small: bool) -> Case:
    """The up projection of the 8B shape."""
    tokens, channels, out = (2, 80, 48) if is_small else (tokens, CHANNELS, OUT)
    x_TC = torch.randn((tokens, channels), dtype=torch.bfloat16, device=device)
    weight_OC = torch.randn((out, channels), dtype=torch.bfloat16, device=device) * channels**-0.5
    return Case(
        name=name,
        num_bytes=x_TC.nbytes + weight_OC.nbytes + 2 * tokens * out,
        flops=2 * tokens * channels * out,
        tolerance=TOLERANCE,
        error=lambda: relative_error(exact_linear(x_TC, weight_OC, None), x_TC.float() @ weight_OC.float().T),
        run=lambda _: exact_linear(x_TC, weight_OC, None),
        rivals={"library": lambda _: functional.linear(x_TC, weight_OC)},
    )


def experts(name: str, tokens: int, device: torch.device, *, is_small: bool) -> Case:
    """Distinct experts for each token, at random. The bound counts every expert that some token chose once."""
    tokens, channels, out = (2, 80, 48) if is_small else (tokens, EXPERT_CHANNELS, EXPERT_OUT)
    x_TC = torch.randn((tokens, channels), dtype=torch.bfloat16, device=device)
    weights_EOC = torch.randn((NUM_EXPERTS, out, channels), dtype=torch.bfloat16, device=device) * channels**-0.5
    experts_P = torch.rand((tokens, NUM_EXPERTS), device=device).argsort(dim=1)[:, :NUM_CHOSEN].flatten()
    num_chosen = len(set(experts_P.tolist()))
    num_pairs = tokens * NUM_CHOSEN

    def error() -> float:
        rows_PC = x_TC.float().repeat_interleave(NUM_CHOSEN, dim=0)
        expected_PO = torch.stack(
            [weights_EOC[expert].float() @ row for expert, row in zip(experts_P.tolist(), rows_PC, strict=True)]
        )
        return relative_error(expert_linear(x_TC, weights_EOC, experts_P), expected_PO)

    return Case(
        name=name,
        num_bytes=2 * (tokens * channels + num_chosen * out * channels + num_pairs * out),
        flops=2 * num_pairs * out * channels,
        tolerance=TOLERANCE,
        error=error,
        run=lambda _: expert_linear(x_TC, weights_EOC, experts_P),
    )


CASES = (
    *(
        Planned(name=f"exact linear {tokens}", make=partial(exact, f"exact linear {tokens}", tokens))
        for tokens in (1, 64, 8192)
    ),
    *(
        Planned(name=f"experts by pairs {tokens}", make=partial(experts, f"experts by pairs {tokens}", tokens))
        for tokens in (1, 64)
    ),
)
