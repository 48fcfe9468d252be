"""Workers that enter a house together, and what was seen of a request's way."""

import asyncio

from common.core.ids import TenantId
from common.core.worker import Role
from tests.router.cast import Script
from tests.router.house import House

LONG = 100
"""A prompt that goes to prefill; the default of 8 tokens stays on decode."""
TENANT = TenantId("default")


async def enter(house: House, prefills: int = 2, decodes: int = 2, **scripts: Script) -> None:
    for index in range(prefills):
        await house.stage.enter(f"p{index}", Role.PREFILL, scripts.get(f"p{index}"))
    for index in range(decodes):
        await house.stage.enter(f"d{index}", Role.DECODE, scripts.get(f"d{index}"))
    await asyncio.sleep(0.1)


def seen(house: House, what: str) -> int:
    return sum(worker.seen[what] for worker in house.stage.workers.values())
