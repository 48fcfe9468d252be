"""How a gateway becomes ready."""

import asyncio
from dataclasses import replace

import pytest

from common.config.config import Config
from common.core.clock import ManualClock
from common.core.errors import DeadlineExceeded, Forbidden, InternalError, Unavailable
from common.observe.health import Condition, Readiness
from common.observe.logging import get_log
from common.observe.throttle import ThrottledLog
from services.gateway import app
from services.gateway.app import run_gateway, seek_router


class Routers:
    """Fail as they are told to, and then answer."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.num_asked = 0

    async def model(self):
        self.num_asked += 1
        if self.errors:
            raise self.errors.pop(0)


async def test_whatever_a_router_says_first_the_gateway_asks_again_until_it_is_ready(monkeypatch: pytest.MonkeyPatch):
    """A frozen router lets the question run into its deadline: given up then, the gateway would never be ready."""
    monkeypatch.setattr(app, "SEEK_S", 0.0)
    readiness = Readiness((Condition.WORKERS_SEEN,))
    errors = [error(message="not now") for error in (Unavailable, DeadlineExceeded, InternalError, Forbidden)]
    routers = Routers(*errors)
    await seek_router(routers, readiness, ThrottledLog(get_log("gateway"), ManualClock()))
    assert (routers.num_asked, readiness.is_ready) == (5, True)


async def test_a_gateway_that_cannot_even_ask_ends_and_never_says_that_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def seek(*_: object) -> None:
        raise ZeroDivisionError("no routers to divide by")

    monkeypatch.setattr(app, "configure_logging", lambda **_: None)
    monkeypatch.setattr(app, "seek_router", seek)
    config = Config()
    listen = replace(config.listen, port=0, metrics_port=0)
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(10):
            await run_gateway(replace(config, listen=listen), "gateway-0")
    assert ended.group_contains(ZeroDivisionError)
    assert '"ready"' not in capsys.readouterr().out
