"""Waiting that ends: for an event, or for work, within a time."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def wait_set(event: asyncio.Event, seconds: float) -> bool:
    """Until the event is set; False when the time was over first. A time of 0 or less is one look."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()


async def wait_done(work: Coroutine[Any, Any, object], seconds: float, *, hurry: asyncio.Event) -> bool:
    """Until `work` is done, and with what it raises; False when the time was over first, or somebody is in a hurry.
    Then it is cancelled. It runs once at least."""
    doing = asyncio.create_task(work)
    hurried = asyncio.create_task(hurry.wait())
    try:
        done, _ = await asyncio.wait({doing, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        doing.cancel()
        hurried.cancel()
    if doing not in done:
        return False
    doing.result()
    return True
