"""The ways to spend a machine's cores on Baton that are compared with each other."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

ALONE = ("local.routers=1", "local.gateways=0")
LOCAL_PROMPT_TOKENS = 128
"""Chosen: the streams' own short prompts stay, every arrival is read on the prefill worker whatever costs say."""


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
    """A way on a certain machine: workers are pinned, router and client may run on every core."""

    way: Way
    settings: tuple[str, ...]
    of_process: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def describe(self) -> str:
        """For the results: what would have to be typed to get the same."""
        own = "; ".join(f"{name}: {' '.join(settings)}" for name, settings in sorted(self.of_process.items()))
        return f"{' '.join(self.settings)}; {own}; router and client on every core"


def usable_cores() -> frozenset[int]:
    """Cores that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def lay_out(way: Way, cores: frozenset[int]) -> Layout:
    """Halves of the machine; where there is one core, both halves are that one."""
    ordered = sorted(cores)
    half = max(1, len(ordered) // 2)
    first, second = ordered[:half], ordered[half:] or ordered
    match way:
        case Way.RELAY:
            return _layout(way, num_prefill=1, cores={"prefill-0": first, "decode-0": second})
        case Way.REPLICAS:
            return _layout(way, num_prefill=0, cores={"decode-0": first, "decode-1": second})
        case Way.COLOCATED:
            return _layout(way, num_prefill=0, cores={"decode-0": ordered})
        case _:
            assert_never(way)


def _layout(way: Way, *, num_prefill: int, cores: Mapping[str, Sequence[int]]) -> Layout:
    settings = [f"local.prefill={num_prefill}", f"local.decode={len(cores) - num_prefill}", *ALONE]
    if num_prefill:
        settings.append(f"router.local_prompt_tokens={LOCAL_PROMPT_TOKENS}")
    of_process = {
        name: (f"engine.threads={len(own)}", f"engine.cpus={','.join(str(core) for core in own)}")
        for name, own in cores.items()
    }
    return Layout(way=way, settings=tuple(settings), of_process=of_process)
