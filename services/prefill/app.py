"""Composition root of a prefill worker: every object is built once, here."""

from typing import cast

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.worker import Role
from common.engine.loop import StepCore
from common.engine.stepper import Stepper
from common.engine.telling import Teller
from common.kv.staging import StagingPool
from common.worker.boot import Assembly
from common.worker.engine import Engine
from common.worker.node import WorkerNode
from common.worker.prefix_desk import PrefixDesk
from common.worker.retention import Retention, RetentionLimits
from common.worker.role_side import RoleSide
from services.prefill.core import PrefillCore
from services.prefill.gatherer import Gatherer
from services.prefill.messages import Exporting, PrefillEvent
from services.prefill.prompt import PrefillCounters
from services.prefill.role import PrefillRole
from services.prefill.scheduler import PrefillLimits


def make_core(config: Config, engine: Engine, clock: Clock, _entropy: Entropy) -> PrefillCore:
    """The prefill core over an engine that is ready."""
    section = config.engine
    limits = PrefillLimits(
        page_size=engine.layout.page_size,
        step_tokens=section.max_batch_tokens,
        chunk_tokens=section.chunk_tokens,
        max_prompts=section.max_sequences,
    )
    transfer = config.transfer
    make_buffer = engine.make_buffer if engine.page_device is None else engine.page_device.make_buffer
    staging = StagingPool(transfer.staging_count, transfer.staging_bytes, make_buffer=make_buffer)
    kept = RetentionLimits(
        max_requests=transfer.max_kept, max_pages=int(engine.storage.num_pages * transfer.kept_share)
    )
    return compose(engine, staging=staging, limits=limits, kept=kept, max_waiting=section.max_waiting, clock=clock)


def compose(
    engine: Engine,
    *,
    staging: StagingPool,
    limits: PrefillLimits,
    max_waiting: int,
    clock: Clock,
    kept: RetentionLimits | None = None,
) -> PrefillCore:
    """The core from its parts, with every number given. `kept` None: whatever fits."""
    counters, teller = PrefillCounters(), Teller[Exporting](Role.PREFILL, clock)
    all_pages = RetentionLimits(max_requests=max_waiting, max_pages=engine.storage.num_pages)
    core = PrefillCore(
        batch=engine.batch,
        stepper=Stepper(engine.batch, is_ahead=engine.is_ahead),
        cache=engine.cache,
        layout=engine.layout,
        gatherer=Gatherer(
            storage=engine.storage,
            staging=staging,
            teller=teller,
            counters=counters,
            num_groups=1 if engine.news is None else engine.news.num_groups,
        ),
        retention=Retention(
            cache=engine.cache, storage=engine.storage, limits=kept or all_pages, tell=teller.say, counters=counters
        ),
        prefixes=PrefixDesk(cache=engine.cache, layout=engine.layout, tell=teller.say, counters=counters, clock=clock),
        limits=limits,
        max_waiting=max_waiting,
        teller=teller,
        counters=counters,
        clock=clock,
    )
    if engine.news is not None:
        engine.news.listener = core.early.done
    return core


def make_side(
    node: WorkerNode[PrefillEvent], core: StepCore[PrefillEvent], config: Config, engine: Engine, clock: Clock
) -> RoleSide[PrefillEvent]:
    """Prefill's side of the node."""
    side = PrefillRole(
        node=node,
        core=cast(PrefillCore, core),
        storage=engine.storage,
        piece_bytes=config.transfer.land_bytes,
        rules=engine.rules,
        outcome_s=2 * config.transfer.deadline_s,
        lease_s=config.transfer.ticket_s,
        clock=clock,
    )
    return cast(RoleSide[PrefillEvent], side)


ASSEMBLY: Assembly[PrefillEvent] = Assembly(role=Role.PREFILL, make_core=make_core, make_side=make_side)
