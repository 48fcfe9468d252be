"""Goal: what an SRE opens shows something. A real Prometheus scrapes a working cluster; every panel is answered.

Run it with BATON_PROMETHEUS=/usr/bin/prometheus; with BATON_PICTURES=FOLDER the dashboards are left there as pictures.
"""

import asyncio
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from rich.console import Console

from common.core.request import Priority
from common.observe.announce import Announcement, Phase, read_announcement
from common.rpc.identity import Caller
from deploy import picture
from deploy.dashboards import DASHBOARDS
from deploy.prometheus import Span, range_query
from deploy.rules import SIGNALS
from services.local.answer import Answer
from services.local.drain import drain
from services.local.topology import Kind
from tests.cluster.drive import PAGE_SIZE, wait_tokens
from tests.cluster.house import CLOCK, SIM, Ask, House, Told, house
from tests.cluster.load import every, offer
from tests.cluster.mutual import NAME, mount, serve_with
from tests.cluster.ports import stable_port
from tests.deploy.live import Prometheus, chosen, prometheus, scraping
from tests.observe.test_aliases import PICKERS
from tests.rpc.certificates import Authority

pytestmark = [pytest.mark.cluster, pytest.mark.calm]

LOAD_S = 12.0
SETTINGS = (
    *SIM,
    f"cluster.name={NAME}",
    "listen.vllm_metrics=true",
    "local.gateways=1",
    "engine.sim_step_ms=5",
    "router.local_prompt_tokens=32",
    "planner.interval_s=0.5",
    "planner.window_s=10",
    "planner.hold_s=5",
    "planner.start_s=1",
)
FEW_PLACES = ("engine.num_pages=96",)
"""Of a decode worker: bursts wait for a place."""

MAY_BE_EMPTY = {
    "Replicas of the HPAs": "kube-state-metrics tells them, and here is no Kubernetes",
    "What Redis holds B": "its limit, and the server of a local cluster has none",
    "Failures and refusals C": "by reason, and nothing need have failed: A shows that",
    "Failures and refusals D": "by reason, and nothing need have been refused: B shows that",
    "Failures C": "by reason, and no transfer need have failed",
    "Placements again B": "by reason, and nothing need have been placed again: A shows that",
    "gRPC B": "by code, and no call need have failed: A shows that",
}
"""By panel, or by panel and query."""


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """In place of the usual check: `house` looks when all have ended."""


def pods_of(cluster: House) -> dict[str, str]:
    """Where each process of `baton up` shows its metrics."""
    processes = [each for kind in Kind for each in cluster.cluster.of(kind)]
    return {each.spec.name: each.last.metrics for each in processes if each.last is not None}


@asynccontextmanager
async def planner(cluster: House, folder: Path) -> AsyncIterator[Announcement]:
    """Beside the cluster, for the block: `baton up` starts none."""
    told = {
        "cluster.redis_url": cluster.valkey.url,
        "cluster.redis_login": "role",
        "cluster.secret_file": cluster.cluster.run_dir / "secret",
    }
    settings = [*SETTINGS, *(f"{key}={value}" for key, value in told.items())]
    command = [sys.executable, "-m", "services.planner", "--name", "planner-0"]
    with (folder / "planner.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            *(part for setting in settings for part in ("--set", setting)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        try:
            yield await asyncio.wait_for(_ready(process.stdout), 60)
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 20)


async def _ready(lines: asyncio.StreamReader) -> Announcement:
    while line := await lines.readline():
        said = read_announcement(line.decode())
        if said is not None and said.phase is Phase.READY:
            return said
    raise AssertionError("the planner ended")


async def press(cluster: House, seed: int) -> None:
    """A mixed load: classes, short prompts and long ones, a beginning that is shared, bursts, HTTP, and a drain."""
    chance = random.Random(seed)

    def prompt(length: int) -> tuple[int, ...]:
        return tuple(chance.randrange(512) for _ in range(length))

    arrivals = [
        arrival
        for priority in Priority
        for length, mean_s in ((8, 0.5), (12 * PAGE_SIZE, 0.8))
        for arrival in every(
            mean_s,
            Ask(tokens=prompt(length), max_tokens=12, priority=priority),
            start=0.0,
            end=LOAD_S,
            chance=chance,
        )
    ]
    shared = Ask(tokens=prompt(20 * PAGE_SIZE), max_tokens=8)
    arrivals += [(at / 2, shared) for at in range(int(2 * LOAD_S))]
    burst = [Ask(tokens=prompt(8 * PAGE_SIZE), max_tokens=200, priority=each) for each in Priority for _ in range(8)]
    arrivals += [(moment, ask) for moment in (5.0, 9.0) for ask in burst]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(offer(cluster, arrivals, timeout_s=60.0))
        tasks.create_task(_over_http(cluster))
        tasks.create_task(_move(cluster, [Ask(tokens=prompt(PAGE_SIZE), max_tokens=400) for _ in range(4)]))


async def _move(cluster: House, asks: Sequence[Ask]) -> None:
    """Whoever has most of these answers is drained in their midst, and comes back."""
    told = [Told(answer=Answer(CLOCK)) for _ in asks]
    async with asyncio.TaskGroup() as tasks:
        for ask, each in zip(asks, told, strict=True):
            tasks.create_task(cluster.ask(ask, told=each))
        for each in told:
            await wait_tokens(cluster, each, 3)
        loads = [(await cluster.status(each)).load.running_sequences for each in cluster.cluster.of(Kind.DECODE)]
        await drain(cluster.client, f"decode-{loads.index(max(loads))}", 2.0, Console(quiet=True))
    await cluster.wait_whole()


async def _over_http(cluster: House) -> None:
    async with AsyncOpenAI(base_url=f"http://{cluster.cluster.gateway_address()}/v1", api_key="none") as client:
        for _ in range(int(2 * LOAD_S)):
            body = {"model": "demo", "prompt": list(range(10, 20)), "max_tokens": 4}
            await client.post("/completions", body=body, cast_to=dict[str, object])
            await asyncio.sleep(0.5)  # a pace, not a wait


async def unanswered(found: Prometheus, span: Span) -> dict[str, str]:
    """Queries of panels that show nothing, by dashboard, panel and letter."""
    missing = {}
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                place = f"{panel['title']} {target['refId']}"
                if {panel["title"], place} & set(MAY_BE_EMPTY):
                    continue
                if not await found.lines(target["expr"], span):
                    missing[f"{name}: {place}"] = chosen(target["expr"])
    return missing


def pictures(found: Prometheus, span: Span, folder: Path) -> list[Path]:
    files = [folder / f"{name}.png" for name in DASHBOARDS]
    for file in files:
        picture.draw(
            DASHBOARDS[file.stem], lambda expression: range_query(found.address, chosen(expression), span), file
        )
    return files


@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
async def test_every_panel_of_every_dashboard_shows_something_of_a_cluster_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus()  # or skip, before a cluster is started
    everybody = mount(Authority(tmp_path / "ca"), tmp_path / "tls", *Caller)
    serve_with(monkeypatch, everybody)
    seed = 20
    print("seed", seed)
    # Where whoever comes back is found by the Prometheus that knew the one before.
    places = {f"decode-{number}": (*FEW_PLACES, f"listen.metrics_port={stable_port()}") for number in range(2)}
    async with (
        house(prefill=2, decode=2, settings=SETTINGS, of_process=places) as cluster,
        planner(cluster, tmp_path) as planning,
        scraping(tmp_path, pods_of(cluster) | {"planner-0": planning.metrics}) as found,
    ):
        began = CLOCK.wall()
        await press(cluster, seed)
        await asyncio.sleep(3.0)  # the last scrape, and the rules' last turn
        span = Span(start=began, end=CLOCK.wall())
        assert set((await found.targets()).values()) == {"up"}
        assert set((await found.rules()).values()) == {"ok"}
        silent = [name for name in SIGNALS if not await found.lines(name, span)]
        assert not silent, "signals of autoscaling without a sample"
        assert "BatonCertificateEndsToday" in await found.firing(), "certificates of tests end within a day"
        for name in PICKERS:
            pods = {line.labels["pod"] for line in await found.lines(f"vllm:{name}", span)}
            assert pods == {each.spec.name for each in cluster.workers()}, name
        missing = await unanswered(found, span)
        if find_spec("matplotlib") is not None:
            folder = Path(os.environ.get("BATON_PICTURES") or tmp_path)
            assert all(file.stat().st_size > 0 for file in await asyncio.to_thread(pictures, found, span, folder))
        assert not missing, "\n".join(f"{place}: {query}" for place, query in missing.items())


def test_panels_that_may_be_empty_exist() -> None:
    panels = [panel for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]]
    queries = {f"{panel['title']} {each['refId']}" for panel in panels for each in panel.get("targets", ())}
    assert set(MAY_BE_EMPTY) <= {panel["title"] for panel in panels} | queries
