"""The choice: readers and writers are scored apart, and the best few of each are combined."""

from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy.beside import beside_s
from services.router.policy.reading import Reading, read_on, with_lateness
from services.router.policy.route import Candidate, Decision, Route
from services.router.policy.scene import Scene, can_take, make_scene
from services.router.policy.settings import PolicySettings, Routes
from services.router.policy.writing import Writing, displaced_s, hand_over_s, write_on
from services.router.view import FleetView

__all__ = ["can_take", "choose", "choose_prefill", "choose_writer"]


def choose(facts: Facts, view: FleetView, settings: PolicySettings) -> Decision | None:
    """The route of one attempt. None: nobody can take it now, or it is better to wait for a reader that is full."""
    scene = make_scene(facts, view, settings)
    if not scene.writers:
        return None
    writings = {worker.worker: write_on(worker, scene) for worker in scene.writers}
    able = {worker.worker: worker for worker in (*scene.readers, *scene.writers)}
    readings = with_lateness({ref: read_on(worker, scene) for ref, worker in able.items()}, scene)
    locals_ = _best_locals(scene, readings, writings)
    remotes = _best_remotes(scene, readings, writings)
    allowed = _allowed(scene, locals_, remotes)
    if not allowed:
        return None
    best = min(allowed, key=_rank)
    if facts.avoid.intersection((best.route.decode, best.route.prefill)):
        best = min((*locals_, *remotes), key=_rank)
    if not _has_room(best.route, readings):
        return None
    few = settings.best_few
    kept = {str(each.route): each for each in (*locals_[:few], *sorted(remotes, key=_rank)[:few], best)}
    return Decision(route=best.route, candidates=tuple(sorted(kept.values(), key=_rank)))


def choose_prefill(facts: Facts, view: FleetView, settings: PolicySettings) -> WorkerRef | None:
    """Another prefill worker for a promise that stands. None: no eligible one that has not failed this request."""
    scene = make_scene(facts, view, settings)
    able = [worker for worker in scene.readers if worker.has_room and worker.worker not in facts.avoid]
    prefills = [worker for worker in able if worker.role is Role.PREFILL] or able
    if not prefills:
        return None
    return min((read_on(worker, scene) for worker in prefills), key=_reading_rank).worker.worker


def choose_writer(facts: Facts, view: FleetView, settings: PolicySettings) -> WorkerRef | None:
    """Another decode worker for an answer whose pages are kept where it was written. None: nobody has room now."""
    scene = make_scene(facts, view, settings)
    able = [worker for worker in scene.writers if worker.worker not in facts.avoid]
    writings = [write_on(worker, scene) for worker in able]
    if not writings:
        return None
    return min(writings, key=lambda writing: _moving_rank(writing, scene)).worker.worker


def _moving_rank(writing: Writing, scene: Scene) -> tuple[float, str]:
    """What it costs to write there, and to bring the pages that are missing."""
    cost, (seconds, name) = scene.cost(writing.worker), writing.rank
    return seconds + cost.transfer_seconds(writing.missing_pages * scene.view.page_bytes), name


def _best_locals(
    scene: Scene, readings: dict[WorkerRef, Reading], writings: dict[WorkerRef, Writing]
) -> list[Candidate]:
    """Every writer reads for itself; the few best stay."""
    options = [_local(readings[worker], writing, scene) for worker, writing in writings.items()]
    return sorted(options, key=_rank)[: scene.settings.best_few]


def _best_remotes(
    scene: Scene, readings: dict[WorkerRef, Reading], writings: dict[WorkerRef, Writing]
) -> list[Candidate]:
    """The few best readers with the few best writers."""
    few = scene.settings.best_few
    readers = sorted((readings[worker.worker] for worker in scene.readers), key=_reading_rank)[:few]
    writers = sorted(writings.values(), key=_writing_rank)[:few]
    return [
        _remote(reading, writing, readings[writing.worker.worker], scene)
        for reading in readers
        for writing in writers
        if reading.worker.worker != writing.worker.worker
    ]


def _allowed(scene: Scene, locals_: list[Candidate], remotes: list[Candidate]) -> list[Candidate]:
    """Costs decide, unless the settings fix a border or a kind of route. Without readers, local is all there is."""
    settings, facts = scene.settings, scene.facts
    if not scene.readers:
        return locals_
    if settings.routes is Routes.LOCAL:
        return locals_
    if settings.routes is Routes.REMOTE:
        return remotes
    if settings.local_prompt_tokens is None:
        return [*locals_, *remotes]
    border = settings.local_prompt_tokens
    short = [option for option in locals_ if facts.uncached_tokens(option.route.decode.worker) <= border]
    return short or remotes


def _has_room(route: Route, readings: dict[WorkerRef, Reading]) -> bool:
    """The cheapest reader may be one that refused a moment ago: then waiting is cheaper than every other route."""
    return route.prefill is None or readings[route.prefill].worker.has_room


def _local(reading: Reading, writing: Writing, scene: Scene) -> Candidate:
    return Candidate(
        route=Route(decode=writing.worker.worker, source=reading.source),
        terms={**reading.terms, **writing.terms},
        ttft_s=reading.seconds,
        itl_s=writing.itl_s,
        cost_source=scene.prices[reading.worker.worker][1],
    )


def _remote(reading: Reading, writing: Writing, there: Reading, scene: Scene) -> Candidate:
    terms = {
        **{f"prefill_{name}" if name in _BOTH else name: value for name, value in reading.terms.items()},
        **writing.terms,
        "hand_over": scene.settings.gap_weight * hand_over_s(reading, writing, scene),
        "displaced": displaced_s(writing, scene),
        "beside": beside_s(reading, writing, there, scene),
    }
    return Candidate(
        route=Route(decode=writing.worker.worker, prefill=reading.worker.worker, source=reading.source),
        terms=terms,
        ttft_s=reading.seconds,
        itl_s=writing.itl_s,
        cost_source=scene.prices[reading.worker.worker][1],
    )


_BOTH = ("young", "silent", "avoid")
"""Terms that a reader and a writer both have; on one worker they count once."""


def _rank(candidate: Candidate) -> tuple[float, str, str]:
    return candidate.rank


def _reading_rank(reading: Reading) -> tuple[float, str]:
    return reading.rank


def _writing_rank(writing: Writing) -> tuple[float, str]:
    return writing.rank
