"""Where a forward tells how far it is, so that finished layers' pages can leave while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """After each `num_layers` layers `say` is called with the number of layers that have written all of their KV, or,
    on a GPU, were launched to.

    `num_layers` divides the model's. On the forward's thread: what `say` takes, the forward waits for.
    """

    num_layers: int
    say: Callable[[int], None]
