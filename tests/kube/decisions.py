"""What the HPAs of one release want, followed from their objects."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from tests.kube.release import NAMESPACE, Release


class Decisions:
    """Every change of it, with the moment at which it was seen. Writer: the watch."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.desired: dict[str, int] = {}
        self.changes: list[tuple[float, str, int]] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Self]:
        watcher = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self) -> None:
        path = f"/apis/autoscaling/v2beta2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
        async for _, obj in self._release.plane.api.watch(path):
            role = obj["metadata"]["name"].rpartition("-")[2]
            desired = obj.get("status", {}).get("desiredReplicas", 0)
            if self.desired.get(role) != desired:
                self.desired[role] = desired
                self.changes.append((time.monotonic(), role, desired))

    def first_above_one(self, since: float) -> dict[str, float]:
        """Seconds from `since` until more than one was wanted, by role; without those where it was before, or never."""
        grown = [(at - since, role) for at, role, desired in self.changes if at > since and desired > 1]
        return {role: after for after, role in sorted(grown, reverse=True)}
