"""Work whose constraint is being compiled when its worker begins to drain: nobody waits for it, so it is refused."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.core.clock import ManualClock
from common.core.errors import Reason, Unavailable
from common.core.request import Work
from common.rpc.convert.work import work_to_wire
from common.worker.presence import Presence
from protos.baton.v1 import decode_pb2, prefill_pb2
from services.decode.servicer import DecodeServicer
from services.prefill.servicer import PrefillServicer
from tests.engine.rig import work
from tests.worker.scene import presence


class SlowRules:
    """Until the compiler is done."""

    def __init__(self) -> None:
        self.asked, self.done = asyncio.Event(), asyncio.Event()

    async def prepare(self, work: Work) -> None:
        self.asked.set()
        await self.done.wait()


def servicers(present: Presence, rules: SlowRules) -> dict[str, Callable[[Any], Any]]:
    """Each call that accepts work. Whatever comes behind the refusal is not there."""
    nothing = cast(Any, SimpleNamespace())
    parts = {"presence": present, "core": nothing, "turns": nothing, "rules": rules, "clock": ManualClock()}
    decode = DecodeServicer(**parts, arrivals=nothing, fetching=nothing, fetches=nothing)  # type: ignore[arg-type]
    prefill = PrefillServicer(**parts, fetches=nothing, takes_layers=lambda _worker: False)  # type: ignore[arg-type]
    return {
        "prefill": lambda wire: prefill.Prefill(prefill_pb2.PrefillRequest(work=wire), nothing),
        "reserve": lambda wire: decode.Reserve(decode_pb2.ReserveRequest(work=wire), nothing),
        "start": lambda wire: decode.StartLocal(decode_pb2.StartLocalRequest(work=wire), nothing),
    }


@pytest.mark.parametrize("kind", ["prefill", "reserve", "start"])
async def test_what_is_compiled_when_the_drain_begins_is_refused(kind: str) -> None:
    rules = SlowRules()
    present = presence()
    present.become_ready()
    coming = asyncio.create_task(servicers(present, rules)[kind](work_to_wire(work("late", [1, 2]), now=0.0)))
    await asyncio.wait_for(rules.asked.wait(), 2.0)
    present.begin_drain()
    rules.done.set()
    with pytest.raises(Unavailable) as refused:
        await asyncio.wait_for(coming, 2.0)
    assert refused.value.reason is Reason.DRAINING
