"""A local cluster that the benchmark starts itself, asked over gRPC through its router.

Answers are read by `message_stream`, which costs as little per token as what reads the peers' events.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from common.config.environment import environment
from common.config.loader import load
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.announce import Announcement
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.bench.feed import Feed
from services.local.bench.message_stream import MessageConnection, connected
from services.local.bench.target import Piece
from services.local.bench.ways import Layout
from services.local.client import RouterClient, router_client
from services.local.cluster import LocalCluster, local_cluster
from services.local.topology import Overrides

GENERATE = "/baton.v1.GenerationService/Generate"
FIRST_PORT = 7650
"""Chosen: away from the port of `baton up`, so that a benchmark never meets a cluster that serves."""

Stations = tuple[types_pb2.Station, ...]


class ClusterTarget:
    """Asks one router. `stations`, if given, hears of every answer's waterfall."""

    def __init__(
        self,
        name: str,
        client: RouterClient,
        connection: MessageConnection,
        *,
        vocab_size: int,
        max_context: int,
        clock: Clock,
    ) -> None:
        self.name = name
        self._connection = connection
        self.vocab_size = vocab_size
        self.max_context = max_context
        self.client = client
        self._clock = clock
        self.stations: Callable[[float, Stations], None] | None = None

    async def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        sampling = types_pb2.SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        request = generation_pb2.GenerateRequest(sampling=sampling, return_token_ids=True)
        request.token_ids.ids.extend(prompt)
        sent_at = self._clock.monotonic()
        feed: Feed[bytes] = Feed()
        call = self._connection.call(GENERATE, request.SerializeToString(), feed.put, feed.end)
        try:
            async with aclosing(feed.items()) as messages:
                async for message in messages:
                    response = generation_pb2.GenerateResponse.FromString(message)
                    num_tokens = sum(len(delta.token_ids) for delta in response.deltas)
                    if num_tokens:
                        yield Piece(at=self._clock.monotonic(), num_tokens=num_tokens)
                    if response.stations and self.stations is not None:
                        self.stations(sent_at, tuple(response.stations))
        finally:
            self._connection.cancel(call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A cluster under measurement."""

    cluster: LocalCluster
    target: ClusterTarget

    def pids(self) -> list[int]:
        """Every process of it but ours."""
        children = [process.child.pid for process in self.cluster.supervisor.processes.values()]
        return [pid for pid in (*children, self.cluster.valkey.pid) if pid is not None]


@asynccontextmanager
async def lab(
    layout: Layout,
    overrides: Overrides,
    *,
    clock: Clock,
    entropy: Entropy,
    tell: Callable[[Announcement], None],
) -> AsyncIterator[Lab]:
    """Started and ready inside the block, gone after it. Raises StartupError."""
    given = Overrides(
        file=overrides.file,
        settings=(*overrides.settings, *layout.settings),
        of_process=_joined(layout.of_process, overrides.of_process),
    )
    config = load(given.file, environment(), given.settings)
    started = local_cluster(config, given, clock=clock, entropy=entropy, tell=tell, first_router_port=FIRST_PORT)
    async with started as cluster, _asked(cluster.router_address()) as (client, connection):
        model = await client.model()
        target = ClusterTarget(
            layout.way.value,
            client,
            connection,
            vocab_size=model.vocab_size,
            max_context=model.context_length,
            clock=clock,
        )
        yield Lab(cluster=cluster, target=target)


@asynccontextmanager
async def _asked(address: str) -> AsyncIterator[tuple[RouterClient, MessageConnection]]:
    """A router for everything, and for its answers."""
    async with router_client(address) as client, connected(address) as connection:
        yield client, connection


def _joined(one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    return {name: (*one.get(name, ()), *other.get(name, ())) for name in {*one, *other}}
