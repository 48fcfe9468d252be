"""What router_load tells of its streams is what they saw, and its control is read like a router."""

import argparse
import asyncio
import os
from collections.abc import Iterator

import psutil
import pytest

from tests.bench.router_load import Seen, added, measure_bare
from tests.bench.router_load_bare import message
from tests.bench.router_load_streams import Reader, Window, waited_s

STEP_S = 0.05


class Clockwork(psutil.Process):
    """A process whose CPU time is told by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.used_s = 0.0

    def cpu_times(self) -> tuple[float, float]:  # type: ignore[override]  # the two that are added up
        return self.used_s, 0.0


def _seen(name: str, *, cost_us: float, late_s: float = 0.0, num_servers: int = 1) -> Seen:
    """Ten streams of a hundred messages each, every tenth of which comes late. Each server pays for its share."""
    servers = {f"{name}{number}" if number else name: Clockwork() for number in range(num_servers)}
    window = Window(servers, began=0.0, num_servers=num_servers)
    for each in servers.values():
        each.used_s = 1000 / num_servers * cost_us / 1e6
    window.end(100 * STEP_S)
    times = [number * STEP_S + (late_s if number % 10 == 0 else 0.0) for number in range(100)]
    readers = [Reader(times=[*times, 9.0]) for _ in range(10)]
    return Seen(window=window, readers=readers, errors=(), start_s=1.0, stream_bytes=0.0)


def test_what_the_router_adds_is_its_figures_less_those_of_the_control() -> None:
    bare, routed = _seen("bare server", cost_us=30.0), _seen("router-0", cost_us=75.0, late_s=0.02)
    assert (
        added(bare, routed)
        == "added by the router: between messages p50 +0.0 ms, p99 +20.0 ms; +45 us of CPU a message"
    )


def test_two_servers_share_the_streams_and_add_up() -> None:
    one, two = _seen("router-0", cost_us=50.0), _seen("router-0", cost_us=50.0, num_servers=2)
    assert two.window.cost_us("router-0", two.readers) == pytest.approx(50.0)
    rates = [seen.window.messages_per_cpu_s(seen.readers) for seen in (one, two)]
    assert rates == [pytest.approx(20_000), pytest.approx(40_000)]


def test_a_tail_is_told_apart_into_late_steps_and_streams_behind_their_step() -> None:
    late = _seen("router-0", cost_us=50.0, late_s=0.02)
    steps, behind_ms = late.window.steps_ms(late.readers, period_s=STEP_S)
    assert steps == pytest.approx([70.0] * 9 + [50.0] * 80 + [30.0] * 10)
    assert behind_ms == pytest.approx(0.0, abs=1e-6)
    slow = _seen("router-0", cost_us=50.0)
    for reader in slow.readers[:3]:
        for number in range(10, 100, 10):
            reader.times[number] += 0.015
    steps, behind_ms = slow.window.steps_ms(slow.readers, period_s=STEP_S)
    assert steps == pytest.approx([50.0] * 99)
    assert behind_ms == pytest.approx(15.0)


def test_a_process_that_runs_has_waited_for_a_core_no_less_than_before() -> None:
    before_s = waited_s(psutil.Process())
    assert 0.0 < before_s <= waited_s(psutil.Process())


def test_a_token_that_is_missing_is_an_error() -> None:
    reader = Reader()
    for index in (0, 1, 3):
        reader.take(message(index))
    assert reader.error == "token 3 came after 2 tokens"


@pytest.fixture
def everywhere() -> Iterator[None]:
    """The measuring process is pinned; afterwards it runs where it did."""
    cores = os.sched_getaffinity(0)
    yield
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, cores)


@pytest.mark.cluster
@pytest.mark.calm
@pytest.mark.usefixtures("everywhere")
def test_the_control_writes_every_stream_one_token_a_period() -> None:
    arguments = argparse.Namespace(streams=20, rate=20.0, seconds=1.0, slow=False)
    seen = asyncio.run(measure_bare(arguments))
    assert seen.errors == []
    assert all(reader.num_tokens >= 10 for reader in seen.readers)
