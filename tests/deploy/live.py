"""A Prometheus of the test's own, scraping a local cluster under the labels that the chart's monitors give it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from deploy.labels import FULLNAME, NAMESPACE, RELEASE
from deploy.prometheus import Line, Span, ask, fill_in, range_query
from deploy.rules import RUNBOOK, rule_groups
from services.local.ports import free_port

IN, OF = "ns", "demo"
"""The namespace and the release of the cluster under test."""

START_S, RULES_S, SCRAPE_S, RATE_OVER = 40.0, 2, 1, "6s"


def prometheus() -> str:
    """The program: Debian's package `prometheus`, on the path or named by BATON_PROMETHEUS."""
    found = os.environ.get("BATON_PROMETHEUS") or shutil.which("prometheus")
    if not found:
        pytest.skip("needs Prometheus (Debian, Ubuntu: apt install prometheus), on the path or in BATON_PROMETHEUS")
    return found


class Prometheus:
    """A running one. Questions are asked off the loop."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def lines(self, expression: str, span: Span) -> Sequence[Line]:
        """What a panel of the release would show."""
        return await asyncio.to_thread(range_query, self.address, chosen(expression), span)

    async def targets(self) -> dict[str, str]:
        """How each process' last scrape went, by pod."""
        found = await asyncio.to_thread(ask, self.address, "targets")
        return {each["labels"]["pod"]: each["health"] + each["lastError"] for each in found["activeTargets"]}

    async def rules(self) -> dict[str, str]:
        """How each rule's last evaluation went, by its name."""
        found = await asyncio.to_thread(ask, self.address, "rules")
        return {rule["name"]: rule["health"] for group in found["groups"] for rule in group["rules"]}

    async def firing(self) -> set[str]:
        found = await asyncio.to_thread(ask, self.address, "alerts")
        return {each["labels"]["alertname"] for each in found["alerts"] if each["state"] == "firing"}


def chosen(expression: str) -> str:
    """A panel's query with the dashboard's variables set to the cluster under test."""
    return fill_in(expression, namespace=IN, release=OF, interval=RATE_OVER)


@asynccontextmanager
async def scraping(folder: Path, pods: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """For the block. `pods`: the address of /metrics of each process."""
    program = prometheus()
    port = free_port()
    (folder / "rules.yaml").write_text(yaml.safe_dump(_rules()))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(pods)))
    flags = {
        "config.file": folder / "prometheus.yaml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    with (folder / "prometheus.log").open("wb") as log:
        command = [program, *(f"--{name}={value}" for name, value in flags.items())]
        running = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            made = Prometheus(f"http://127.0.0.1:{port}")
            await _wait_ready(made, running)
            yield made
        finally:
            running.terminate()
            await asyncio.wait_for(running.wait(), 20)


async def _wait_ready(made: Prometheus, running: asyncio.subprocess.Process) -> None:
    """Until every target was scraped. It has no event to wait for."""
    async with asyncio.timeout(START_S):
        while not await _is_scraping(made):
            assert running.returncode is None, "Prometheus ended: see prometheus.log"
            await asyncio.sleep(0.1)


async def _is_scraping(made: Prometheus) -> bool:
    try:
        targets = await made.targets()
    except OSError:
        return False  # it does not listen yet
    return bool(targets) and set(targets.values()) == {"up"}


def _configuration(pods: Mapping[str, str]) -> dict[str, object]:
    """The labels that PodMonitor and its relabelings add."""
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{RULES_S}s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "baton",
                "static_configs": [
                    {"targets": [address], "labels": {"namespace": IN, "release": OF, "pod": pod}}
                    for pod, address in pods.items()
                ],
            }
        ],
    }


def _rules() -> object:
    """As the chart fills them in, but looked at as often as the test needs it."""
    text = yaml.safe_dump(rule_groups())
    named = {NAMESPACE: IN, RELEASE: OF, FULLNAME: f"{OF}-baton", RUNBOOK: "https://example.com/runbook"}
    for word, value in named.items():
        text = text.replace(word, value)
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group.pop("interval", None)
    return rules
