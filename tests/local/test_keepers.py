"""Goal: what keeps a cluster's Valkey says once what is wrong. Method: the keeper, with a server that cannot start."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from common.config.loader import load
from common.core.entropy import SeededEntropy
from common.core.errors import StartupError
from services.local import cluster
from services.local.cluster import _keep_valkey
from services.local.run_dir import RunDir

if TYPE_CHECKING:
    from common.observe.announce import Announcement


class Hindered:
    """It ends once; starting it fails a few times for each reason, and succeeds then."""

    address = "127.0.0.1:1"

    def __init__(self, *reasons: str) -> None:
        self._reasons = list(reasons)
        self.is_back = asyncio.Event()

    async def wait_end(self) -> None:
        if not self._reasons:
            self.is_back.set()
            await asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        if reason := self._reasons.pop(0):
            raise StartupError(message=reason)


async def test_an_obstacle_is_told_once_however_often_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RETRY_S", 0.0)
    told: list[Announcement] = []
    valkey = Hindered("full", "full", "full", "taken", "")
    with RunDir.taken(load(settings=(f"local.run_dir={tmp_path}",)), SeededEntropy(1)) as run_dir:
        keeper = asyncio.create_task(_keep_valkey(cast(Any, valkey), run_dir, told.append))
        async with asyncio.timeout(10):
            await valkey.is_back.wait()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
    details = [said.detail for said in told]
    assert details == ["ended, restarting empty", "full; trying again", "taken; trying again", ""]
