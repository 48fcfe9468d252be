"""Goal: an HPA gets a number or an error, never a made-up 0, and only the API server may ask.

Method: the real application behind a real HTTPS listener, with certificates made by openssl.
"""

import asyncio
import http.client
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.core.clock import ManualClock
from common.core.errors import StartupError
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from services.planner.decide import State, decide
from services.planner.load import Load, Signals
from services.planner.metrics_api import BASE, MetricsApi, parse_selector, quantity
from services.planner.metrics_server import FrontProxy, metrics_server
from services.planner.outlook import Outlook
from tests.planner.loads import SETTINGS, load
from tests.rpc.certificates import Authority


class House:
    """A served API whose load is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(1000.0)
        self.metrics = Metrics(ProcessRole.PLANNER)
        self.outlook = Outlook(self.clock, interval_s=1.0)
        self.api = MetricsApi(self.outlook, namespace="ns", release="demo", metrics=self.metrics, clock=self.clock)
        self.server, self.proxy, self.stranger = (Authority(folder / name) for name in ("server", "proxy", "stranger"))
        self.server.sign("localhost")
        self.proxy.sign("front")
        self.stranger.sign("front")
        self._port = 0

    def see(self, seen: Load | None) -> None:
        signals = Signals(at=self.clock.monotonic(), load=seen)
        self.outlook.note(signals, decide(signals, self.outlook.state, SETTINGS))

    @asynccontextmanager
    async def listening(self, *names: str) -> AsyncIterator[None]:
        front = FrontProxy(authority=(self.proxy.folder / "ca.crt").read_text(), names=frozenset(names))
        files = {"cert_file": f"{self.server.folder}/localhost.crt", "key_file": f"{self.server.folder}/localhost.key"}
        async with metrics_server(self.api.site(), host="127.0.0.1", port=0, front=front, **files) as address:
            self._port = int(address.rpartition(":")[2])
            yield

    async def ask(self, path: str, caller: Authority | None) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._ask, path, caller)

    def _ask(self, path: str, caller: Authority | None) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=str(self.server.folder / "ca.crt"))
        if caller is not None:
            context.load_cert_chain(caller.folder / "front.crt", caller.folder / "front.key")
        connection = http.client.HTTPSConnection("localhost", self._port, context=context, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def metric(name: str, namespace: str = "ns", selector: str = "release%3Ddemo") -> str:
    return f"{BASE}/namespaces/{namespace}/{name}?labelSelector={selector}"


async def test_an_hpa_finds_every_number_and_reads_it(house: House) -> None:
    house.see(load(backlog_s=2.5, sequences=7, pages_used=30, pages_each=40))
    async with house.listening("x"):
        status, listed = await house.ask(BASE, house.proxy)
        assert status == 200
        values: dict[str, Any] = {}
        answer: dict[str, Any] = {}
        for resource in listed["resources"]:
            status, answer = await house.ask(metric(resource["name"]), house.proxy)
            values[resource["name"]] = answer["items"][0]["value"] if status == 200 else status
        assert answer["kind"] == "ExternalMetricValueList"
        assert answer["items"][0]["metricLabels"] == {"release": "demo"}
    assert values == {
        "prefill-desired-replicas": "1",
        "decode-desired-replicas": "1",
        "prefill-queued-tokens": "2500",
        "prefill-queue-seconds": 503,
        "decode-kv-usage": "750m",
        "decode-running-sequences": "7",
        "decode-admission-seconds": "0",
    }


async def test_what_is_not_known_is_an_error_and_what_was_wanted_is_held(house: House) -> None:
    async with house.listening():
        assert (await house.ask(metric("prefill-desired-replicas"), house.proxy))[0] == 503
        house.see(load(backlog_s=1.0))
        house.see(None)
        status, answer = await house.ask(metric("prefill-queued-tokens"), house.proxy)
        assert (status, answer["kind"], answer["status"]) == (503, "Status", "Failure")
        assert (await house.ask(metric("prefill-desired-replicas"), house.proxy))[0] == 200
        house.clock.advance(11.0)
        assert (await house.ask(metric("prefill-desired-replicas"), house.proxy))[0] == 503
    assert house.metrics.value(catalogue.SCALER_QUESTIONS, way="metrics_api", answer="unknown") == 3


async def test_other_releases_and_namespaces_have_no_numbers_here(house: House) -> None:
    house.see(load())
    async with house.listening():
        assert (await house.ask(metric("decode-kv-usage", namespace="other"), house.proxy))[0] == 404
        assert (await house.ask(metric("decode-kv-usage", selector="release%3Dother"), house.proxy))[0] == 404
        assert (await house.ask(metric("nonsense"), house.proxy))[0] == 404
        assert (await house.ask(metric("decode-kv-usage", selector="release+in+%28a%29"), house.proxy))[0] == 400


async def test_only_the_front_proxy_is_let_in(house: House) -> None:
    house.see(load())
    async with house.listening("somebody-else"):
        with pytest.raises((OSError, http.client.HTTPException)):
            await house.ask(BASE, house.proxy)
    async with house.listening():
        for caller in (None, house.stranger):
            with pytest.raises((OSError, http.client.HTTPException)):
                await house.ask(BASE, caller)


async def test_files_that_will_not_do_stop_the_start(tmp_path: Path) -> None:
    front = FrontProxy(authority="nonsense")
    with pytest.raises(StartupError):
        async with metrics_server(None, host="127.0.0.1", port=0, cert_file="a", key_file="b", front=front):  # type: ignore[arg-type]
            pass


def test_small_numbers_are_not_rounded_to_nothing() -> None:
    assert [quantity(value) for value in (0.0, 0.0001, 0.75, 3.0, 1234.5)] == ["0", "1m", "750m", "3", "1234500m"]


def test_a_selector_is_understood_or_refused() -> None:
    assert parse_selector("") == {}
    assert parse_selector("a=b,c==d") == {"a": "b", "c": "d"}
    for text in ("a", "a!=b", "a in (b)", "=b"):
        with pytest.raises(ValueError, match="only key=value"):
            parse_selector(text)


def test_a_state_of_nothing_is_the_beginning() -> None:
    assert Outlook(ManualClock(), interval_s=1.0).state == State()
