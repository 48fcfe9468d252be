"""Goal: a planner process reads a real Redis with its own rights, and its numbers are there for a scrape.

Method: a real Valkey with the cluster's users, a router and a worker that write their records, the planner's process.
"""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.ids import Epoch, RouterId, RouterRef
from common.core.queue import QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import Role
from common.directory.access import RedisUser, acl_lines, role_password
from common.directory.connect import connect
from common.directory.queue_board import QueueBoard
from services.local.valkey import EmbeddedValkey
from tests.directory.cluster import SETTINGS, Router, Worker

SECRET = b"sixteen bytes at least"
PASSWORDS = {user: role_password(SECRET, user) for user in RedisUser}
QUEUE = QueueReport(
    depths=(QueueDepth(role=Role.PREFILL, priority=Priority.STANDARD, requests=2, uncached_tokens=640, queue_s=0.5),)
)


@pytest.mark.cluster
@pytest.mark.calm
async def test_a_planner_process_decides_and_tells(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    async with EmbeddedValkey(acl=acl_lines("test", PASSWORDS)) as valkey:
        clock, settings = SystemClock(), _settings(valkey, tmp_path)
        config = load(settings=settings)
        stores = [
            connect(config.cluster, config.liveness, user=user, secret=SECRET)
            for user in (RedisUser.WORKER, RedisUser.ROUTER)
        ]
        worker, router = Worker(stores[0], clock), Router(stores[1], clock)
        board = QueueBoard(
            router.guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId("router-0"), epoch=Epoch(1))
        )
        flags = [flag for setting in settings for flag in ("--set", setting)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.planner", *flags, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
        )
        try:
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                beating = group.create_task(_beat(worker, board))
                ready = await _wait_ready(process)
                metrics = await asyncio.to_thread(_read, f"http://{ready['metrics']}/metrics")
                decisions = json.loads(await asyncio.to_thread(_read, f"http://{ready['metrics']}/decisions"))
                beating.cancel()
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()  # bounded: killed
            for each in stores:
                await each.drop()
    assert ready["address"]
    assert 'baton_planner_desired_replicas{role="planner",target="decode"} 1.0' in metrics
    assert 'baton_planner_workers{role="planner",state="ready",target="decode"} 1.0' in metrics
    assert "baton_planner_blind" in metrics
    assert {each["role"] for each in decisions} == {"prefill", "decode"}
    assert decisions[0]["signals"]["reading"]["backlog_tokens"] == 640


def _settings(valkey: EmbeddedValkey, folder: Path) -> list[str]:
    settings = [f"cluster.redis_url={valkey.url}", "cluster.name=test", "cluster.redis_login=role"]
    return [*settings, f"cluster.secret_file={folder / 'secret'}", "planner.interval_s=0.2", "planner.keda=true"]


async def _beat(worker: Worker, board: QueueBoard) -> None:
    while True:
        await worker.registration.beat()
        await board.publish(QUEUE)
        await asyncio.sleep(0.2)


async def _wait_ready(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        found: dict[str, str] = json.loads(line)
        if found["phase"] == "ready":
            return found
    pytest.fail("the planner ended before it was ready")


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
