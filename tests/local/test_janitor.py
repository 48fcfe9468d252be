"""Goal: whatever ends the supervisor, its processes and its folder go with it. Method: an owner that is killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from services.local.janitor import Janitor

# Starts a janitor and a child in its group, says who they are, and waits to be killed.
OWNER = """
import asyncio, sys
from pathlib import Path
from services.local.janitor import Janitor

async def main():
    async with Janitor(Path(sys.argv[1])) as janitor:
        child = await asyncio.create_subprocess_exec("sleep", "1000", process_group=janitor.group)
        print(janitor.group, child.pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


def is_gone(pid: int) -> bool:
    """A zombie is gone too: it only waits for somebody to count it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def wait_gone(*pids: int) -> None:
    async with asyncio.timeout(5):
        while not all(is_gone(pid) for pid in pids):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_an_owner_that_is_killed_leaves_no_child_and_no_folder(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "secret").write_text("x")
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    janitor, child = map(int, (await owner.stdout.readline()).split())
    assert os.getpgid(child) == janitor
    owner.send_signal(number)
    await owner.wait()
    await wait_gone(janitor, child)
    assert not folder.exists()


async def test_an_orderly_end_removes_the_folder_and_kills_who_stayed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    async with Janitor(folder) as janitor:
        child = await asyncio.create_subprocess_exec("sleep", "1000", process_group=janitor.group)
        assert folder.exists()
    assert await child.wait() == -signal.SIGKILL
    assert not folder.exists()


async def test_a_successor_guards_the_same_group(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    async with Janitor(folder) as janitor:
        group = janitor.group
        child = await asyncio.create_subprocess_exec("sleep", "1000", process_group=group)
        os.kill(group, signal.SIGKILL)
        await janitor.wait_end()
        await janitor.start()
        assert janitor.group == group
    assert await child.wait() == -signal.SIGKILL
    assert not folder.exists()


async def test_ctrl_c_at_the_terminal_does_not_reach_the_janitor(tmp_path: Path) -> None:
    async with Janitor(tmp_path / "run") as janitor:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(janitor.group, number)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await janitor.wait_end()
