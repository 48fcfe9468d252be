"""The ways to spend a machine's cores on Baton that are compared with each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never


class Way(StrEnum):
    """Who reads and who writes.

    relay: one prefill and one decode worker, half of the cores each. replicas: two workers that read and write, half
    of the cores each; against relay it isolates the split from the quality of kernels. colocated: one worker that
    reads and writes on every core, long prompts chunked.
    """

    RELAY = "relay"
    REPLICAS = "replicas"
    COLOCATED = "colocated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A way on a certain machine. `pins`: process name -> its cores; who is not named may run everywhere."""

    way: Way
    settings: tuple[str, ...]
    of_process: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pins: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def describe(self) -> str:
        """For the results: what would have to be typed to get the same."""
        pins = ", ".join(f"{name} on {_cores(cores)}" for name, cores in sorted(self.pins.items()))
        return f"{' '.join(self.settings)}; {pins or 'nobody pinned'}; router and client on every core"


def lay_out(way: Way, cores: frozenset[int]) -> Layout:
    """Halves of the machine; where there is one core, both halves are that one."""
    ordered = sorted(cores)
    half = max(1, len(ordered) // 2)
    first, second = frozenset(ordered[:half]), frozenset(ordered[half:] or ordered)
    match way:
        case Way.RELAY:
            counts, pins = (1, 1), {"prefill-0": first, "decode-0": second}
        case Way.REPLICAS:
            counts, pins = (0, 2), {"decode-0": first, "decode-1": second}
        case Way.COLOCATED:
            counts, pins = (0, 1), {"decode-0": frozenset(ordered)}
        case _:
            assert_never(way)
    settings = (f"local.prefill={counts[0]}", f"local.decode={counts[1]}", "local.routers=1", "local.gateways=0")
    threads = {name: (f"engine.threads={len(own)}",) for name, own in pins.items()}
    return Layout(way=way, settings=settings, of_process=threads, pins=pins)


def _cores(cores: frozenset[int]) -> str:
    return "+".join(str(core) for core in sorted(cores))
