"""`baton demo`: the whole relay once. Start, one prompt, its answer, its waterfall, the cluster, stop."""

from rich.console import Console

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from services.local.client import router_client
from services.local.cluster import local_cluster
from services.local.generate import Sampling, build_request, run
from services.local.progress import Progress
from services.local.summary import cluster_table, figures_line, waterfall_text
from services.local.topology import Overrides

# Longer than router.local_prompt_tokens, so that the prompt is read on the prefill worker and its pages travel.
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


def read_json(path):
'''
MAX_TOKENS = 96
ANSWER_S = 60.0


async def demo(config: Config, overrides: Overrides, *, console: Console, clock: Clock, entropy: Entropy) -> None:
    """Everything printed; nothing left behind. Raises what went wrong."""
    console.rule("1. a cluster on this machine", align="left")
    progress = Progress(console, clock)
    async with (
        local_cluster(config, overrides, clock=clock, entropy=entropy, tell=progress) as cluster,
        router_client(cluster.router_address()) as client,
    ):
        console.rule("2. a prompt, streamed", align="left")
        console.print(PROMPT, end="", style="dim", highlight=False, markup=False)
        sampling = Sampling(max_tokens=MAX_TOKENS, temperature=0.4, seed=7)
        request = build_request(
            PROMPT, sampling, is_tokens=False, is_chat=False, request_id="demo", priority="interactive"
        )
        answer = await run(client, request, timeout_s=ANSWER_S, clock=clock, as_json=False)
        console.rule("3. where its time went", align="left")
        console.print(waterfall_text("demo", answer.stations), highlight=False, markup=False, soft_wrap=True)
        console.rule("4. the cluster", align="left")
        view = await client.cluster()
        console.print(cluster_table(view))
        console.print(figures_line(view), highlight=False)
        usage = answer.usage
        console.print(
            f"{usage.prompt_tokens} prompt tokens ({usage.cached_tokens} cached), "
            f"{usage.completion_tokens} written; {answer.timings()}",
            highlight=False,
        )
    console.rule("stopped: nothing is left running", align="left")
