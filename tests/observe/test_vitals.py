"""Goal: whatever a process serves, a scrape shows its cost, its certificates and how late its loop is."""

import asyncio
from pathlib import Path

from common.config.sections.cluster import ClusterSection
from common.core.clock import ManualClock
from common.core.version import VERSION
from common.observe import catalogue
from common.observe.lag import BEAT_S
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.vitals import Vitals
from tests.rpc.certificates import Authority
from tests.sim.timeloop import TimeLoop, simulate


def test_one_refresh_shows_all_of_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    metrics = Metrics(ProcessRole.GATEWAY)
    cluster = ClusterSection(tls_ca_file=str(authority.folder / "ca.crt"))

    async def body(loop: TimeLoop) -> None:
        with Vitals(metrics, cluster, ManualClock()) as vitals:
            loop.stall(2 * BEAT_S)
            await asyncio.sleep(1.2 * BEAT_S)
            vitals.refresh()

    simulate(body)
    assert metrics.value(catalogue.PROCESS_MEMORY_BYTES) > 0
    assert metrics.value(catalogue.CERTIFICATE_LEFT_SECONDS, kind="authority") > 0
    assert metrics.value(catalogue.LOOP_LAG_SECONDS) > 0
    assert f'version="{VERSION}"' in metrics.render().decode()
