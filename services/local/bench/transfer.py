"""What the baton's passing costs: bytes, the link, the wait between index 0 and the running batch, and the neighbours.

Only a cluster with a prefill worker has one. Alone: how much of an answer's start the hand-off is. Among streams: how
long their gaps are while nothing happens (quiet), while a prompt is read elsewhere (reading), and when pages land in
the step between (landing).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from common.core.errors import FieldViolation, InvalidRequest
from common.observe.lifetime import Station
from services.local.bench.bounds import Bounds, beside
from services.local.bench.cluster_target import ClusterTarget, Stations
from services.local.bench.interference import steady_streams
from services.local.bench.spread import MS, Spread
from services.local.bench.target import Heard, Target, hear
from services.local.bench.workload import Figures, Kit
from services.local.links import measure_links

OUTPUT_TOKENS = 8
MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """One answer's stations, on the client's clock (the router received it a moment after it was sent)."""

    sent_at: float
    stations: Stations

    def times(self, station: Station) -> list[float]:
        return [self.sent_at + each.at_s for each in self.stations if each.name == station]

    def last(self, station: Station) -> float:
        """When it was reached last. Raises InvalidRequest where it never was: nothing was handed over."""
        times = self.times(station)
        if not times:
            refused = FieldViolation(field="--way", description=f"no answer has the station {station}")
            raise InvalidRequest(message="a transfer needs a prefill worker", violations=(refused,))
        return max(times)

    @property
    def num_bytes(self) -> float:
        """Page bytes that were shipped."""
        return sum(each.facts.get("bytes", 0.0) for each in self.stations if each.name == Station.CHUNK_SHIPPED)

    @property
    def handoff_s(self) -> float:
        """From index 0 to the running batch: what is left to ship, to land and to adopt."""
        return self.last(Station.RUNNING) - self.last(Station.FIRST_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCost:
    """Prompts of `prompt_tokens`, `num_alone` one after another, then `num_arrivals` among `num_streams` answers."""

    prompt_tokens: int
    num_alone: int = 5
    num_streams: int = 8
    num_arrivals: int = 10
    every_s: float = 1.0

    @property
    def name(self) -> str:
        return f"transfer_{self.prompt_tokens}"

    async def run(self, target: Target, kit: Kit) -> Figures:
        if not isinstance(target, ClusterTarget):
            raise InvalidRequest(message=f"{target.name} hands nothing over: transfer is measured through a cluster")
        links = await measure_links((await target.client.cluster()).workers, target.client.connect_worker)
        rates = [link.report.num_bytes / link.report.data_seconds / GIB for link in links if link.report is not None]
        waterfalls: list[Waterfall] = []
        target.stations = lambda sent_at, stations: waterfalls.append(Waterfall(sent_at=sent_at, stations=stations))
        try:
            alone = await self._alone(target, kit)
            figures = {"link_gib_s": max(rates, default=0.0), **_alone_figures(alone, waterfalls)}
            if kit.bounds is not None:
                figures |= self._shares(kit.bounds, figures)
            waterfalls.clear()
            return {**figures, **await self._among_streams(target, kit, waterfalls)}
        finally:
            target.stations = None

    def _shares(self, bounds: Bounds, figures: Figures) -> Figures:
        """Of a prompt, and of its pages on the link: at best they are copied once."""
        num_bytes = figures["kv_mib"] * MIB
        shares = beside("ttft_", bounds.prompts_s(self.prompt_tokens), figures["ttft_ms"] / MS)
        if figures["link_gib_s"]:
            shares |= beside("link_", bounds.copy_s(num_bytes), num_bytes / (figures["link_gib_s"] * GIB))
        return shares

    async def _alone(self, target: ClusterTarget, kit: Kit) -> list[Heard]:
        prompts = [kit.prompts.fresh(self.prompt_tokens) for _ in range(self.num_alone)]
        return [await hear(target, prompt, OUTPUT_TOKENS, kit.clock) for prompt in prompts]

    async def _among_streams(self, target: ClusterTarget, kit: Kit, waterfalls: list[Waterfall]) -> Figures:
        async with steady_streams(target, kit, self.num_streams) as streams:
            began = kit.clock.monotonic()
            async with asyncio.TaskGroup() as group:
                for number in range(self.num_arrivals):
                    await asyncio.sleep(max(0.0, began + (number + 0.5) * self.every_s - kit.clock.monotonic()))
                    prompt = kit.prompts.fresh(self.prompt_tokens)
                    group.create_task(hear(target, prompt, OUTPUT_TOKENS, kit.clock))
            ended = kit.clock.monotonic()
        return _landing_figures(streams, [each for each in waterfalls if each.num_bytes], began, ended)


def _alone_figures(alone: Sequence[Heard], waterfalls: Sequence[Waterfall]) -> Figures:
    ttft_s = median(each.ttft_s for each in alone)
    handoff_s = median(each.handoff_s for each in waterfalls)
    gaps = [list(each.gaps()) for each in alone]
    return {
        "kv_mib": median(each.num_bytes for each in waterfalls) / MIB,
        "ttft_ms": ttft_s * MS,
        "handoff_ms": handoff_s * MS,
        "handoff_share": handoff_s / ttft_s,
        "second_token_ms": median(each[0] for each in gaps) * MS,
        "step_ms": median(gap for each in gaps for gap in each[1:]) * MS,
    }


def _landing_figures(streams: Sequence[Heard], waterfalls: Sequence[Waterfall], start: float, end: float) -> Figures:
    """Gaps of the streams by what happened in them.

    A station's time is half a gap early on the client's clock: its step's tokens are still to come.
    """
    typical = median(gap for each in streams for gap in each.gaps(start, end))
    landed = sorted(at + typical / 2 for each in waterfalls for at in each.times(Station.CHUNK_LANDED))
    busy = [(each.sent_at, each.last(Station.RUNNING) + typical) for each in waterfalls]
    kinds: dict[str, list[float]] = {"quiet": [], "reading": [], "landing": []}
    for stream in streams:
        for before, piece in pairwise(stream.pieces):
            if not start <= before.at or piece.at > end:
                continue
            is_busy = any(piece.at >= began and before.at <= ended for began, ended in busy)
            is_landing = any(before.at < at <= piece.at for at in landed)
            kinds["landing" if is_landing else "reading" if is_busy else "quiet"].append(piece.at - before.at)
    figures: dict[str, float] = {}
    for kind, gaps in kinds.items():
        spread = Spread.of(gaps)
        if spread is not None:
            figures[f"itl_ms_p50_{kind}"] = spread.p50 * MS
            figures[f"itl_ms_p99_{kind}"] = spread.p99 * MS
            figures[f"itl_count_{kind}"] = float(spread.count)
    if kinds["landing"] and kinds["reading"]:
        figures["landing_ratio"] = figures["itl_ms_p50_landing"] / figures["itl_ms_p50_reading"]
    return figures
