"""How a planner becomes ready."""

import asyncio
from dataclasses import replace

import pytest

from common.config.config import Config
from services.planner import app
from services.planner.app import run_planner
from services.planner.outlook import Outlook


async def test_a_planner_that_cannot_wait_for_its_first_decision_ends_and_never_says_that_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wait_change(_self: Outlook, _timeout_s: float) -> bool:
        raise ZeroDivisionError("of zero looks")

    monkeypatch.setattr(app, "configure_logging", lambda **_: None)
    monkeypatch.setattr(Outlook, "wait_change", wait_change)
    config = Config()
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(10):
            await run_planner(replace(config, listen=replace(config.listen, port=0, metrics_port=0)), "planner-0")
    assert ended.group_contains(ZeroDivisionError)
    assert '"ready"' not in capsys.readouterr().out
