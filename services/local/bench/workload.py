"""What a workload is, and what it is given to run with."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from common.core.clock import Clock
from services.local.bench.bounds import Bounds
from services.local.bench.prompts import Prompts
from services.local.bench.target import Target, hear

Figures = Mapping[str, float]
"""Named numbers, units last: what one run of a workload found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What every workload needs beside its target. Without `bounds` figures are told without them."""

    clock: Clock
    prompts: Prompts
    bounds: Bounds | None = None


class Workload(Protocol):
    """A bounded run against one target. Its parameters are fields, and travel into the results."""

    @property
    def name(self) -> str: ...

    async def run(self, target: Target, kit: Kit) -> Figures:
        """Raises BatonError when the target fails it."""
        ...


async def warm_up(target: Target, kit: Kit, *, num_streams: int = 8) -> None:
    """Touch every shape that is measured later: caches, compiled shapes, the first meeting of two workers."""
    for length in (64, 512, 2048):
        await hear(target, kit.prompts.fresh(length), 4, kit.clock)
    async with asyncio.TaskGroup() as group:
        for _ in range(num_streams):
            group.create_task(hear(target, kit.prompts.fresh(64), 16, kit.clock))
