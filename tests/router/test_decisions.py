"""Goal: a decision that was logged can be made again, bit for bit. Method: random questions, real files."""

import asyncio
import json
import random
import threading
from pathlib import Path

import pytest

from common.core.clock import ManualClock
from common.core.errors import InvalidRequest
from common.core.ids import RequestId
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.rotation import older
from common.transfer.offload import InlineOffload, Offload, ThreadOffload
from services.router.decisions.entry import Entry, Header, Question, read_line, write_line
from services.router.decisions.log import MAX_WAITING, DecisionLog
from services.router.policy import PolicySettings, choose, choose_prefill
from services.simulator.replay import changed, read_log, replay
from tests.router.questions import question

SETTINGS = PolicySettings(damage_weight=0.3, local_prompt_tokens=None)


def entry(rng: random.Random, number: int) -> Entry:
    facts, view = question(rng)
    request = RequestId(f"req-{number}")
    if rng.random() < 0.2:
        reader = choose_prefill(facts, view, SETTINGS)
        return Entry(
            request=request, attempt=2, at=1.5, question=Question.READER, facts=facts, view=view, reader=reader
        )
    decision = choose(facts, view, SETTINGS)
    return Entry(request=request, attempt=1, at=1.5, question=Question.ROUTE, facts=facts, view=view, decision=decision)


def log(
    folder: Path | None, *, max_bytes: int = 1 << 30, offload: Offload | None = None
) -> tuple[DecisionLog, Metrics]:
    metrics = Metrics(ProcessRole.ROUTER)
    header = Header(router="router-0", settings=SETTINGS)
    made = DecisionLog(
        header,
        folder=folder,
        max_bytes=max_bytes,
        offload=offload or InlineOffload(),
        clock=ManualClock(),
        metrics=metrics,
    )
    return made, metrics


@pytest.mark.parametrize("seed", range(3))
def test_lines_give_back_exactly_what_was_written(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(100):
        made = entry(rng, number)
        assert read_line(write_line(made)) == made
    header = Header(router="router-0", settings=SETTINGS)
    assert read_line(write_line(header)) == header


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_every_recorded_decision_is_reproduced_exactly(count: int, tmp_path: Path) -> None:
    rng = random.Random(count)
    file = tmp_path / "router-0.jsonl"
    with file.open("w") as out:
        out.write(write_line(Header(router="router-0", settings=SETTINGS)))
        out.writelines(write_line(entry(rng, number)) for number in range(count))
    found = replay(read_log(file))
    assert (found.num_decisions, found.num_same, found.differences) == (count, count, [])


def test_another_weight_shows_what_it_would_have_done() -> None:
    rng = random.Random(7)
    lines: list[Entry | Header] = [Header(router="router-0", settings=SETTINGS)]
    lines += [entry(rng, number) for number in range(300)]
    found = replay(lines, changed({"routes": "local"}))
    assert found.num_same < found.num_decisions
    assert not any(now == "remote" and was == "local" for was, now in found.kinds)
    assert replay(lines, changed({"damage_weight": "0.3"})).num_same == 300


@pytest.mark.parametrize("wrong", [{"no_such": "1"}, {"damage_weight": "much"}, {"routes": "sideways"}])
def test_a_setting_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        changed(wrong)(SETTINGS)


@pytest.mark.parametrize(
    "line",
    ["", "[]", "{}", "nonsense", '{"_":"entry","request":1}', '{"_":"entry","more":1}', "1" * 5000, "[" * 100_000],
    ids=["empty", "list", "no fields", "nonsense", "another type", "another field", "endless number", "endless depth"],
)
def test_a_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest):
        read_line(line)


def test_the_log_rotates_and_stays_within_its_bound(tmp_path: Path) -> None:
    rng, size = random.Random(3), 200_000
    made, _ = log(tmp_path, max_bytes=size)

    async def write() -> None:
        for number in range(400):
            made.note(entry(rng, number))
            if number % 10 == 0:
                await made.flush()
        await made.flush()

    asyncio.run(write())
    file = tmp_path / "router-0.jsonl"
    assert older(file).exists()
    assert file.stat().st_size + older(file).stat().st_size <= size
    found = replay(read_log(file))
    assert 0 < found.num_decisions == found.num_same < 400
    entries = [line for line in read_log(file) if isinstance(line, Entry)]
    assert entries[-1].request == "req-399", "the oldest go first"


def test_nothing_of_a_prompt_is_in_the_log() -> None:
    told = json.loads(write_line(entry(random.Random(1), 1)))
    assert set(told["facts"]) <= {
        "context_tokens", "num_choices", "page_size", "hits", "avoid", "priority", "max_tokens",
        "answer_tokens"
    }  # fmt: skip


def test_without_a_folder_nothing_is_kept() -> None:
    made, _ = log(None)
    made.note(entry(random.Random(1), 1))
    asyncio.run(made.run())
    assert not made.is_open


def test_what_a_stuck_disk_does_not_take_is_counted(tmp_path: Path) -> None:
    made, metrics = log(tmp_path)
    one = entry(random.Random(1), 1)
    for _ in range(MAX_WAITING + 3):
        made.note(one)
    assert metrics.total(catalogue.DECISIONS_LOST) == 3


async def test_a_router_that_ends_while_its_threads_are_busy_still_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that waits for its turn is not begun for who was cancelled."""
    monkeypatch.setattr("services.router.decisions.log.FLUSH_S", 0.0)
    offload, goes_on = ThreadOffload(), threading.Event()
    busy = asyncio.create_task(offload.run(lambda: goes_on.wait(10.0)))
    made, _ = log(tmp_path, offload=offload)
    rng = random.Random(4)
    running = asyncio.create_task(made.run())
    for number in range(5):
        made.note(entry(rng, number))
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    goes_on.set()
    await busy
    await offload.end()
    _, *entries = read_log(tmp_path / "router-0.jsonl")
    assert len(entries) == 5


def test_a_disk_that_refuses_costs_entries_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made, metrics = log(tmp_path / "file")
    made.note(entry(random.Random(1), 1))
    asyncio.run(made.flush())
    assert metrics.total(catalogue.DECISIONS_LOST) == 1
