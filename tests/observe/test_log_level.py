"""Goal: whoever looks for a fault has more told, of every process. Method: the first thing that each of them does."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from common.config.config import Config
from common.worker import boot
from services.gateway import app as gateway_app
from services.planner import app as planner_app
from services.router import app as router_app

STARTS: dict[str, tuple[Any, Callable[[Config], Awaitable[None]]]] = {
    "router": (router_app, lambda config: router_app.run_router(config, "r")),
    "gateway": (gateway_app, lambda config: gateway_app.run_gateway(config, "g")),
    "planner": (planner_app, lambda config: planner_app.run_planner(config, "p")),
    "worker": (boot, lambda config: boot.run_worker(config, "w", None)),  # type: ignore[arg-type]  # never reached
}


@pytest.mark.parametrize("process", STARTS)
async def test_every_process_takes_the_level_that_is_configured(process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, start = STARTS[process]
    told: dict[str, object] = {}

    def note(**said: object) -> None:
        told.update(said)
        raise InterruptedError

    monkeypatch.setattr(module, "configure_logging", note)
    config = Config()
    with pytest.raises(InterruptedError):
        await start(replace(config, listen=replace(config.listen, log_level="debug")))
    assert told["level"] == "debug"
