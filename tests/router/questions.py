"""Questions to the policy, made at random from a seed: fleets of every shape, with and without timings."""

import random

from common.core.cost.model import DEFAULT, CostModel
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.request import Priority
from common.core.worker import LoadReport, PageCounts, Role
from services.router.classify import Facts
from services.router.view import FleetView, WorkerView


def cost(rng: random.Random) -> CostModel | None:
    """Fitted timings of some machine, or none."""
    if rng.random() < 0.3:
        return None
    names = ("step_s", "extend_token_s", "extend_pair_s", "decode_row_s", "decode_context_s", "transfer_s")
    parts = {name: getattr(DEFAULT, name) * rng.lognormvariate(-1.0, 1.0) for name in names}
    return CostModel(
        **parts,
        transfer_byte_s=rng.random() * 1e-8,
        num_steps=rng.choice((3, 100, 100_000)),
        age_s=rng.choice((0.0, rng.random() * 10, 5000.0)),
        error=rng.random(),
    )


def worker(rng: random.Random, number: int) -> WorkerView:
    parts = [rng.randint(0, 2000) for _ in range(4)]
    pages = PageCounts(total=sum(parts), free=parts[0], promised=parts[1], referenced=parts[2], cached=parts[3])
    load = LoadReport(
        pages=pages,
        waiting_requests=rng.randint(0, 5),
        waiting_tokens=rng.choice((0, rng.randint(0, 100_000))),
        running_sequences=rng.randint(0, 40),
        cost=cost(rng),
        max_sequences=rng.choice((0, 64)),
        context_tokens=rng.randint(0, 100_000),
    )
    return WorkerView(
        worker=WorkerRef(WorkerId(f"w{number:02d}"), Epoch(rng.getrandbits(63)), f"host-{number}:1"),
        role=rng.choice(tuple(Role)),
        is_eligible=rng.random() < 0.9,
        has_room=rng.random() < 0.9,
        load=load,
        age_s=rng.random() * 30,
        silent_s=rng.random() * 2,
        in_flight=rng.randint(0, 20),
        sent_tokens=rng.randint(0, 9000),
        sent_pages=rng.randint(0, 300),
        sent_sequences=rng.randint(0, 3),
        pending_tokens=rng.randint(0, 9000),
        recent_tokens=rng.random() * 1e5,
        recent_at=rng.random() * 100,
        pool=rng.choice(("", "", "", "batch")),
        is_dual=rng.random() < 0.3,
    )


def question(rng: random.Random) -> tuple[Facts, FleetView]:
    workers = tuple(worker(rng, number) for number in range(rng.randint(0, 8)))
    hits = {each.worker.worker: rng.randint(0, 9000) for each in workers if rng.random() < 0.5}
    facts = Facts(
        context_tokens=rng.randint(1, 8000),
        num_choices=rng.randint(1, 3),
        page_size=16,
        hits=hits,
        avoid=frozenset(each.worker for each in workers if rng.random() < 0.05),
        priority=rng.choice(tuple(Priority)),
        max_tokens=rng.randint(0, 500),
        answer_tokens=rng.choice((0, rng.randint(1, 2000))),
    )
    view = FleetView(
        workers=workers, now=100.0 + rng.random(), page_bytes=rng.choice((0, 65_536)), can_fetch=rng.random() < 0.3
    )
    return facts, view
