"""From the bytes of a body to its fields, without holding up the event loop.

Nothing can interrupt the parser, and a thread would not help: it never lets go of the interpreter. So what a body may
hold is bounded by what it costs, and bodies that cost more than a little are worked on one after the other, with a
turn of the loop between them.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from services.gateway.schema.body import Body, invalid, violation

B = TypeVar("B", bound=Body)

CONTAINER, NAME, ITEM = 6, 5, 1
"""What a list or an object, a name in an object, and one more item cost. Measured: in tenths of a microsecond."""

MAX_COST = 300_000
"""Chosen: 30 ms, below the 50 ms that the loop may lag. 300,000 token ids, or 7,000 messages of one part each."""

MAX_TEXTS = 32_768
"""Of a body whose texts are to be left out of account: finding each takes half a microsecond."""

FREE_COST = 5_000
FREE_BYTES = 64 << 10
"""Below both a body is read at once."""

_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A text, or what began like one: every quotation mark matches, so that the time is linear in the length."""


def cost_of(raw: bytes) -> int:
    """What the values of a document of JSON cost to read: never less than it is, and exact where it matters."""
    cost = _count(raw)
    if cost <= MAX_COST or raw.count(b'"') - raw.count(b'\\"') > 2 * MAX_TEXTS:
        return cost
    return _count(_TEXT.sub(b"", raw))  # brackets and commas inside of texts are no values


def _count(raw: bytes) -> int:
    containers = raw.count(b"[") + raw.count(b"{")
    return CONTAINER * containers + NAME * raw.count(b":") + ITEM * raw.count(b",")


class Intake:
    """One per process."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def read(self, kind: type[B], raw: bytes) -> B:
        """Raises InvalidRequest with every violation."""
        async with self.turn(raw):
            if (cost := cost_of(raw)) > MAX_COST:
                told = f"lists, objects, names and items weigh {cost}, at most {MAX_COST}: send less at once"
                raise invalid([violation("body", told)])
            return kind.read(raw)

    @asynccontextmanager
    async def turn(self, raw: bytes) -> AsyncIterator[None]:
        """Around work, without waits, whose time grows with the body."""
        if len(raw) <= FREE_BYTES and _count(raw) <= FREE_COST:
            yield
            return
        async with self._lock:  # bounded: nobody waits inside but for a turn of the loop
            await asyncio.sleep(0)
            yield
            await asyncio.sleep(0)
