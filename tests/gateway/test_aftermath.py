"""Of an exchange that failed nothing is left, though nobody looks for garbage: bodies are large."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from common.core.errors import InvalidRequest, Refused
from services.gateway.exchange import Exchange
from tests.gateway.house import gateway, say


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("script", "body"),
    [
        ([InvalidRequest(message="too long")], {}),
        ([say("hel"), Refused(message="too slow")], {}),
        ([], {"n": "many"}),
    ],
    ids=["at once", "amid the answer", "a wrong field"],
)
async def test_what_failed_is_gone(script: list[object], body: dict[str, object], is_streamed: bool) -> None:
    async with gateway(script) as it:  # type: ignore[arg-type]
        for _ in range(3):
            await it.post("/v1/completions", {"prompt": "x" * 1000, "stream": is_streamed, **body})
        async with asyncio.timeout(2.0):
            while left := [each.path for each in gc.get_objects() if type(each) is Exchange]:
                await asyncio.sleep(0.1)
    assert not left
