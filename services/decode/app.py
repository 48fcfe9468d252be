"""Composition root of a decode worker: every object is built once, here."""

from collections.abc import Callable
from typing import cast

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy, mint_name
from common.core.ids import ReservationId
from common.core.worker import Role
from common.engine.loop import StepCore
from common.engine.stepper import Stepper
from common.engine.telling import Teller
from common.worker.boot import Assembly
from common.worker.engine import Engine
from common.worker.node import WorkerNode
from common.worker.prefix_desk import PrefixDesk
from common.worker.retention import Retention, RetentionLimits
from common.worker.role_side import RoleSide
from services.decode.budget import ExtendBudget
from services.decode.core import DecodeCore
from services.decode.counters import DecodeCounters
from services.decode.departures import Departures
from services.decode.desk import PromiseDesk
from services.decode.messages import DecodeEvent, RoleEvent
from services.decode.role import DecodeRole
from services.decode.runner import Runner
from services.decode.scheduler import DecodeLimits

OVERCOMMIT = 2.0  # Chosen: most answers end before max_tokens; preemption by recompute pays for those that do not.
PROMISE_LEASE_S = 60.0  # Chosen: above the longest prefill queue; a router that is alive renews or cancels sooner.
MIN_EXTEND_TOKENS = 8  # Chosen: a local prompt of a page moves on within two steps, however slow the steps are.
WATERMARK = 0.02  # Chosen: a growing batch of 64 needs a page per 16 steps each: four steps' notice in 200 pages.


def make_core(config: Config, engine: Engine, clock: Clock, entropy: Entropy) -> DecodeCore:
    """The decode core over an engine that is ready."""
    section = config.engine
    limits = DecodeLimits(
        page_size=engine.layout.page_size,
        max_sequences=section.max_sequences,
        extend_tokens=section.local_extend_tokens,
        idle_extend_tokens=section.chunk_tokens,
        watermark_pages=max(1, int(engine.storage.num_pages * WATERMARK)),
    )
    budget = ExtendBudget(
        itl_budget_s=section.itl_budget_ms / 1000, ceiling=section.local_extend_tokens, floor=MIN_EXTEND_TOKENS
    )
    return compose(
        engine,
        limits=limits,
        budget=budget,
        overcommit=OVERCOMMIT,
        lease_s=PROMISE_LEASE_S,
        clock=clock,
        mint=lambda: ReservationId(mint_name(entropy, "res")),
    )


def compose(
    engine: Engine,
    *,
    limits: DecodeLimits,
    budget: ExtendBudget,
    overcommit: float,
    lease_s: float,
    clock: Clock,
    mint: Callable[[], ReservationId],
) -> DecodeCore:
    """The core from its parts, with every number given."""
    counters, teller = DecodeCounters(), Teller[RoleEvent](Role.DECODE, clock)
    desk = PromiseDesk(
        cache=engine.cache,
        layout=engine.layout,
        lease_s=lease_s,
        teller=teller,
        counters=counters,
        clock=clock,
        mint=mint,
    )
    prefixes = PrefixDesk(cache=engine.cache, layout=engine.layout, tell=teller.say, counters=counters, clock=clock)
    runner = Runner(
        batch=engine.batch,
        stepper=Stepper(engine.batch, is_ahead=engine.is_ahead),
        cache=engine.cache,
        limits=limits,
        budget=budget,
        teller=teller,
        counters=counters,
        is_awaited=prefixes.awaits,
        is_brought=prefixes.brings,
    )
    # What is handed over was running here: it needs no more room than it had.
    most = RetentionLimits(max_requests=limits.max_sequences, max_pages=engine.storage.num_pages)
    retention = Retention(cache=engine.cache, storage=engine.storage, limits=most, tell=teller.say, counters=counters)
    departures = Departures(
        batch=engine.batch,
        runner=runner,
        retention=retention,
        layout=engine.layout,
        teller=teller,
        counters=counters,
    )
    return DecodeCore(
        desk=desk,
        runner=runner,
        departures=departures,
        retention=retention,
        prefixes=prefixes,
        cache=engine.cache,
        layout=engine.layout,
        teller=teller,
        counters=counters,
        overcommit=overcommit,
        max_sequences=limits.max_sequences,
        clock=clock,
    )


def make_side(
    node: WorkerNode[DecodeEvent], core: StepCore[DecodeEvent], config: Config, engine: Engine, clock: Clock
) -> RoleSide[DecodeEvent]:
    """Decode's side of the node."""
    side = DecodeRole(
        node=node,
        core=cast(DecodeCore, core),
        storage=engine.storage,
        piece_bytes=config.transfer.land_bytes,
        rules=engine.rules,
        lease_s=config.transfer.ticket_s,
        clock=clock,
    )
    return cast(RoleSide[DecodeEvent], side)


ASSEMBLY: Assembly[DecodeEvent] = Assembly(role=Role.DECODE, make_core=make_core, make_side=make_side)
