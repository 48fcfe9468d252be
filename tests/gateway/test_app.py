"""How a gateway becomes ready."""

import pytest

from common.core.clock import ManualClock
from common.core.errors import DeadlineExceeded, Forbidden, InternalError, Unavailable
from common.observe.health import Condition, Readiness
from common.observe.logging import get_log
from common.observe.throttle import ThrottledLog
from services.gateway import app
from services.gateway.app import seek_router


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
