"""Routed experts: right against the oracle, and a token's bits do not depend on the tokens beside it."""

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.dispatch import interpreted
from kernels.gate import Gate
from kernels.linear import TorchWeight, linear, prepare
from kernels.moe import FeedForward, gathered, route, routed_experts
from tests.kernels.read_back import NothingReadBack

NUM_EXPERTS, NUM_CHANNELS, NUM_INNER = 8, 80, 48
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}


class Experts:
    """A router and eight networks with random weights."""

    def __init__(self, dtype: torch.dtype = torch.float32, gate: Gate = Gate.SILU) -> None:
        generator = torch.Generator().manual_seed(7)

        def weights(*shape: int) -> Tensor:
            return (torch.randn(shape, generator=generator) * shape[-1] ** -0.5).to(dtype)

        self.gate = gate
        self.router_EC = weights(NUM_EXPERTS, NUM_CHANNELS)
        self.gate_up_EIC = weights(NUM_EXPERTS, 2 * NUM_INNER, NUM_CHANNELS)
        self.down_ECJ = weights(NUM_EXPERTS, NUM_CHANNELS, NUM_INNER)
        self.router = prepare(self.router_EC)
        pairs = zip(self.gate_up_EIC, self.down_ECJ, strict=True)
        self.networks = [FeedForward(gate_up=prepare(up, gate=gate), down=prepare(down)) for up, down in pairs]

    def run(self, x_TC: Tensor, num_chosen: int, *, is_normalized: bool = True) -> Tensor:
        routing = route(linear(x_TC, self.router), num_chosen, is_normalized=is_normalized)
        return routed_experts(x_TC, routing, gathered(self.networks))

    def expected(self, x_TC: Tensor, num_chosen: int, *, is_normalized: bool = True) -> Tensor:
        logits_TE = linear(x_TC, self.router)
        own = (self.gate_up_EIC, self.down_ECJ, self.gate)
        return reference.routed_experts(x_TC, logits_TE, num_chosen, *own, is_normalized=is_normalized)


def tokens(num_rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_rows, NUM_CHANNELS, generator=torch.Generator().manual_seed(num_rows)).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("is_normalized", [True, False])
@pytest.mark.parametrize("num_chosen", [1, 3, NUM_EXPERTS])
@pytest.mark.parametrize("num_rows", [1, 2, 17, 63])
def test_routed_experts_equal_their_oracle(
    num_rows: int, num_chosen: int, is_normalized: bool, dtype: torch.dtype
) -> None:
    experts, x_TC = Experts(dtype), tokens(num_rows, dtype)
    actual = experts.run(x_TC, num_chosen, is_normalized=is_normalized)
    expected = experts.expected(x_TC, num_chosen, is_normalized=is_normalized)
    assert actual.dtype is dtype
    assert (actual.float() - expected.float()).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("gate", Gate)
def test_experts_open_every_gate(gate: Gate) -> None:
    experts, x_TC = Experts(gate=gate), tokens(9)
    assert (experts.run(x_TC, 2) - experts.expected(x_TC, 2)).abs().max() < TOLERANCE[torch.float32]


def test_no_tokens_are_no_work() -> None:
    assert Experts().run(tokens(3)[:0], 2).shape == (0, NUM_CHANNELS)


def test_shares_of_the_chosen_add_up_to_one_only_where_they_are_normalised() -> None:
    logits_TE = torch.randn(5, NUM_EXPERTS, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(route(logits_TE, 3, is_normalized=True).shares_TN.sum(1), torch.ones(5))
    assert bool((route(logits_TE, 3, is_normalized=False).shares_TN.sum(1) < 1).all())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_token_has_the_same_bits_whatever_is_routed_beside_it(threads: int) -> None:
    """Alone, among a few, in another order, and in a crowd that all goes to the same experts."""
    experts, x_TC = Experts(), tokens(64)
    torch.set_num_threads(1)
    alone_TC = torch.cat([experts.run(x_TC[row : row + 1], 3) for row in range(64)])
    torch.set_num_threads(threads)
    for num_rows in (2, 3, 5, 17, 64):
        assert torch.equal(experts.run(x_TC[:num_rows], 3), alone_TC[:num_rows]), f"{num_rows} rows"
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(experts.run(x_TC[order], 3), alone_TC[order])
    crowd_TC = torch.cat((x_TC[:1].expand(40, -1), x_TC[5:6]))
    assert torch.equal(experts.run(crowd_TC, 3)[-1], alone_TC[5])


@pytest.mark.parametrize("num_tokens", [1, 5, 17])
@pytest.mark.parametrize("gate", [Gate.SILU, Gate.GELU_TANH])
def test_on_a_gpu_the_experts_of_few_tokens_are_computed_without_asking_which_they_are(
    num_tokens: int, gate: Gate
) -> None:
    """In the interpreter: what a recorded decode step replays."""
    with interpreted(), torch.inference_mode():
        experts = Experts(gate=gate)
        own = gathered(experts.networks)
        assert own.are_stacked
        x_TC = torch.randn((num_tokens, NUM_CHANNELS), generator=torch.Generator().manual_seed(num_tokens))
        with NothingReadBack():
            routing = route(linear(x_TC, experts.router), 3, is_normalized=True)
            found = routed_experts(x_TC, routing, own)
        expected = experts.expected(x_TC, 3)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        alone = routed_experts(x_TC[-1:], route(linear(x_TC, experts.router)[-1:], 3, is_normalized=True), own)
        torch.testing.assert_close(alone, found[-1:], atol=1e-6, rtol=1e-5)


def test_weights_that_were_gathered_are_views_of_one_tensor_and_of_a_cpu_they_stay_where_they_are() -> None:
    with interpreted():
        own = gathered(Experts().networks)
        assert own.gate_up_EIC is not None
        layout = own.networks[3].gate_up.layout
        assert isinstance(layout, TorchWeight)
        assert layout.weight.data_ptr() == own.gate_up_EIC[3].data_ptr()
    assert not gathered(Experts().networks).are_stacked
