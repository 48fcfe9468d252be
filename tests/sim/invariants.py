"""What must hold once every client has its end and every fault is healed. Each check says what is left, and where."""

import asyncio

from common.core.ids import WorkerId
from common.directory.codec import decode_snapshot
from common.directory.keys import Keys
from common.directory.owners import keys_of
from common.observe import catalogue
from common.rpc.convert.directory import SHORT_HASH_BYTES
from tests.sim.cast import RouterActor, WorkerActor
from tests.sim.world import World

QUIET_S = 5.0
"""Above the longest lease: a promise whose router was killed, a transfer in which nothing moves."""

TELLING_S = 12.0
"""Above the time after which an unchanged snapshot of ownership is told again."""

ENDLESS = "/baton.v1.WorkerService/Subscribe"


async def settle(world: World) -> None:
    """Waits until nothing is held anywhere, as long as the leases may take; then until the directory has heard."""
    deadline = world.loop.time() + QUIET_S
    while (why := unrest(world)) and world.loop.time() < deadline:
        await asyncio.sleep(0.25)
    assert not why, f"still not quiet after {QUIET_S} s: {why}"
    deadline = world.loop.time() + TELLING_S
    while (why := _untold(world)) and world.loop.time() < deadline:
        await asyncio.sleep(0.25)
    assert not why, f"the directory still differs after {TELLING_S} s: {why}"


def unrest(world: World) -> str:
    """What is still held or under way, and who was killed or replaced and has not ended; empty when nothing is."""
    found = [why for worker in world.workers.values() for why in _worker_unrest(worker)]
    found += [why for router in world.routers.values() for why in _router_unrest(router)]
    found += [f"{actor.process.name} still has tasks" for actor in world.past if actor.process.tasks]
    found += [f"{call.method} is under way" for call in world.network.calls if call.method != ENDLESS]
    return "; ".join(found)


def check(world: World) -> None:
    """Everything, at rest."""
    assert not world.trace.bugs, world.trace.bugs
    for worker in world.workers.values():
        _check_worker(worker)
    for router in world.routers.values():
        _check_router(router)


def count(world: World) -> None:
    """Fills the census with what every incarnation counted."""
    census = world.trace.census
    for worker in [*world.workers.values(), *(actor for actor in world.past if isinstance(actor, WorkerActor))]:
        census["superseded"] += worker.is_superseded
        if worker.node is None:
            continue
        counters = worker.node.look().counters
        census.update({f"{worker.role} {name}": int(number) for name, number in counters.items()})
        transfers = worker.node.endpoint.snapshot()
        for side, totals in (("sent", transfers.sent), ("received", transfers.received)):
            census.update({f"{side} done": totals.done, f"{side} failed": totals.failed})
            census.update({f"{side} {name}": number for name, number in totals.incidents.items()})


def _worker_unrest(worker: WorkerActor) -> list[str]:
    node = worker.node
    if node is None or not worker.is_serving:
        return [f"{worker.name} does not serve"]
    look = node.look()
    transfers = node.endpoint.snapshot()
    numbers = {
        "waiting": look.load.waiting_requests,
        "running": look.load.running_sequences,
        "promised": look.load.pages.promised,
        "referenced": look.load.pages.referenced,
        "exports": look.load.outstanding_exports,
        "sending": transfers.sent.in_flight,
        "receiving": transfers.received.in_flight,
        "expected": transfers.expected,
        "lent": transfers.lent_arrivals,
        "staging": worker.stage.config.transfer.staging_count - transfers.free_staging,
        "slots": node.endpoint.lanes.num_lent,
        "background": transfers.background_tasks - 1,  # the reaper
    }
    return [f"{worker.name} {name}={number}" for name, number in numbers.items() if number]


def _router_unrest(router: RouterActor) -> list[str]:
    node = router.node
    if node is None or not router.is_serving:
        return [f"{router.name} does not serve"]
    views = node.fleet.view().workers
    numbers = {
        "active": node.dispatcher.num_active,
        "admitted": node.admission.num_active,
        "waiting": len(node.admission.waiting()),
        "assigned": sum(view.in_flight for view in views),
    }
    return [f"{router.name} {name}={number}" for name, number in numbers.items() if number]


def _untold(world: World) -> str:
    """Where what a worker holds, what Redis says and what routers believe differ."""
    keys = Keys(world.stage.config.cluster.name)
    found: list[str] = []
    for name, worker in world.workers.items():
        assert worker.node is not None
        held = _held(worker)
        kept = world.redis.live(keys.owned(WorkerId(name)))
        told = decode_snapshot(kept.value, worker.node.me) if kept is not None else None
        if told is None or set(told.owned) != held:
            found.append(f"{name} holds {len(held)} prefixes, Redis says {told and len(told.owned)}")
        for router in world.routers.values():
            found += _disbelief(router, worker, held)
    return "; ".join(found)


def _disbelief(router: RouterActor, worker: WorkerActor, held: set[bytes]) -> list[str]:
    assert router.node is not None
    assert worker.node is not None
    peer = router.node.mirror._peers.get(WorkerId(worker.name))
    if peer is None or peer.member.worker != worker.node.me:
        return [f"{router.name} does not know {worker.process.name}"]
    view = router.node.fleet.view().find(worker.node.me)
    if view is None or not view.is_eligible:
        return [f"{router.name} does not use {worker.process.name}"]
    if peer.owned.keys != set(keys_of(sorted(held))):
        return [f"{router.name} believes {len(peer.owned)} prefixes of {worker.name}, which holds {len(held)}"]
    return []


def _held(worker: WorkerActor) -> set[bytes]:
    return {prefix[:SHORT_HASH_BYTES] for prefix in worker.engine.cache._index._by_prefix}


def _check_worker(worker: WorkerActor) -> None:
    worker.engine.cache.audit()
    counts = worker.engine.cache.counts()
    assert counts.free + counts.cached == counts.total, f"{worker.name}: {counts}"
    assert len(worker.engine.batch) == 0, f"{worker.name} still has {len(worker.engine.batch)} sequences"
    assert worker.node is not None
    transfers = worker.node.endpoint.snapshot()
    for totals in (transfers.sent, transfers.received):
        assert totals.started == totals.done + totals.failed + totals.expired, f"{worker.name}: {totals}"
        assert not totals.incidents.get("bug"), f"{worker.name}: {worker.node.endpoint._scope.first_bug!r}"
    if (rings := worker.stage.rings) is not None:
        num_used = transfers.links_over[rings.name] + transfers.inlets_over[rings.name]
        assert rings.num_mapped(worker.node.me) <= num_used, f"{worker.name} maps rings of pairs that are over"


def _check_router(router: RouterActor) -> None:
    metrics = router.metrics
    kinds = (
        catalogue.REQUESTS_FINISHED,
        catalogue.REQUESTS_FAILED,
        catalogue.REQUESTS_CANCELLED,
        catalogue.REQUESTS_REFUSED,
    )
    ended = {kind.name: metrics.total(kind) for kind in kinds}
    received = metrics.total(catalogue.REQUESTS_RECEIVED)
    assert received == sum(ended.values()), f"{router.name} received {received}: {ended}"
