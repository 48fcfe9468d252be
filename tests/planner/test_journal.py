"""Goal: what the planner decided can be decided again from disk, bit for bit. Method: random loads, small files."""

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from common.core.clock import ManualClock
from common.core.errors import InvalidRequest
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.rotation import Rotation, older
from services.local.replay import replay_log
from services.planner.decide import State, decide
from services.planner.journal import MAX_WAITING, Journal
from services.planner.load import Load, Signals
from services.simulator.planner_replay import read_looks, review
from tests.planner.loads import SETTINGS, load

LARGE = 1 << 24


def journal(folder: Path, metrics: Metrics, max_bytes: int = LARGE) -> Journal:
    return Journal("planner-0", SETTINGS, folder=folder, max_bytes=max_bytes, clock=ManualClock(5.0), metrics=metrics)


def loads(seed: int, count: int) -> list[Load | None]:
    rng = random.Random(seed)
    return [
        None
        if rng.random() < 0.03
        else load(
            read_s=rng.expovariate(0.7),
            local_s=rng.random(),
            backlog_s=rng.choice((0.0, 0.0, rng.uniform(0, 40))),
            sequences=rng.randrange(60),
        )
        for _ in range(count)
    ]


def played(written: Journal, seen: list[Load | None]) -> State:
    state = State()
    for index, each in enumerate(seen):
        signals = Signals(at=1000.0 + index * 0.1, load=each)
        answer = decide(signals, state, SETTINGS)
        written.note(state, signals, answer)
        state = answer.state
        if index % 7 == 0:
            written._write(written._take())
    written._write(written._take())
    return state


@pytest.mark.parametrize("seed", range(3))
def test_every_look_is_decided_again_exactly(tmp_path: Path, seed: int) -> None:
    played(journal(tmp_path, Metrics(ProcessRole.PLANNER)), loads(seed, 300))
    found = review(read_looks(tmp_path / "planner-0.jsonl"))
    assert (found.num_looks, found.num_same) == (300, 300), f"seed {seed}: {found.differences[:1]}"


def test_a_full_file_goes_on_from_what_was_remembered(tmp_path: Path) -> None:
    played(journal(tmp_path, Metrics(ProcessRole.PLANNER), max_bytes=200_000), loads(4, 300))
    file = tmp_path / "planner-0.jsonl"
    found = review(read_looks(file))
    assert older(file).exists()
    assert 0 < found.num_looks < 300
    assert found.num_same == found.num_looks
    assert file.stat().st_size + older(file).stat().st_size < 300_000


def test_after_a_gap_the_log_begins_with_a_state_of_its_own(tmp_path: Path) -> None:
    metrics = Metrics(ProcessRole.PLANNER)
    written = journal(tmp_path, metrics)
    state = played(written, loads(5, 20))
    signals = Signals(at=2000.0, load=load(read_s=2.0))
    for _ in range(MAX_WAITING + 1):
        written.note(state, signals, decide(signals, state, SETTINGS))
    written._waiting.clear()
    state = decide(signals, state, SETTINGS).state
    later = Signals(at=2001.0, load=load(read_s=2.0))
    written.note(state, later, decide(later, state, SETTINGS))
    written._write(written._take())
    found = review(read_looks(tmp_path / "planner-0.jsonl"))
    assert metrics.value(catalogue.DECISIONS_LOST) == 1
    assert (found.num_looks, found.num_same) == (21, 21)


def test_a_gap_behind_looks_that_still_wait_is_known_too(tmp_path: Path) -> None:
    """What was lost came after all that the stuck disk takes now, and before what is noted next."""
    metrics = Metrics(ProcessRole.PLANNER)
    written, state, seen = journal(tmp_path, metrics), State(), loads(9, MAX_WAITING + 6)
    for index, each in enumerate(seen):
        signals = Signals(at=1000.0 + index * 0.1, load=each)
        answer = decide(signals, state, SETTINGS)
        if index == MAX_WAITING + 3:  # the disk is back
            written._write(written._take())
        written.note(state, signals, answer)
        state = answer.state
    written._write(written._take())
    found = review(read_looks(tmp_path / "planner-0.jsonl"))
    assert metrics.value(catalogue.DECISIONS_LOST) == 3
    assert (found.num_looks, found.num_same) == (MAX_WAITING + 3, MAX_WAITING + 3), found.differences[:1]


async def test_the_rest_is_written_behind_what_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner leaves while a slow disk takes looks on another thread."""
    monkeypatch.setattr("services.planner.journal.FLUSH_S", 0.0)
    written, state, seen = journal(tmp_path, Metrics(ProcessRole.PLANNER)), State(), loads(10, 8)
    is_stuck, goes_on = threading.Event(), threading.Event()
    real_append = Rotation.append

    def slow(rotation: Rotation, text: str, header: Callable[[], str]) -> None:
        if threading.current_thread() is not threading.main_thread():
            is_stuck.set()
            assert goes_on.wait(10.0)
        real_append(rotation, text, header)

    monkeypatch.setattr(Rotation, "append", slow)
    running = None
    for index, each in enumerate(seen):
        signals = Signals(at=1000.0 + index * 0.1, load=each)
        answer = decide(signals, state, SETTINGS)
        written.note(state, signals, answer)
        state = answer.state
        if running is None:
            running = asyncio.get_running_loop().create_task(written.run())
            await asyncio.to_thread(is_stuck.wait, 10.0)
    assert running is not None
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    file = tmp_path / "planner-0.jsonl"
    found = review(read_looks(file))
    assert (found.num_looks, found.num_same) == (8, 8), found.differences[:1]
    assert not older(file).exists(), "one chain of looks, one file"


def test_a_disk_that_refuses_costs_looks_and_nothing_else(tmp_path: Path) -> None:
    metrics = Metrics(ProcessRole.PLANNER)
    (tmp_path / "full").touch()
    played(journal(tmp_path / "full", metrics), loads(6, 10))
    assert metrics.value(catalogue.DECISIONS_LOST) == 10


def test_the_command_knows_a_planners_log_and_what_was_changed_in_it(tmp_path: Path) -> None:
    played(journal(tmp_path, Metrics(ProcessRole.PLANNER)), loads(7, 50))
    file, console = tmp_path / "planner-0.jsonl", Console(quiet=True)
    assert replay_log(file, "recorded", (), console)
    with pytest.raises(InvalidRequest, match="as it was"):
        replay_log(file, "recorded", ("damage_weight=1",), console)
    lines = file.read_text().splitlines()
    changed = lines[30].replace('"read_tokens_s":', '"read_tokens_s":9')
    assert changed != lines[30]
    file.write_text("\n".join([*lines[:30], changed, *lines[31:]]) + "\n")
    assert not replay_log(file, "recorded", (), console)


@pytest.mark.parametrize("line", ["", "[]", "{", '{"_":"look"}', '{"_":"entry"}', '{"_":"look","wall":"x"}'])
def test_a_broken_line_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    played(journal(tmp_path, Metrics(ProcessRole.PLANNER)), loads(8, 3))
    file = tmp_path / "planner-0.jsonl"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(InvalidRequest, match=r"planner-0\.jsonl:5: "):
        review(read_looks(file))
