"""Goal: children are kept alive, given up on, and ended in order. Method: children that are one line of shell."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.core.clock import SystemClock
from common.core.errors import BatonError, StartupError
from common.observe.announce import Announcement, Phase
from services.local import supervisor
from services.local.janitor import Janitor
from services.local.supervisor import Supervisor, describe_status
from services.local.topology import Kind, ProcessSpec
from tests.steady.patient_loop import now

READY = json.dumps({"name": "x", "phase": "ready", "address": "127.0.0.1:1"})
OBEDIENT = f"echo '{READY}'; exec sleep 1000"
STUBBORN = f"trap '' TERM; echo '{READY}'; while :; do sleep 0.05; done"


def spec(name: str, script: str, kind: Kind = Kind.DECODE) -> ProcessSpec:
    return ProcessSpec(name=name, kind=kind, command=("/bin/sh", "-c", script))


class Keeper:
    """A supervisor that runs, and what it told."""

    def __init__(self, supervisor: Supervisor, told: list[Announcement]) -> None:
        self.supervisor = supervisor
        self.told = told
        self.hurry = asyncio.Event()

    async def wait_told(self, phase: Phase, count: int) -> None:
        async with asyncio.timeout(10):
            while sum(said.phase is phase for said in self.told) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def keeping(
    tmp_path: Path, *specs: ProcessSpec, max_restarts: int = 3, prepare: Callable[[], None] = lambda: None
) -> AsyncIterator[Keeper]:
    told: list[Announcement] = []
    async with Janitor() as janitor:
        made = Supervisor(
            specs,
            log_dir=tmp_path,
            group=janitor.group,
            max_restarts=max_restarts,
            clock=SystemClock(),
            tell=told.append,
            prepare=prepare,
        )
        keeper = Keeper(made, told)
        async with asyncio.TaskGroup() as group:
            group.create_task(made.run())
            try:
                await made.wait_ready(10)
                yield keeper
            finally:
                await made.stop(5, keeper.hurry)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first


async def failure_of(tmp_path: Path, script: str, max_restarts: int = 3) -> BatonError:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with keeping(tmp_path, spec("decode-0", script), max_restarts=max_restarts):
            await asyncio.sleep(30)
    error = first_error(caught.value)
    assert isinstance(error, StartupError)
    return error


async def test_a_killed_child_is_started_again_under_another_pid(tmp_path: Path) -> None:
    async with keeping(tmp_path, spec("decode-0", OBEDIENT)) as keeper:
        process = keeper.supervisor.processes["decode-0"]
        first = process.child.pid
        process.child.signal(signal.SIGKILL)
        await keeper.wait_told(Phase.READY, 2)
        assert process.restarts == 1
        assert process.child.pid != first
    assert [said.detail for said in keeper.told if said.phase is Phase.FAILED] == ["ended by SIGKILL, restarting"]


async def test_a_child_that_leaves_because_it_was_asked_to_has_not_failed(tmp_path: Path) -> None:
    """`baton drain` takes a worker out, and its successor comes."""
    leaver = f"trap 'exit 0' TERM; echo '{READY}'; while :; do sleep 0.05; done"
    async with keeping(tmp_path, spec("decode-0", leaver)) as keeper:
        keeper.supervisor.processes["decode-0"].child.signal(signal.SIGTERM)
        await keeper.wait_told(Phase.READY, 2)
    told = [(said.phase, said.detail) for said in keeper.told if said.phase is not Phase.READY]
    assert (Phase.DRAINING, "left as it was asked to, restarting") in told
    assert Phase.FAILED not in [phase for phase, _ in told]


async def test_a_child_that_dies_again_and_again_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    error = await failure_of(tmp_path, "echo '  | OSError: disk on fire' >&2; echo '  +-----' >&2; exit 1", 2)
    assert error.message == "decode-0 ended 3 times within a minute, last with status 1: OSError: disk on fire"


DYING = f"echo '{READY}'; sleep 0.1; exit 1"


async def test_a_child_that_dies_again_and_again_ends_nobody_while_another_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "REPAIR_S", 0.05)
    async with keeping(tmp_path, spec("decode-0", DYING), spec("decode-1", OBEDIENT), max_restarts=1) as keeper:
        await keeper.wait_told(Phase.READY, 6)
        assert keeper.supervisor.processes["decode-1"].restarts == 0
    told = [said.detail for said in keeper.told if said.phase is Phase.FAILED]
    assert told[0] == "ended with status 1, restarting"
    assert told[1] == "ended 2 times within a minute, last with status 1: it logged nothing; trying again"


async def test_a_child_that_dies_again_and_again_ends_a_cluster_without_another_one_of_its_kind(
    tmp_path: Path,
) -> None:
    router = spec("router-0", OBEDIENT, Kind.ROUTER)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with keeping(tmp_path, spec("decode-0", DYING), router, max_restarts=1):
            await asyncio.sleep(30)
    assert "decode-0 ended 2 times within a minute" in str(first_error(caught.value))


async def test_a_child_that_cannot_start_is_not_started_again(tmp_path: Path) -> None:
    said = json.dumps({"name": "decode-0", "phase": "failed", "detail": "no such model"})
    error = await failure_of(tmp_path, f"echo $$ >> {tmp_path}/starts; echo '{said}'; exit 78")
    assert error.message == "decode-0 cannot start: no such model"
    assert len((tmp_path / "starts").read_text().split()) == 1


async def test_a_child_that_served_and_cannot_start_any_more_is_tried_again_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate, a model or a file of configuration is replaced by half; the other child goes on."""
    monkeypatch.setattr(supervisor, "REPAIR_S", 0.01)
    broken = tmp_path / "broken"
    said = json.dumps({"name": "decode-0", "phase": "failed", "detail": "half a certificate"})
    script = f"if [ -e {broken} ]; then echo '{said}'; exit 78; fi; {OBEDIENT}"
    async with keeping(tmp_path, spec("decode-0", script), spec("decode-1", OBEDIENT), max_restarts=1) as keeper:
        broken.touch()
        keeper.supervisor.processes["decode-0"].child.signal(signal.SIGKILL)
        await keeper.wait_told(Phase.FAILED, 5)
        broken.unlink()
        await keeper.wait_told(Phase.READY, 3)
        assert keeper.supervisor.processes["decode-1"].restarts == 0
    ours = [told.detail for told in keeper.told if told.detail.endswith("trying again")]
    assert ours == ["cannot start: half a certificate; trying again"]


async def test_a_child_that_the_system_cannot_run_is_tried_again_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log's folder is away for longer than the restarts that are allowed would last. The other child goes on."""
    monkeypatch.setattr(supervisor, "RETRY_S", 0.01)
    folder = tmp_path / "logs"
    folder.mkdir()
    async with keeping(folder, spec("decode-0", OBEDIENT), spec("decode-1", OBEDIENT), max_restarts=1) as keeper:
        shutil.rmtree(folder)
        keeper.supervisor.processes["decode-0"].child.signal(signal.SIGKILL)
        await keeper.wait_told(Phase.FAILED, 2)
        await asyncio.sleep(0.1)
        folder.mkdir()
        await keeper.wait_told(Phase.READY, 3)
        assert keeper.supervisor.processes["decode-1"].restarts == 0
    details = [said.detail for said in keeper.told if said.phase is Phase.FAILED]
    assert details == ["ended by SIGKILL, restarting", "cannot be run: No such file or directory; trying again"]


async def test_what_a_child_needs_is_seen_to_before_each_of_its_starts(tmp_path: Path) -> None:
    """A cleaner of temporary files may have taken the folder away: the child would never start again."""
    folder = tmp_path / "run"
    async with keeping(folder, spec("decode-0", OBEDIENT), prepare=lambda: folder.mkdir(exist_ok=True)) as keeper:
        shutil.rmtree(folder)
        keeper.supervisor.processes["decode-0"].child.signal(signal.SIGKILL)
        await keeper.wait_told(Phase.READY, 2)
    assert [said.detail for said in keeper.told if said.phase is Phase.FAILED] == ["ended by SIGKILL, restarting"]


async def test_a_child_that_the_system_could_never_run_is_no_cluster(tmp_path: Path) -> None:
    error = await failure_of(tmp_path / "nowhere", OBEDIENT)
    assert error.message == "decode-0 cannot be run: No such file or directory"


async def test_a_child_that_prints_without_end_is_still_heard(tmp_path: Path) -> None:
    """A library's progress bar, say: megabytes without a line's end."""
    loud = f"head -c 1000000 /dev/zero | tr '\\0' 'x'; echo; {OBEDIENT}"
    async with keeping(tmp_path, spec("decode-0", loud)) as keeper:
        await keeper.wait_told(Phase.READY, 1)


async def test_routers_leave_first_and_decode_workers_last(tmp_path: Path) -> None:
    def script(name: str) -> str:
        return f"trap 'sleep 0.1; echo {name} >> {tmp_path}/order; exit 0' TERM; {STUBBORN.partition(';')[2]}"

    specs = [spec(kind.value, script(kind.value), kind) for kind in (Kind.DECODE, Kind.PREFILL, Kind.ROUTER)]
    async with keeping(tmp_path, *specs):
        pass
    assert (tmp_path / "order").read_text().split() == ["router", "prefill", "decode"]


async def test_a_stubborn_child_is_killed_when_somebody_is_in_a_hurry(tmp_path: Path) -> None:
    async with keeping(tmp_path, spec("decode-0", STUBBORN)) as keeper:
        pid = keeper.supervisor.processes["decode-0"].child.pid
        assert pid is not None
        keeper.hurry.set()
        began = now()
    assert now() - began < 3
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_end_while_children_start_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), keeping(tmp_path, *(spec(f"decode-{n}", OBEDIENT) for n in range(8))):
            await asyncio.sleep(30)


def test_a_status_is_told_in_words() -> None:
    assert describe_status(1) == "with status 1"
    assert describe_status(-9) == "by SIGKILL"
