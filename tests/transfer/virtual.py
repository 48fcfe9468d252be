"""A test with a rig on a simulated loop, whose deadlines are those of production."""

from collections.abc import Callable
from typing import Any

from common.transfer.limits import TransferLimits
from tests.sim.timeloop import LoopClock, TimeLoop, simulate
from tests.transfer.rig import rigged


def in_virtual_time(test: Callable[..., Any], limits: TransferLimits | None = None) -> Callable[..., None]:
    """Hands the test a rig and its loop: seconds cost nothing."""

    def run() -> None:
        async def program(loop: TimeLoop) -> None:
            async with rigged(clock=LoopClock(loop), limits=limits or TransferLimits()) as rig:
                await test(rig, loop)

        simulate(program, seed=7, limit_s=600)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
