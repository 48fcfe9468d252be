"""A feed-forward network of many experts, of which a router chooses a few for every token.

    out[t] = sum over the chosen e of share[t, e] * network_e(x[t])

Bound by bytes of the chosen experts' weights while tokens are few, by FLOPs above.

A token's result does not depend on the tokens beside it, bit for bit where `linear` keeps that promise: every expert
computes its own rows, and a token's sum is taken in the order of the experts' numbers, in fp32.

Legend: T tokens, C channels, E experts, N experts chosen per token, R rows of one expert.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.linear import LinearWeight, linear


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeedForward:
    """A gated network, one of many or the only one. `gate_up` is prepared with its gate."""

    gate_up: LinearWeight
    down: LinearWeight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routing:
    """Which experts compute each token, and the share of each, fp32."""

    experts_TN: Tensor
    shares_TN: Tensor


def feed_forward(x_TC: Tensor, network: FeedForward) -> Tensor:
    """down(gate(g(x)) * u(x)), (T, C)."""
    return linear(linear(x_TC, network.gate_up), network.down)


def route(logits_TE: Tensor, num_chosen: int, *, is_normalized: bool) -> Routing:
    """The `num_chosen` likeliest experts of every token; their shares add up to one where `is_normalized`."""
    shares_TN, experts_TN = logits_TE.float().softmax(dim=-1).topk(num_chosen, dim=-1)
    if is_normalized:
        shares_TN = shares_TN / shares_TN.sum(dim=-1, keepdim=True)
    return Routing(experts_TN=experts_TN, shares_TN=shares_TN)


def routed_experts(x_TC: Tensor, routing: Routing, experts: Sequence[FeedForward]) -> Tensor:
    """(T, C) in the type of x. Experts that nobody chose cost nothing."""
    out_TC = torch.zeros_like(x_TC, dtype=torch.float32)
    for number in torch.unique(routing.experts_TN).tolist():
        rows_R, places_R = torch.nonzero(routing.experts_TN == number, as_tuple=True)
        y_RC = feed_forward(torch.index_select(x_TC, 0, rows_R), experts[number])
        out_TC.index_add_(0, rows_R, y_RC * routing.shares_TN[rows_R, places_R, None])
    return out_TC.to(x_TC.dtype)
