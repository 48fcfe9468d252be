"""`pytest.mark.virtual_time`: a test's coroutine runs on a loop of its own, whose time jumps when nothing is ready.

A machine that stands still takes nothing from its deadlines. It may use no thread, no socket, no asynchronous fixture.
"""

import pytest

from tests.sim.timeloop import simulate


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not {"virtual_time", "asyncio"} <= {mark.name for mark in pyfuncitem.iter_markers()}:
        return None
    test = pyfuncitem.obj.__wrapped__  # the coroutine function, which pytest-asyncio would hand to the session's loop
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    simulate(lambda _loop: test(**arguments))
    return True
