"""The training network: causal, position-aware, and able to learn."""

import dataclasses

import pytest
import torch

from models.build.network import LlamaNetwork, rotary_table, rotate
from models.build.shape import NAMED_SHAPES

TINY = NAMED_SHAPES["tiny"]


def network(seed: int = 1) -> LlamaNetwork:
    """A tiny initialised network."""
    made = LlamaNetwork(TINY)
    made.initialise(torch.Generator().manual_seed(seed))
    return made


def test_its_parameters_are_the_tensors_of_the_file_format() -> None:
    """Names and shapes of the state are those of a folder, so weights need no renaming."""
    state = network().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == TINY.tensor_shapes()


def test_a_later_token_does_not_change_earlier_logits() -> None:
    """Causality: two sequences that differ in one place agree on every place before it."""
    tokens_BT = torch.randint(0, TINY.vocab, (2, 24), generator=torch.Generator().manual_seed(3))
    tokens_BT[1] = tokens_BT[0]
    tokens_BT[1, 15] = (tokens_BT[0, 15] + 1) % TINY.vocab
    logits_BTV = network()(tokens_BT)
    assert torch.allclose(logits_BTV[0, :15], logits_BTV[1, :15], atol=1e-5)
    assert not torch.allclose(logits_BTV[0, 15:], logits_BTV[1, 15:], atol=1e-5)


def test_rotation_depends_on_distance_alone() -> None:
    """The product of a rotated query and key is the same at positions (9, 4) and (109, 104)."""
    generator = torch.Generator().manual_seed(4)
    query, key = torch.randn(2, 1, 1, 1, TINY.head_dim, generator=generator)
    cos, sin = rotary_table(TINY)

    def product(position_q: int, position_k: int) -> float:
        turned_q = rotate(query, cos[position_q : position_q + 1], sin[position_q : position_q + 1])
        turned_k = rotate(key, cos[position_k : position_k + 1], sin[position_k : position_k + 1])
        return float((turned_q * turned_k).sum())

    assert product(9, 4) == pytest.approx(product(109, 104), abs=1e-3)
    assert product(9, 4) != pytest.approx(product(9, 5), abs=1e-3)


def test_untied_embeddings_are_refused() -> None:
    """The network would silently ignore the extra matrix otherwise."""
    with pytest.raises(ValueError, match="tied"):
        LlamaNetwork(dataclasses.replace(TINY, is_tied=False))
