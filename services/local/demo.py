"""`baton demo`: the whole relay once. Start, one prompt, its answer, its waterfall, the cluster, stop."""

from dataclasses import replace

from rich.console import Console

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from services.local.client import RouterClient, router_client
from services.local.cluster import local_cluster
from services.local.exits import Exit
from services.local.generate import Sampling, build_request, receipt, run
from services.local.interrupt import Interrupt
from services.local.progress import Progress
from services.local.summary import cluster_view
from services.local.topology import Overrides
from services.local.waterfall import print_stations

# Long enough for some pages to travel.
# It ends before the line break: a break and the indent that follows are one token.
PROMPT = '''"""Read and write configuration files."""

import json
import os
import sys
from pathlib import Path


class ConfigError(Exception):
    """Raised when a configuration file cannot be read."""

    def __init__(self, path, message):
        super().__init__(message)
        self.path = path
        self.message = message

    def __str__(self):
        return "%s: %s" % (self.path, self.message)


def write_json(path, data):
    """Write the given data as JSON to a file."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=4)


def read_json(path):'''
MAX_TOKENS = 96
TEMPERATURE = 0.2
SEED = 7
ANSWER_S = 60.0


async def demo(
    config: Config, overrides: Overrides, *, console: Console, clock: Clock, entropy: Entropy, first_router_port: int
) -> Exit:
    """Everything printed; nothing left behind. Raises what went wrong."""
    interrupt = Interrupt(lambda: console.print("stopping; Ctrl-C again: at once"))

    async def relay() -> None:
        console.rule("1. a cluster on this machine", align="left")
        async with (
            local_cluster(
                config,
                relayed(config, overrides),
                clock=clock,
                entropy=entropy,
                tell=Progress(console, clock),
                first_router_port=first_router_port,
                hurry=interrupt.insisted,
            ) as cluster,
            router_client(cluster.router_address()) as client,
        ):
            await _show(client, console, clock)

    is_interrupted = await interrupt.guard(relay())
    console.rule("stopped: nothing is left running", align="left")
    return Exit.INTERRUPTED if is_interrupted else Exit.OK


def relayed(config: Config, overrides: Overrides) -> Overrides:
    """A router that hardly knows its workers may have so short a prompt read on decode: here its pages travel."""
    if config.router.routes != "any" or config.local.prefill == 0:
        return overrides
    return replace(overrides, settings=("router.routes=remote", *overrides.settings))


async def _show(client: RouterClient, console: Console, clock: Clock) -> None:
    console.rule("2. a prompt, and its answer as it is written", align="left")
    console.print(PROMPT, end="", style="dim", highlight=False, markup=False, soft_wrap=True)
    sampling = Sampling(max_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=SEED)
    request = build_request(PROMPT, sampling, request_id="demo")
    answer = await run(client, request, timeout_s=ANSWER_S, clock=clock, as_json=False)
    console.print(receipt(answer), style="dim", highlight=False, soft_wrap=True)
    console.rule("3. where its time went", align="left")
    print_stations(console, "demo", answer.stations)
    console.rule("4. the cluster", align="left")
    console.print(cluster_view(await client.cluster()))
