"""Which function opens the gate of a feed-forward network."""

from enum import StrEnum


class Gate(StrEnum):
    """GELU_TANH is the approximation with a hyperbolic tangent; GELU is the exact function, with erf."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
