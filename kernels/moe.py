"""A feed-forward network of many experts, of which a router chooses a few for every token.

    out[t] = sum over the chosen e of share[t, e] * network_e(x[t])

Bound by bytes of the chosen experts' weights while tokens are few, by FLOPs above.

A token's result does not depend on the tokens beside it, bit for bit where `linear` keeps that promise: every expert
computes its own rows, and a token's sum is taken in the order of the experts' numbers, in fp32.

Legend: T tokens, C channels, E experts, N experts chosen per token, R rows of one expert, P pairs of a token and an
expert, J inner channels, I = 2 J.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.activation import gate_and_multiply
from kernels.dispatch import Backend, backend, is_exact
from kernels.linear import LinearWeight, linear, stacked

MAX_PAIRED_TOKENS = 256
"""Tokens up to which every pair of a token and an expert is computed for itself on a GPU, in shapes that do not depend
on what was chosen, as a recorded step needs. Chosen: the largest step that is recorded. Beyond it each expert's rows
are gathered, for which the host must know them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeedForward:
    """A gated network, one of many or the only one. `gate_up` is prepared with its gate."""

    gate_up: LinearWeight
    down: LinearWeight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experts:
    """Networks of one shape. On a GPU their weights lie in two tensors, too; elsewhere these are None."""

    networks: tuple[FeedForward, ...]
    gate_up_EIC: Tensor | None = None
    down_ECJ: Tensor | None = None

    @property
    def are_stacked(self) -> bool:
        return self.gate_up_EIC is not None


def gathered(networks: Sequence[FeedForward]) -> Experts:
    """Networks as one. Their weights move into one tensor where kernels read it there: drop the originals."""
    gate_up, down = stacked([each.gate_up for each in networks]), stacked([each.down for each in networks])
    if gate_up is None or down is None:
        return Experts(networks=tuple(networks))
    pairs = zip(gate_up[1], down[1], strict=True)
    own = tuple(FeedForward(gate_up=first, down=second) for first, second in pairs)
    return Experts(networks=own, gate_up_EIC=gate_up[0], down_ECJ=down[0])


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


def routed_experts(x_TC: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """(T, C) in the type of x. Experts that nobody chose cost nothing."""
    is_paired = len(x_TC) <= MAX_PAIRED_TOKENS or is_exact()  # one order of sums for prompts and decode steps
    if experts.are_stacked and is_paired and backend(x_TC) is Backend.TRITON:
        return _by_pairs(x_TC, routing, experts)
    out_TC = torch.zeros_like(x_TC, dtype=torch.float32)
    for number in torch.unique(routing.experts_TN).tolist():
        rows_R, places_R = torch.nonzero(routing.experts_TN == number, as_tuple=True)
        y_RC = feed_forward(torch.index_select(x_TC, 0, rows_R), experts.networks[number])
        out_TC.index_add_(0, rows_R, y_RC * routing.shares_TN[rows_R, places_R, None])
    return out_TC.to(x_TC.dtype)


def _by_pairs(x_TC: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """The same without asking which were chosen: nothing here waits for the device, no shape depends on it."""
    from kernels.gpu.expert_linear import expert_linear

    gate = experts.networks[0].gate_up.gate
    assert gate is not None
    assert experts.gate_up_EIC is not None
    assert experts.down_ECJ is not None
    experts_TN, order_TN = routing.experts_TN.sort(dim=1)
    shares_TN = routing.shares_TN.gather(1, order_TN)
    experts_P = experts_TN.flatten()
    inner_PJ = gate_and_multiply(expert_linear(x_TC.contiguous(), experts.gate_up_EIC, experts_P), gate)
    y_TNC = expert_linear(inner_PJ, experts.down_ECJ, experts_P).view(*experts_TN.shape, -1)
    out_TC = y_TNC[:, 0] * shares_TN[:, :1]
    for place in range(1, y_TNC.shape[1]):  # not by a reduction, whose order may depend on how many tokens there are
        out_TC += y_TNC[:, place] * shares_TN[:, place : place + 1]
    return out_TC.to(x_TC.dtype)
