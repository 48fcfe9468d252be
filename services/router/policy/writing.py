"""What it costs to let a worker write the answer, and to bring it the pages of another."""

from dataclasses import dataclass

from services.router.policy.balance import alone_token_s, beside_token_s
from services.router.policy.reading import Reading
from services.router.policy.scene import Scene
from services.router.policy.settings import Routes
from services.router.recent import RECENT_S
from services.router.view import WorkerView


@dataclass(frozen=True, slots=True)
class Writing:
    """`itl_s`: time between the request's own tokens."""

    worker: WorkerView
    terms: dict[str, float]
    itl_s: float
    missing_pages: int

    @property
    def rank(self) -> tuple[float, str]:
        return sum(self.terms.values()), self.worker.worker.worker


def write_on(worker: WorkerView, scene: Scene) -> Writing:
    """The answer's own tokens, what one more answer costs the others, and how full the pool becomes."""
    facts, settings, cost = scene.facts, scene.settings, scene.cost(worker)
    running, new = worker.num_sequences, facts.num_choices
    context = worker.context_tokens(facts.page_size)
    step_s = cost.decode_step_seconds(running + new, context + new * facts.context_tokens)
    added_s = new * (cost.decode_row_s + cost.decode_context_s * facts.context_tokens)
    weight = settings.write_weight * scene.answer_tokens
    used = _used_share(worker, scene)
    terms = {
        "write": weight * step_s,
        "crowd": weight * running * added_s,
        "slows": settings.slows_weight * scene.usual_waiting * scene.congestion * lost_reading_s(worker, step_s, scene),
        "full": used * used * settings.full_s,
        **scene.shared_s(worker),
    }
    held_pages = facts.cached_tokens(worker.worker.worker) // facts.page_size
    return Writing(worker=worker, terms=terms, itl_s=step_s, missing_pages=facts.num_pages - held_pages)


def lost_reading_s(worker: WorkerView, step_s: float, scene: Scene) -> float:
    """Reading that the worker does not get done because it writes one answer more.

    Everybody who waits for readers waits so much longer: where many do, answers gather on few workers, and the others
    read at full speed; where nobody does, they are written where it suits them. Where all read what they answer, nobody
    reads instead.
    """
    settings, cost = scene.settings, scene.cost(worker)
    if settings.routes is Routes.LOCAL:
        return 0.0
    share = min(cost.extend_token_s * worker.recent(scene.view.now) / RECENT_S, 1.0)
    lasts_s = scene.writing_tokens * (step_s + share * max(settings.extend_itl_s - step_s, 0.0))
    return share * lasts_s * lost_share(worker, scene)


def lost_share(worker: WorkerView, scene: Scene) -> float:
    """Of reading beside one answer more.

    Beside answers prompts are read in smaller chunks, so that each token costs more, however many answers there are. Of
    k and this one, each is the last to end with probability 1 / (k + 1): for so much of its time nobody else would slow
    reading there.
    """
    settings, cost = scene.settings, scene.cost(worker)
    row_s = cost.decode_row_s + cost.decode_context_s * scene.facts.context_tokens
    alone_s = alone_token_s(cost, settings.idle_extend_tokens)
    beside_s = beside_token_s(cost, settings, decode_step_s=cost.step_s + row_s)
    if beside_s <= alone_s:
        return 0.0
    return (1.0 - alone_s / beside_s) / (worker.num_answers + 1)


def hand_over_s(reading: Reading, writing: Writing, scene: Scene) -> float:
    """From the first token to the second one's step: the writer's step that is under way, and what of the transfer does
    not hide behind the reading. Pages travel while later chunks are read; the last chunk's pages cannot.
    """
    cost, facts = scene.cost(reading.worker), scene.facts
    page_s = cost.transfer_byte_s * scene.view.page_bytes
    last_pages = min(writing.missing_pages, -(-scene.settings.prefill_chunk_tokens // facts.page_size))
    step_s = max(writing.itl_s, scene.settings.extend_itl_s if writing.worker.backlog_tokens else 0.0)
    return step_s + cost.transfer_s + max(writing.missing_pages * page_s - reading.read_s, last_pages * page_s)


def displaced_s(writing: Writing, scene: Scene) -> float:
    """Pages that arrive push cached ones out, and some of those would have been hits. Reading does the same wherever it
    happens; arriving elsewhere does it a second time."""
    worker, facts, cost = writing.worker, scene.facts, scene.cost(writing.worker)
    free = max(worker.load.pages.free - worker.sent_pages, 0)
    evicted_tokens = max(writing.missing_pages - free, 0) * facts.page_size
    return scene.settings.reuse_share * cost.extend_seconds(evicted_tokens) * scene.congestion


def _used_share(worker: WorkerView, scene: Scene) -> float:
    """Pages in use once the request is here and every answer has grown by half of what it may still become."""
    facts, total = scene.facts, max(worker.load.pages.total, 1)
    growth = scene.answer_tokens * (worker.num_sequences / 2 + facts.num_choices) / facts.page_size
    return min(1.0 - (worker.available_pages - facts.num_pages - growth) / total, 2.0)
